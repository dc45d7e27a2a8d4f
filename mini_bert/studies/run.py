"""A study from its file to its result: the clock, the weights to begin from, then every trial, several at a time.

    FOLDER/<name>/queue.log      Optuna's journal: who trains what
    FOLDER/<name>/runs/          the trials' runs; checkpoints are removed when a trial is over
    FOLDER/<name>/trials/        what each trial found, written by its process
    FOLDER/<name>/processes.log  what the trials' processes said
    RESULT                       all of it, written anew after each trial

Stop it anywhere, kill any of its processes, or start it twice: what is finished stays, what is missing is trained, and
what was under way goes on from its newest checkpoint.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mini_bert.atomic_files import make_folder, replace_file, require_place
from mini_bert.config.no_effect import without_effect
from mini_bert.data.tokens import open_tokens
from mini_bert.data.work import Progress
from mini_bert.errors import DataError
from mini_bert.machine import available_cores
from mini_bert.studies import plan, worker
from mini_bert.studies.clock import read_clock, steps_of
from mini_bert.studies.comparison import compare
from mini_bert.studies.queue import Queue, require_optuna
from mini_bert.studies.result import StudyResult, Trial
from mini_bert.studies.schema import Measure, Study
from mini_bert.studies.workers import Workers, steps_done
from mini_bert.training.model_lookup import find_model
from mini_bert.training.stop_signals import StopSignals

_SECONDS_BETWEEN_LOOKS = 0.25


class Status(NamedTuple):
    """How far a study is."""

    done: int
    total: int
    running: tuple[str, ...]
    """Piece, seed and step of each trial under way."""
    seconds_left: float | None
    finished: Trial | None
    """The trial that has just ended."""


class Outcome(NamedTuple):
    """What is there when `run_study` comes back."""

    result: StudyResult
    signal: int | None
    """The signal that stopped it."""


@dataclass
class Session:
    """One `study run`."""

    study: Study
    folder: Path
    result_file: Path
    keep: bool
    report: Callable[[Status], None]
    result: StudyResult
    keys: set[str] | None = None
    """Of the trials that the study has now; None: not known yet"""
    begun: float = field(default_factory=time.monotonic)
    ended_now: set[str] = field(default_factory=set)
    """Keys of the trials that have ended in this session"""

    def collect(self) -> list[Trial]:
        """Take up what processes have written since; returns it, and writes the result."""
        known = {trial.key: trial for trial in self.result.trials}
        found = []
        for path in sorted((self.folder / worker.TRIALS).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            if path.stem in known and known[path.stem].status != "failed":
                continue
            try:
                trial = Trial.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue
            if self.belongs(trial) and trial != known.get(trial.key):
                found.append(trial)
                known[trial.key] = trial
        if found:
            self.write(list(known.values()))
        for trial in found:
            if not self.keep and trial.status != "failed" and trial.piece != plan.START:
                self._remove_checkpoints(trial)
        return found

    def belongs(self, trial: Trial) -> bool:
        """Whether a trial is the study's as it is now: its pieces and budget may have changed since."""
        if self.study.search and trial.piece not in plan.all_pieces(self.study) and trial.piece != plan.START:
            return True
        return self.keys is None or trial.key in self.keys

    def write(self, trials: Sequence[Trial]) -> None:
        """Write the result file with these trials."""
        self.result = self.result.model_copy(
            update={"about": self.study.question, "study": self.study.to_dict(), "trials": list(trials)}
        )
        self.result = self.result.model_copy(update={"comparison": compare(self.result)})
        self.result.write(self.result_file)

    def record(self, trial: Trial) -> None:
        """Write down a trial that its process could not."""
        make_folder(self.folder / worker.TRIALS)
        replace_file(self.folder / worker.TRIALS / f"{trial.key}.json", trial.model_dump_json(indent=1).encode())

    def finished(self) -> set[str]:
        """Keys of the trials that nobody has to train any more; those that an error ended are tried again."""
        return {trial.key for trial in self.result.trials if trial.status != "failed" or trial.key in self.ended_now}

    def _remove_checkpoints(self, trial: Trial) -> None:
        for run in (self.folder / worker.RUNS).glob(f"*-{trial.seed}-{trial.key[:8]}"):
            shutil.rmtree(run / "checkpoints", ignore_errors=True)


