"""Train jobs, several at a time and in whatever other processes take part, until all of them are done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mini_bert.studies import worker
from mini_bert.studies.keys import key_of_piece
from mini_bert.studies.queue import Queue
from mini_bert.studies.result import Trial
from mini_bert.studies.session import Session, Status
from mini_bert.studies.workers import Workers, steps_done
from mini_bert.training.stop_signals import StopSignals

SECONDS_BETWEEN_LOOKS = 0.25


def until_done(
    session: Session, pool: Workers, stop: StopSignals, queue_name: str, jobs: Sequence[Mapping[str, Any]]
) -> None:
    """Train the jobs that are not finished, here and in whatever other process takes part.

    Raises:
        DataError: no process can be started.
        StorageError: what is found cannot be written.
    """
    queue = Queue(session.folder / worker.QUEUE, queue_name)
    session.collect()
    missing = {job["key"]: job for job in jobs if job["key"] not in session.finished()}
    queue.take_back_stale(forgive=True)
    session.write([trial for trial in session.result.trials if trial.key not in missing])
    _let_wait(session, queue, missing)
    teller = _Teller(session, queue, jobs, missing)
    teller.tell()
    next_tell = time.monotonic()
    while missing and stop.received is None:
        pool.fill(queue_name, len(queue.waiting()), queue.running())
        if pool.wait(SECONDS_BETWEEN_LOOKS):
            _give_up(session, queue)
        ended = session.collect()
        for untold, trial in zip(reversed(range(len(ended))), ended, strict=True):
            session.ended_now.add(trial.key)
            missing.pop(trial.key, None)
            teller.tell(trial, untold)
        if missing and not pool.active and not queue.waiting() and not queue.running():
            _give_up(session, queue)
            _let_wait(session, queue, missing)  # taken by a process that went away without a word
        if time.monotonic() > next_tell:
            teller.tell()
            next_tell = time.monotonic() + 2
    pool.stop(interrupt=stop.received is not None)
    for trial in session.collect():
        session.ended_now.add(trial.key)


def _let_wait(session: Session, queue: Queue, missing: Mapping[str, Mapping[str, Any]]) -> None:
    there = queue.keys()  # before the files: who ends meanwhile writes what was found, and leaves the queue then
    for key, job in missing.items():
        if key not in there and not worker.has_ended_well(session.folder, key):
            (session.folder / worker.TRIALS / f"{key}.json").unlink(missing_ok=True)
            queue.add(job)


def _give_up(session: Session, queue: Queue) -> None:
    for job in queue.take_back_stale():
        worker.written(session.folder, worker.ended(job, "failed", "Its process was killed several times."))


class _Teller:
    """Says how far the jobs are, and the time left at the speed of this session: steps times the clock's ratio."""

    def __init__(
        self, session: Session, queue: Queue, jobs: Sequence[Mapping[str, Any]], missing: Iterable[str]
    ) -> None:
        self._session, self._queue, self._jobs = session, queue, jobs
        self._work = {job["key"]: _work_of(session, job) for job in jobs}
        self._first_steps = {job["key"]: steps_done(session.folder, job) for job in jobs if job["key"] in set(missing)}
        self._begun = time.monotonic()

    def tell(self, finished: Trial | None = None, untold: int = 0) -> None:
        """`untold` are trials that are over and whose own report is still to come: they do not count as done yet."""
        over = self._session.finished()
        under_way = {job["key"] for job in self._queue.running().values()}
        done = left = 0.0
        running = []
        for job in self._jobs:
            key, steps = job["key"], job["steps"]
            at = steps if key in over else steps_done(self._session.folder, job)
            if key in self._first_steps:
                done += self._work[key] * (at - self._first_steps[key]) / steps
            left += self._work[key] * (steps - at) / steps
            if key in under_way and key not in over:
                running.append(f"{job['piece']}, seed {job['seed']}, step {at:,} of {steps:,}")
        speed = done / max(time.monotonic() - self._begun, 1e-9)
        total_done = sum(job["key"] in over for job in self._jobs) - untold
        seconds_left = left / speed if speed > 0 else None
        self._session.report(Status(total_done, len(self._jobs), tuple(running), seconds_left, finished))


def _work_of(session: Session, job: Mapping[str, Any]) -> float:
    clock = session.result.clock
    ratio = clock and clock.ratio(key_of_piece(session.study, job["settings"]))
    return float(job["steps"] * (ratio or 1.0))
