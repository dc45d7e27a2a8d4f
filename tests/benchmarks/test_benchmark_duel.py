from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mini_bert.benchmarks import mkl_avx512
from mini_bert.benchmarks.contestants import TORCH_TRAINING, beyond
from mini_bert.benchmarks.duel import alternate, qualify
from mini_bert.benchmarks.workload import Workload


def test_blocks_alternate_and_every_contestant_sees_the_same_steps(
    fake: Any, no_workload: Workload, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    contest = alternate(
        [fake("a", log=str(log)), fake("b", log=str(log))], no_workload, threads=3, warm_up=1, rounds=2, steps=2
    )
    assert log.read_text(encoding="utf-8").split() == ["a0", "b0", "a1", "a2", "b1", "b2", "a3", "a4", "b3", "b4"]
    for entry in contest.entries:
        assert len(entry.seconds) == 2
        assert min(entry.seconds) > 0
        assert (entry.first_value, entry.last_value) == (100.0, 104.0)
        assert entry.facts["threads"] == 3


def test_a_contestant_that_fails_says_why_and_the_others_go_on(fake: Any, no_workload: Workload) -> None:
    contestants = [
        fake("unavailable", unavailable=True),
        fake("broken", broken=True),
        fake("raises", raises_at=2),
        fake("dies", dies_at=2),
        fake("fine"),
    ]
    contest = alternate(contestants, no_workload, threads=1, warm_up=1, rounds=2, steps=1)
    failures = {entry.name: entry.failure for entry in contest.entries}
    assert failures["unavailable"] == "it needs a tool that is not there"
    assert failures["broken"] == "ValueError: cannot be built"
    assert failures["raises"] == "ArithmeticError: not finite"
    assert failures["dies"].startswith("its process ended")
    assert [entry.name for entry in contest.finished()] == ["fine"]
    assert len(contest.entry("fine").seconds) == 2


def test_the_shell_does_not_decide_for_a_contestant(
    fake: Any, no_workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    contestants = [fake("plain"), fake("asked", environment={"OPENBLAS_CORETYPE": "Haswell"})]
    contest = alternate(contestants, no_workload, threads=1, warm_up=1, rounds=1, steps=1)
    assert contest.entry("plain").facts["kernel"] != "Nehalem"
    assert contest.entry("asked").facts["kernel"] == "Haswell"


def test_memory_is_counted_from_the_imported_libraries_on(fake: Any, no_workload: Workload) -> None:
    contestants = [fake("small"), fake("large", megabytes=200)]
    contest = alternate(contestants, no_workload, threads=1, warm_up=1, rounds=1, steps=1)
    small, large = contest.entries
    assert small.imported_bytes > 1_000_000
    assert large.peak_bytes - large.imported_bytes >= 200_000_000
    assert large.peak_bytes >= large.settled_peak_bytes >= 200_000_000
    assert small.peak_bytes < small.imported_bytes + 100_000_000


def test_the_fastest_variant_takes_part(fake: Any, no_workload: Workload) -> None:
    variants = ({"work": 3_000_000}, {"work": 0}, {"broken": True})
    chosen, trials = qualify(fake("a", variants=variants), no_workload, threads=1, steps=1)
    assert chosen.options == {"name": "a", "work": 0}
    assert set(trials) == {"work 3000000", "work 0"}


AMD = {"vendor_id": "AuthenticAMD", "flags": "avx2 avx512f"}


@pytest.mark.parametrize("processor", [AMD | {"vendor_id": "GenuineIntel"}, AMD | {"flags": "avx2"}, {}])
def test_mkl_is_left_alone_where_it_uses_what_there_is(processor: dict[str, str], tmp_path: Path) -> None:
    assert mkl_avx512.environment(tmp_path, processor) is None
    assert [contestant.name for contestant in beyond(None)] == ["torch-compiled-last-block"]


def test_without_a_compiler_mkl_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert mkl_avx512.environment(tmp_path, AMD) is None


def test_contestants_beyond_the_comparison_do_not_count() -> None:
    shown = beyond({"LD_PRELOAD": "some.so"})
    assert len(shown) == 3
    assert not any(contestant.rival for contestant in shown)
    assert [contestant.environment.get("LD_PRELOAD") for contestant in shown] == [None, "some.so", "some.so"]
    assert all(contestant.rival for contestant in TORCH_TRAINING)
