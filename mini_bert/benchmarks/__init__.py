"""How fast is it, beside the others? Every contestant in a process of its own, in alternating blocks of one run.

Reading order: `workload` (what is computed), `contestants` (who computes it), `numpy_contestants`, `torch_bert` and
`torch_contestants` (how), `worker` (the process around one of them), `duel` (the alternation), `floor` (what the
arithmetic alone costs), `cold_start`, `suite` (all of it), `result`, `tables`, `picture`.

Docs: docs/guide/speed.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.benchmarks.result import BenchmarkResult
    from mini_bert.benchmarks.suite import run_benchmark
    from mini_bert.benchmarks.tables import render

__all__ = ["BenchmarkResult", "render", "run_benchmark"]


def __getattr__(name: str) -> Any:
    """Load on demand: a worker process imports this package and must stay small."""
    from importlib import import_module

    home = {"BenchmarkResult": "result", "run_benchmark": "suite", "render": "tables"}
    if name not in home:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home[name]}"), name)
