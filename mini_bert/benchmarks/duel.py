"""Contestants in alternating blocks: A B C A B C A B C, each in a process of its own, one working at a time.

A machine is never twice equally fast: another process, the temperature, the clock. Blocks that lie side by side in
time see the same machine, so it is their ratio, round by round, that is reported, and not the ratio of two runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from mini_bert.benchmarks.result import Contest, Entry
from mini_bert.benchmarks.workload import Workload

_LEFT_TO_THE_CONTESTANT = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "ONEDNN_", "TORCH", "LD_PRELOAD")
"""Beginnings of the variables by which the surrounding shell would decide for a contestant; none is handed on."""


@dataclass(frozen=True)
class Contestant:
    """Who takes part, and how its process is set up."""

    name: str
    """short, for results and pictures"""
    title: str
    """one line of a table"""
    builder: str
    """`module:class`, called with (workload, options, threads)"""
    options: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ()
    """options to choose among: the fastest in a trial takes part; without trials, the first"""
    environment: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    """imported before memory is counted"""
    threads: int | None = None
    """where it is not what all the others get"""
    rival: bool = False
    """whether it counts in `fastest PyTorch`"""
    dtype: str = "float32"


class WorkerProcess:
    """A contestant's process; a context manager. A failure is kept in `failure`, and nothing more is asked of it."""

    def __init__(self, contestant: Contestant, workload: Workload, threads: int) -> None:
        self.contestant = contestant
        self.failure = ""
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from mini_bert.benchmarks.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_environment(contestant),
        )
        self.imported_bytes = self.ask(
            "prepare",
            builder=contestant.builder,
            workload=asdict(workload),
            options=dict(contestant.options),
            threads=contestant.threads or threads,
            libraries=list(contestant.libraries),
        ).get("imported_bytes", 0)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for the answer; {} where this contestant has failed."""
        if self.failure:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"failed": f"its process ended: {self._last_words()}"}
        self.failure = answer.get("failed", "")
        return {} if self.failure else answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self._process.returncode}"

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # the end of its input is its sign to stop
        try:
            self._process.wait(timeout=10 if error is None else 1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def alternate(
    contestants: Sequence[Contestant],
    workload: Workload | Sequence[Workload],
    *,
    threads: int,
    warm_up: int,
    rounds: int,
    steps: int,
    report: Callable[[str], None] = lambda message: None,
) -> Contest:
    """`warm_up` steps of each, then `rounds` times a block of `steps` steps of each, in turn.

    One workload is everybody's; of several, each contestant has its own.
    """
    workloads = [workload] * len(contestants) if isinstance(workload, Workload) else workload
    workers: list[WorkerProcess] = []
    try:
        for contestant, work in zip(contestants, workloads, strict=True):
            report(f"start {contestant.title}")
            workers.append(WorkerProcess(contestant, work, threads))
        first_values = []
        for worker in workers:
            report(f"warm up {worker.contestant.title}")
            first_values.append(worker.ask("block", first=0, steps=warm_up).get("values", [None])[0])
            worker.ask("settle")
        seconds: list[list[float]] = [[] for _ in workers]
        last_values: list[float | None] = [None for _ in workers]
        for number in range(rounds):
            for index, worker in enumerate(workers):
                report(f"round {number + 1} of {rounds}: {worker.contestant.title}")
                answer = worker.ask("block", first=warm_up + number * steps, steps=steps)
                if answer:
                    seconds[index].append(answer["seconds"] / steps)
                    last_values[index] = answer["values"][-1]
        facts = [worker.ask("facts") for worker in workers]
        return Contest(
            warm_up=warm_up,
            steps=steps,
            entries=[
                Entry(
                    name=worker.contestant.name,
                    title=worker.contestant.title,
                    dtype=worker.contestant.dtype,
                    rival=worker.contestant.rival,
                    options=dict(worker.contestant.options),
                    environment=dict(worker.contestant.environment),
                    failure=worker.failure,
                    seconds=block if not worker.failure else [],
                    first_value=first,
                    last_value=last,
                    imported_bytes=worker.imported_bytes,
                    peak_bytes=fact.pop("peak_bytes", 0),
                    settled_peak_bytes=fact.pop("settled_peak_bytes", 0),
                    facts=fact,
                )
                for worker, block, first, last, fact in zip(
                    workers, seconds, first_values, last_values, facts, strict=True
                )
            ],
        )
    finally:
        error = sys.exc_info()
        for worker in workers:
            worker.__exit__(*error)


def qualify(
    contestant: Contestant,
    workload: Workload,
    *,
    threads: int,
    steps: int = 6,
    report: Callable[[str], None] = lambda message: None,
) -> tuple[Contestant, dict[str, float]]:
    """The contestant with the fastest of its variants, and the seconds a step of all that ran."""
    trials: dict[str, float] = {}
    best, least = replace(contestant, options={**contestant.options, **contestant.variants[0]}), float("inf")
    for variant in contestant.variants:
        label = ", ".join(f"{key} {value}" for key, value in variant.items())
        report(f"try {contestant.title}: {label}")
        tried = replace(contestant, options={**contestant.options, **variant})
        with WorkerProcess(tried, workload, threads) as worker:
            worker.ask("block", first=0, steps=max(steps, workload.batches))
            blocks = [worker.ask("block", first=0, steps=steps).get("seconds") for _ in range(3)]
        if worker.failure:
            continue
        trials[label] = min(block for block in blocks if block is not None) / steps
        if trials[label] < least:
            best, least = tried, trials[label]
    return best, trials


def _environment(contestant: Contestant) -> dict[str, str]:
    """The surrounding environment, without what would decide for the contestant, and with what it asks for itself."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_LEFT_TO_THE_CONTESTANT)}
    package = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH", "")]))
    return environment | dict(contestant.environment)
