from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mini_bert.benchmarks.contestants import EMBEDDING_GRADIENT
from mini_bert.benchmarks.duel import Contestant
from mini_bert.benchmarks.result import BenchmarkResult, ColdStart, Contest, Entry, Floor, Machine, Scaling
from mini_bert.benchmarks.workload import Workload
from mini_bert.config.schema import ModelConfig

HERE = Path(__file__).parent


@pytest.fixture
def no_workload() -> Workload:
    return Workload(folder="", rows=1, tokens=1, batches=1, seed=0, lr=0.0, shape={}, model="")


@pytest.fixture
def fake() -> Any:
    def contestant(
        name: str, *, environment: dict[str, str] | None = None, variants: Any = (), **options: Any
    ) -> Contestant:
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        return Contestant(
            name,
            f"fake {name}",
            "fake_contestant:Fake",
            {"name": name, **options},
            variants=variants,
            environment={"PYTHONPATH": path, **(environment or {})},
        )

    return contestant


def entry(name: str, seconds: list[float], **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "title": f"the {name}",
        "dtype": "float32",
        "rival": False,
        "options": {},
        "environment": {},
        "failure": "",
        "first_value": 9.07,
        "last_value": 8.5,
        "imported_bytes": 40_000_000,
        "peak_bytes": 250_000_000,
        "settled_peak_bytes": 240_000_000,
        "facts": {},
    }
    return Entry(name=name, seconds=seconds, **(known | fields))


@pytest.fixture
def result() -> BenchmarkResult:
    """A result with round numbers: 4,096 tokens a step, ours 0.1 s, the floor 0.08 s."""
    torch = {"rival": True, "peak_bytes": 500_000_000, "imported_bytes": 200_000_000}
    training = Contest(
        warm_up=8,
        steps=4,
        entries=[
            entry("ours", [0.1, 0.1, 0.2], facts={"blas": "openblas"}),
            entry("sgemm", [0.02, 0.02, 0.02]),
            entry("transformers", [0.4, 0.5, 0.6], **torch | {"peak_bytes": 1_200_000_000}),
            entry("torch", [0.2, 0.2, 0.4], **torch),
            entry("torch-bf16", [0.09, 0.09, 0.18], dtype="bfloat16", **torch),
            entry("torch-compiled", [], failure="torch.compile needs a C++ compiler", **torch),
        ],
        trials={"torch": {"attention sdpa": 0.21, "attention plain": 0.22}},
    )
    return BenchmarkResult(
        machine=Machine(
            processor="Test Processor",
            cores=2,
            threads=2,
            bfloat16=True,
            system="Linux",
            blas="openblas 0.3 SkylakeX",
            shell_blas_kernel="Haswell",
            versions={"numpy": "2.4"},
            date="2026-01-01 00:00 UTC",
            load_before=0.1,
            load_after=2.0,
        ),
        rows=64,
        tokens=64,
        masked=600.0,
        shape=ModelConfig().model_dump(mode="json"),
        quick=True,
        training=training,
        floor=Floor(gflop=32.0, gflop_all_rows=40.0, gflop_per_second=[400.0, 400.0, 320.0]),
        threads=Contest(warm_up=1, steps=1, entries=[entry("1", [0.19]), entry("2", [0.1])]),
        scaling=Scaling(tokens=[1000, 2000, 4000], seconds=[[0.03], [0.06, 0.06], [0.11, 0.12, 0.13]]),
        inference=Contest(warm_up=1, steps=1, entries=[entry("ours", [0.001]), entry("torch", [0.003], rival=True)]),
        embedding_gradient=Contest(
            warm_up=1,
            steps=1,
            entries=[entry(way.name, [0.001 * (i + 1)], title=way.title) for i, way in enumerate(EMBEDDING_GRADIENT)],
        ),
        cold_start=[
            ColdStart(name="mini_bert", title="import mini_bert", seconds=[0.03, 0.04]),
            ColdStart(name="fill-mask", title="mini-bert fill-mask", seconds=[]),
        ],
    )