def run_study(
    study: Study,
    *,
    directory: Path,
    result_file: Path,
    workers: int = 1,
    threads: int | None = None,
    keep: bool = False,
    report: Callable[[Status], None] = lambda status: None,
    say: Callable[[str], None] = lambda message: None,
    progress: Progress | None = None,
) -> Outcome:
    """Do all of a study that is not done yet.

    Args:
        study: as `read_study` gives it.
        directory: where the folders of studies are.
        result_file: what is there is gone on with.
        workers: trials that are trained at once.
        threads: of each trial; None: the cores, shared out.
        keep: leave the checkpoints of finished trials.
        report: told of each trial that ends, and now and then in between.
        say: told in a sentence what else is being done.
        progress: told how far the texts are read.

    Raises:
        MissingExtraError: optuna is not installed.
        DataError: the corpus cannot be used, the result file is another study's, or no process can be started.
        ConfigError: the baseline cannot be trained.
        CheckpointError: there is no model that `start.model` names.
    """
    require_optuna()
    if study.start is not None and study.start.model is not None:
        find_model(study.start.model, argument="start.model")
    threads = threads or max(1, available_cores() // workers)
    session = opened(study, directory, result_file, keep=keep, report=report, progress=progress)
    folder = session.folder
    session.collect()
    for label, piece in plan.pieces_of(study).items():
        config = plan.config_of(study, piece.settings)
        config = config.model_copy(update={"train": config.train.model_copy(update={"steps": None})})
        for note in without_effect(config):
            say(f"{label}: {note}")
    if study.budget.minutes is not None:
        clock_study(session, say=say)
    with StopSignals() as stop:
        pool = Workers(folder, workers, threads)
        start = _start(session, stop, say, threads=threads * workers)
        if stop.received is None:
            _pieces(session, pool, stop, start, say)
        if stop.received is None and study.search:
            _search(session, pool, stop, start)
        return Outcome(session.result, stop.received)


def opened(
    study: Study,
    directory: Path,
    result_file: Path,
    *,
    keep: bool = False,
    report: Callable[[Status], None] = lambda status: None,
    progress: Progress | None = None,
) -> Session:
    """A session with what was found before, and the corpus ready for every process.

    Raises:
        DataError: the corpus cannot be used, or the result file is another study's.
    """
    require_place(result_file)
    session = Session(study, directory / study.name, result_file, keep, report, known_result(study, result_file))
    base = plan.baseline_config(study)
    open_tokens(base.data, base.tokenizer, base.model.vocab_size, progress=progress)
    return session


def clock_study(session: Session, *, threads: int | None = None, say: Callable[[str], None]) -> None:
    """Measure the pieces whose time per step is not known, and write the result.

    Raises:
        ConfigError: the baseline cannot be trained.
    """
    clock = read_clock(session.study, session.result.clock, threads=threads, report=say)
    if clock != session.result.clock:
        session.result = session.result.model_copy(update={"clock": clock})
        session.write(session.result.trials)


def known_result(study: Study, path: Path) -> StudyResult:
    """What was found before, of this study.

    Raises:
        DataError: the file holds something else.
    """
    if not path.exists():
        return StudyResult(about=study.question, study=study.to_dict())
    result = StudyResult.read(path)
    if result.study.get("name") != study.name:
        raise DataError(
            str(path), got=f"the result of {result.study.get('name')}", expected=f"that of {study.name}, or no file"
        )
    return result


def planned_trials(study: Study, result: StudyResult, start: tuple[str, str] | None) -> list[tuple[plan.Planned, Any]]:
    """All trials with their pieces' settings, seed by seed; pieces that the clock could not measure are left out."""
    trials = []
    for seed in study.seeds:
        for label, piece in plan.all_pieces(study).items():
            steps = steps_of(study, result.clock, piece.settings)
            if steps is not None:
                trials.append((plan.plan_trial(study, label, piece.settings, seed, steps, start), piece.settings))
    return trials


def _start(session: Session, stop: StopSignals, say: Callable[[str], None], *, threads: int) -> tuple[str, str] | None:
    """The weights to begin from: their path, and what names them; trained here if the study says so."""
    study = session.study
    if study.start is None:
        return None
    if study.start.model is not None:
        return str(find_model(study.start.model, argument="start.model")), study.start.model
    planned = plan.plan_start(study)
    assert planned is not None
    run = session.folder / worker.RUNS / planned.run_name
    held = (run / "checkpoints").is_dir() and any(t.key == planned.key for t in session.result.trials)
    if not held:
        say(f"Training the weights to begin from: {planned.steps:,} steps.")
        base = plan.baseline_of(study)
        job = worker.job_of(
            planned, base.settings, planned.config.to_dict(), study.model_copy(update={"measure": Measure()})
        )
        _forget(session, planned.key)
        _until_done(session, Workers(session.folder, 1, threads), stop, f"{study.name}/start", [job])
    return str(run), planned.key


def _forget(session: Session, key: str) -> None:
    """A trial whose run is gone has to be trained again."""
    (session.folder / worker.TRIALS / f"{key}.json").unlink(missing_ok=True)
    session.write([trial for trial in session.result.trials if trial.key != key])


def _set_aside(session: Session, say: Callable[[str], None]) -> None:
    """Trials of other settings or another budget leave the result, not the disk: changed back, they are there again."""
    strangers = [trial for trial in session.result.trials if not session.belongs(trial)]
    for trial in strangers:
        session.record(trial)
    if strangers:
        say(
            f"{len(strangers)} trials in {session.result_file} had other settings or another budget; they are kept in "
            f"{session.folder / worker.TRIALS}."
        )
    session.write([trial for trial in session.result.trials if session.belongs(trial)])


def _pieces(
    session: Session, pool: Workers, stop: StopSignals, start: tuple[str, str] | None, say: Callable[[str], None]
) -> None:
    study = session.study
    base = plan.baseline_config(study).to_dict()
    planned = planned_trials(study, session.result, start)
    begun_from = plan.plan_start(study)
    keys = session.keys = {trial.key for trial, _ in planned} | ({begun_from.key} if begun_from else set())
    _set_aside(session, say)
    jobs = [worker.job_of(trial, settings, base, study) for trial, settings in planned]
    _until_done(session, pool, stop, f"{study.name}/{plan.hash_of(sorted(keys))[:12]}", jobs)


def _until_done(
    session: Session, pool: Workers, stop: StopSignals, queue_name: str, jobs: Sequence[Mapping[str, Any]]
) -> None:
    """Train the jobs that are not finished, here and in whatever other process takes part."""
    queue = Queue(session.folder / worker.QUEUE, queue_name)
    session.collect()
    missing = {job["key"]: job for job in jobs if job["key"] not in session.finished()}
    _give_up(session, queue)
    session.write([trial for trial in session.result.trials if trial.key not in missing])
    there = {job["key"] for job in [*queue.waiting(), *queue.running().values()]}
    for key, job in missing.items():
        if key not in there:
            (session.folder / worker.TRIALS / f"{key}.json").unlink(missing_ok=True)
            queue.add(job)
    session.begun = time.monotonic()
    first_steps = {key: steps_done(session.folder, job) for key, job in missing.items()}
    _tell(session, queue, jobs, first_steps, None)
    next_tell = time.monotonic()
    while missing and stop.received is None:
        pool.fill(queue_name, len(queue.waiting()), queue.running())
        if pool.wait(_SECONDS_BETWEEN_LOOKS):
            _give_up(session, queue)
        ended = session.collect()
        for untold, trial in zip(reversed(range(len(ended))), ended, strict=True):
            session.ended_now.add(trial.key)
            missing.pop(trial.key, None)
            _tell(session, queue, jobs, first_steps, trial, untold)
        if missing and not pool.active and not queue.waiting() and not queue.running():
            for job in missing.values():  # taken by a process that went away without a word
                queue.add(job)
        if time.monotonic() > next_tell:
            _tell(session, queue, jobs, first_steps, None)
            next_tell = time.monotonic() + 2
    pool.stop(interrupt=stop.received is not None)
    for trial in session.collect():
        session.ended_now.add(trial.key)


def _give_up(session: Session, queue: Queue) -> None:
    for job in queue.take_back_stale():
        session.record(worker.ended(job, "failed", "Its process was killed several times."))


def _search(session: Session, pool: Workers, stop: StopSignals, start: tuple[str, str] | None) -> None:
    """Let processes ask the sampler until there are as many trials as the study says."""
    study = session.study
    steps = steps_of(study, session.result.clock, plan.baseline_of(study).settings)
    base = plan.baseline_config(study).to_dict()
    about = {"study": study.to_dict(), "trials": study.trials, "steps": steps, "start": start, "baseline": base}
    replace_file(session.folder / worker.SEARCH, json.dumps(about).encode())
    name = f"{study.name}/{plan.hash_of([study.to_dict(), steps])[:12]}/search"
    queue = Queue(session.folder / worker.QUEUE, name)
    queue.take_back_stale()
    while stop.received is None:
        over = queue.over()
        if over >= study.trials:
            break
        unclaimed = study.trials - over - len(queue.running())
        pool.fill(name, unclaimed, queue.running())
        if pool.wait(_SECONDS_BETWEEN_LOOKS):
            queue.take_back_stale()
        for trial in session.collect():
            running = tuple(str(job["key"]) for job in queue.running().values())
            session.report(Status(queue.over(), study.trials, running, None, trial))
    pool.stop(interrupt=stop.received is not None)
    session.collect()


def _tell(
    session: Session,
    queue: Queue,
    jobs: Sequence[Mapping[str, Any]],
    first_steps: Mapping[str, int],
    finished: Trial | None,
    untold: int = 0,
) -> None:
    """Report how far it is; time left at the speed of this session so far, by steps times the clock's ratio.

    `untold` are trials that are over and whose own report is still to come: they do not count as done yet.
    """
    over = session.finished()
    work = {job["key"]: _work_of(session, job) for job in jobs}
    done = left = 0.0
    running = []
    under_way = {job["key"] for job in queue.running().values()}
    for job in jobs:
        key, steps, before = job["key"], job["steps"], first_steps.get(job["key"])
        at = steps if key in over else steps_done(session.folder, job)
        if before is not None:
            done += work[key] * (at - before) / steps
        left += work[key] * (steps - at) / steps
        if key in under_way and key not in over:
            running.append(f"{job['piece']}, seed {job['seed']}, step {at:,} of {steps:,}")
    speed = done / max(time.monotonic() - session.begun, 1e-9)
    total_done = sum(job["key"] in over for job in jobs) - untold
    session.report(Status(total_done, len(jobs), tuple(running), left / speed if speed > 0 else None, finished))


def _work_of(session: Session, job: Mapping[str, Any]) -> float:
    clock = session.result.clock
    ratio = clock and clock.ratio(plan.key_of_piece(session.study, job["settings"]))
    return float(job["steps"] * (ratio or 1.0))
