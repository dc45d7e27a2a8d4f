"""The process around one contestant: reads one request a line, answers one line, both JSON.

    {"do": "prepare", "builder": "module:class", "workload": …, "options": {…}, "threads": 2}
        → {"imported_bytes": …}                  resident memory when the libraries were loaded and nothing was built
    {"do": "block", "first": 24, "steps": 8}
        → {"seconds": …, "values": [first, last]}    wall time of these steps; what the first and the last returned
    {"do": "settle"}   → {}                      forget the peak of memory reached so far
    {"do": "facts"}    → {"peak_bytes": …, "settled_peak_bytes": …, …}

A request that fails is answered `{"failed": "…"}`; the end of the input ends the process. Whatever a library prints
goes to standard error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from mini_bert.machine import peak_bytes, resident_bytes


class Runner(Protocol):
    """What a builder returns."""

    def step(self, number: int) -> float:
        """Do the work once; `number` says on which input. Returns the loss, or whatever tells that it was done."""

    def facts(self) -> dict[str, Any]:
        """Versions and settings, for the record."""


class Unavailable(Exception):
    """This contestant cannot take part here; the message says why."""


class Worker:
    """Answers requests about one runner."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._peak_before_settling = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        return getattr(self, f"_{request.pop('do')}")(**request)

    def _prepare(
        self, builder: str, workload: dict[str, Any], options: dict[str, Any], threads: int, libraries: list[str]
    ) -> dict[str, Any]:
        from mini_bert.benchmarks.workload import Workload

        for library in libraries:
            import_module(library)
        module, _, name = builder.partition(":")
        build = getattr(import_module(module), name)
        gc.collect()
        imported = resident_bytes() or 0
        self._runner = build(Workload(**workload), options, threads)
        return {"imported_bytes": imported}

    def _block(self, first: int, steps: int) -> dict[str, Any]:
        assert self._runner is not None, "prepare comes first"
        values = []
        start = time.perf_counter()
        for number in range(first, first + steps):
            values.append(self._runner.step(number))
        return {"seconds": time.perf_counter() - start, "values": [values[0], values[-1]]}

    def _settle(self) -> dict[str, Any]:
        self._peak_before_settling = peak_bytes() or 0
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM := VmRSS
        return {}

    def _facts(self) -> dict[str, Any]:
        assert self._runner is not None, "prepare comes first"
        settled = peak_bytes() or 0
        peak = max(settled, self._peak_before_settling)
        return {"peak_bytes": peak, "settled_peak_bytes": settled, **self._runner.facts()}


def main() -> None:
    """Answer requests until the end of the input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print; the protocol keeps its own line
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Unavailable as reason:
            answer = {"failed": str(reason)}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), file=answers, flush=True)
