"""Contestants whose behaviour is known; imported by name in worker processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.benchmarks.worker import Unavailable


class Fake:
    """Writes down what it is asked; options say what else it does."""

    def __init__(self, workload: Any, options: dict[str, Any], threads: int) -> None:
        if options.get("unavailable"):
            raise Unavailable("it needs a tool that is not there")
        if options.get("broken"):
            raise ValueError("cannot be built\nat all")
        print("noise on standard output")
        self._options = options
        self._threads = threads
        self._kept = np.ones(options.get("megabytes", 0) * 1_000_000 // 8)

    def step(self, number: int) -> float:
        if number == self._options.get("dies_at"):
            print("noise")
            os._exit(7)
        if number == self._options.get("raises_at"):
            raise ArithmeticError("not finite")
        if "log" in self._options:
            with Path(self._options["log"]).open("a", encoding="utf-8") as log:
                log.write(f"{self._options['name']}{number} ")
        sum(range(self._options.get("work", 0)))
        return 100.0 + number

    def facts(self) -> dict[str, Any]:
        return {"threads": self._threads, "kernel": os.environ.get("OPENBLAS_CORETYPE", "none")}
