"""The processes that train a study's trials: so many at once, each for one trial; an interrupt ends them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mini_bert.errors import DataError
from mini_bert.machine import ONE_BLAS_THREAD
from mini_bert.studies import worker
from mini_bert.training.metrics_log import FILE_NAME, search_metrics

_MOST_FAILURES = 3
"""Processes in a row that end by an error without having taken a trial."""
_LOG = "processes.log"


class Workers:
    """At most `most` processes at once.

    Fields: `active`, those that run.
    """

    def __init__(self, folder: Path, most: int, threads: int) -> None:
        self.active: list[subprocess.Popen[bytes]] = []
        self._folder, self._most, self._threads = folder, most, threads
        self._failures = 0
        self._claimed: set[int] = set()

    def fill(self, queue_name: str, waiting: int, running: Mapping[int, object]) -> None:
        """Start as many as there is work for.

        Args:
            queue_name: what they take trials from.
            waiting: trials that nobody has taken yet.
            running: process → trial of those that are being trained, here or elsewhere.
        """
        self._claimed |= set(running)
        unclaimed = sum(process.pid not in self._claimed for process in self.active)
        for _ in range(min(self._most - len(self.active), waiting - unclaimed)):
            with (self._folder / _LOG).open("ab") as log:
                self.active.append(
                    subprocess.Popen(
                        [sys.executable, "-m", worker.__name__, str(self._folder), queue_name, str(self._threads)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env={**os.environ, **ONE_BLAS_THREAD, "PYTHONPATH": _with_this_package()},
                        start_new_session=True,  # Ctrl-C comes to them once, from here
                    )
                )

    def wait(self, seconds: float) -> bool:
        """Wait a little; whether a process ended.

        Raises:
            DataError: process after process ends before it has taken a trial.
        """
        if not self.active:
            time.sleep(seconds)
            return False
        with suppress(subprocess.TimeoutExpired):
            self.active[0].wait(seconds)
        ended = [process for process in self.active if process.poll() is not None]
        self.active = [process for process in self.active if process.poll() is None]
        for process in ended:
            self._failures = self._failures + 1 if process.returncode == 1 else 0
        if self._failures >= _MOST_FAILURES:
            self.stop(interrupt=True)
            raise DataError(
                str(self._folder / _LOG),
                got=f"{self._failures} processes that ended by an error: {_last_line(self._folder / _LOG)}",
                expected="processes that train",
            )
        return bool(ended)

    def stop(self, *, interrupt: bool) -> None:
        """Wait until all have ended; with `interrupt`, after the step that they are in. A second Ctrl-C kills them."""
        try:
            for process in self.active:
                if interrupt:
                    process.send_signal(signal.SIGINT)
            for process in self.active:
                process.wait()
        except KeyboardInterrupt:
            for process in self.active:
                process.kill()
                process.wait()
            raise
        finally:
            self.active = []


def steps_done(folder: Path, job: Mapping[str, Any]) -> int:
    """How far a trial's run is, by its log."""
    path = folder / worker.RUNS / str(job["run_name"]) / FILE_NAME
    try:
        records = search_metrics(path).records
    except DataError:
        return 0
    return min(int(records[-1].get("step", 0)), int(job["steps"])) if records else 0


def _with_this_package() -> str:
    package = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
