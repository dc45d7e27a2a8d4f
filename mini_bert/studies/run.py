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

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mini_bert.atomic_files import replace_file
from mini_bert.config.no_effect import without_effect
from mini_bert.data.cache import json_sha256
from mini_bert.data.work import Progress
from mini_bert.errors import ConfigError
from mini_bert.machine import available_cores
from mini_bert.model.bert import MiniBERT
from mini_bert.studies import worker
from mini_bert.studies.clock import read_clock, steps_of
from mini_bert.studies.dispatch import SECONDS_BETWEEN_LOOKS, until_done
from mini_bert.studies.journal import require_optuna
from mini_bert.studies.keys import key_of
from mini_bert.studies.pieces import baseline_config, baseline_of, config_of, label_of, pieces_of
from mini_bert.studies.plan import Planned, all_pieces, plan_start, plan_trial
from mini_bert.studies.queue import Queue
from mini_bert.studies.result import StudyResult, Trial
from mini_bert.studies.schema import Measure, Study
from mini_bert.studies.session import Session, Status, opened
from mini_bert.studies.workers import Workers
from mini_bert.training.model_lookup import find_model
from mini_bert.training.stop_signals import StopSignals


class Outcome(NamedTuple):
    """What is there when `run_study` comes back."""

    result: StudyResult
    signal: int | None
    """The signal that stopped it."""


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
    for label, piece in pieces_of(study).items():
        config = config_of(study, piece.settings)
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


def clock_study(session: Session, *, threads: int | None = None, say: Callable[[str], None]) -> None:
    """Measure the pieces whose time per step is not known, and write the result.

    Raises:
        ConfigError: the baseline cannot be trained.
    """
    clock = read_clock(session.study, session.result.clock, threads=threads, report=say)
    if clock != session.result.clock:
        session.result = session.result.model_copy(update={"clock": clock})
        session.write(session.result.trials)


def planned_trials(study: Study, result: StudyResult, start: tuple[str, str] | None) -> list[Planned]:
    """All trials, seed by seed; pieces that the clock could not measure are left out."""
    trials = []
    for seed in study.seeds:
        for label, piece in all_pieces(study).items():
            steps = steps_of(study, result.clock, piece.settings)
            if steps is not None:
                trials.append(plan_trial(study, label, piece.settings, seed, steps, start))
    return trials


def _start(session: Session, stop: StopSignals, say: Callable[[str], None], *, threads: int) -> tuple[str, str] | None:
    """The weights to begin from: their path, and what names them; trained here if the study says so."""
    study = session.study
    if study.start is None:
        return None
    if study.start.model is not None:
        folder = find_model(study.start.model, argument="start.model")
        weights = MiniBERT.from_pretrained(folder).parameters.buffer
        return str(folder), hashlib.sha256(weights.tobytes()).hexdigest()
    planned = plan_start(study)
    assert planned is not None
    run = session.folder / worker.RUNS / planned.run_name
    held = (run / "checkpoints").is_dir() and any(t.key == planned.key for t in session.result.trials)
    if not held:
        say(f"Training the weights to begin from: {planned.steps:,} steps.")
        job = worker.job_of(planned, planned.config.to_dict(), study.model_copy(update={"measure": Measure()}))
        session.forget(planned.key)
        until_done(session, Workers(session.folder, 1, threads), stop, f"{study.name}/start", [job])
    return str(run), planned.key


def _pieces(
    session: Session, pool: Workers, stop: StopSignals, start: tuple[str, str] | None, say: Callable[[str], None]
) -> None:
    study = session.study
    base = baseline_config(study).to_dict()
    planned = planned_trials(study, session.result, start)
    begun_from = plan_start(study)
    keys = {trial.key: trial.piece for trial in [*planned, *filter(None, [begun_from])]}
    session.label_of = partial(_label_of, study, keys, _steps_of_search(session), start)
    if strangers := session.set_aside():
        say(
            f"{strangers} trials in {session.result_file} had other settings or another budget; they are kept in "
            f"{session.folder / worker.TRIALS}."
        )
    jobs = [worker.job_of(trial, base, study) for trial in planned]
    until_done(session, pool, stop, f"{study.name}/{json_sha256(sorted(keys))[:12]}", jobs)


def _label_of(
    study: Study, labels: Mapping[str, str], steps: int | None, start: tuple[str, str] | None, trial: Trial
) -> str | None:
    """What a study calls a trial, by its key; what a search drew is planned again, for that has no plan beforehand."""
    if trial.key in labels or set(trial.settings) != set(study.search) or steps is None:
        return labels.get(trial.key)
    label = label_of(trial.settings)
    try:
        return label if plan_trial(study, label, trial.settings, trial.seed, steps, start).key == trial.key else None
    except ConfigError:
        return None


def _steps_of_search(session: Session) -> int | None:
    """The budget of what a search draws: that of the baseline."""
    return steps_of(session.study, session.result.clock, baseline_of(session.study).settings)


def _search(session: Session, pool: Workers, stop: StopSignals, start: tuple[str, str] | None) -> None:
    """Let processes ask the sampler until there are as many trials as the study says."""
    study = session.study
    steps = _steps_of_search(session)
    base = baseline_config(study).to_dict()
    about = {"study": study.to_dict(), "trials": study.trials, "steps": steps, "start": start, "baseline": base}
    replace_file(session.folder / worker.SEARCH, json.dumps(about).encode())
    trial = key_of(config_of(study, {}), start[1] if start else "", asked=baseline_config(study))
    decides = [trial, study.to_dict()["search"], list(study.seeds), study.evaluations, steps]
    name = f"{study.name}/{json_sha256(decides)[:12]}/search"
    queue = Queue(session.folder / worker.QUEUE, name)
    queue.take_back_stale(forgive=True)
    while stop.received is None:
        over = queue.over()
        if over >= study.trials:
            break
        unclaimed = study.trials - over - len(queue.running())
        pool.fill(name, unclaimed, queue.running())
        if pool.wait(SECONDS_BETWEEN_LOOKS):
            queue.take_back_stale()
        for trial in session.collect():
            running = tuple(str(job["key"]) for job in queue.running().values())
            session.report(Status(queue.over(), study.trials, running, None, trial))
    pool.stop(interrupt=stop.received is not None)
    session.collect()
