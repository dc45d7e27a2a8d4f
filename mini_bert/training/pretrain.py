"""Masked-language-model pre-training: what comes before the first step, and what a run leaves on the disk.

    runs/<name>/config.yaml        every setting, resolved
    runs/<name>/manifest.json      what it takes to repeat the run, and its final hash
    runs/<name>/metrics.jsonl      one record a line: start, train, evaluation, checkpoint, skipped, remedy, rollback
    runs/<name>/run.log            what happened, for people
    runs/<name>/checkpoints/       see checkpoint.py
    runs/<name>/latest, best       names of checkpoints

A run is a function of its configuration, its data and the kind of machine: batches and dropout are pure functions of
(seed, step), so a run that was stopped and resumed anywhere, or is spread over other threads and ranks, ends with the
same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mini_bert.atomic_files import replace_file, storage_errors
from mini_bert.config.load import dump_config
from mini_bert.config.no_effect import without_effect
from mini_bert.config.schema import Config
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import ConfigError, nearest
from mini_bert.model.tasks import with_task_heads
from mini_bert.training.checkpoint_folders import remove_stale
from mini_bert.training.course import Course, from_checkpoint, from_nothing
from mini_bert.training.forecast import forecast
from mini_bert.training.journal import Journal
from mini_bert.training.loop import Evaluate, evaluate_now, train
from mini_bert.training.material import Material, RunningText
from mini_bert.training.memory import choose_in_flight, require_room
from mini_bert.training.ownership import RunLock
from mini_bert.training.parallel import ShardPool
from mini_bert.training.ranks import Ranks, ranks_of_this_job
from mini_bert.training.report import PretrainResult, Report
from mini_bert.training.resuming import Beginning, find_beginning, run_folder, with_steps

_STEPS_TO_TIME = 1000
"""Of how many the batches are that are timed where a budget of minutes is still to become a number of steps."""


def pretrain(
    config: Config,
    *,
    tokens: TokenCorpus | None = None,
    evaluate: Evaluate | None = None,
    report: Report | None = None,
    ranks: Ranks | None = None,
) -> PretrainResult:
    """Train a model as `config` says, or go on with one (`run.resume`), until its last step or a signal.

    In an MPI job every process calls it alike; the first one writes, reports and evaluates.

    Args:
        config: `train.steps` or `train.minutes` must be set; minutes become steps before step 1.
        tokens: the tokenised corpus, where it is open already.
        evaluate: scores the model before step 1, every `train.evaluate_every` steps and at the end; of what it returns,
            the key `loss`, if there is one, decides which checkpoint is the best, and what `config.health` asks for.
        report: told what happens.
        ranks: the processes that train together, from within their `together()`; None: those of this job, as its
            launcher says.

    Raises:
        ConfigError: neither steps nor minutes, too little memory, or a resume with other settings; the message names
            the setting.
        DataError: the corpus is not usable, or not the one that the run was begun with.
        RunInUseError: another process trains in the run's folder.
        CheckpointError: what `run.resume` names does not hold.
        StorageError: disk full, read-only or failing; the checkpoints before are as they were.
        NonFiniteError: `health.max_skipped` updates in a row had no finite gradient; the last good state is saved.
        RanksDifferError: the processes of the job do not hold the same data or parameters.
    """
    for task in ("classification", "regression"):
        if getattr(config.tasks, task):
            expected = f"0: no running text has labels; {task} is what `mini-bert finetune` learns"
            raise ConfigError(f"tasks.{task}", got=getattr(config.tasks, task), expected=expected)

    def open_text(ranks: Ranks) -> Material:
        return RunningText(tokens or open_in_turn(config, ranks))

    return train_on(open_text, config, evaluate=evaluate, report=report, ranks=ranks)


def train_on(
    open_material: Callable[[Ranks], Material],
    config: Config,
    *,
    evaluate: Evaluate | None = None,
    report: Report | None = None,
    ranks: Ranks | None = None,
) -> PretrainResult:
    """Train a model on a material as `pretrain` does on running text, or go on with one (`run.resume`).

    Args:
        open_material: called on every rank once the run is locked.
        config: as in `pretrain`, like all that follows.
        evaluate: as there.
        report: as there.
        ranks: as there.

    Raises:
        MiniBertError: as `pretrain`.
    """
    config = with_task_heads(config)
    if ranks is not None:
        return _train(open_material, config, evaluate, report if report and ranks.first else Report(), ranks)
    ranks = ranks_of_this_job()
    with ranks.together():
        return train_on(open_material, config, evaluate=evaluate, report=report, ranks=ranks)


def _train(
    open_material: Callable[[Ranks], Material],
    config: Config,
    evaluate: Evaluate | None,
    report: Report,
    ranks: Ranks,
) -> PretrainResult:
    run = ranks.on_first(lambda: run_folder(config))
    threads = config.run.threads or ranks.cores
    in_flight = choose_in_flight(config, threads, ranks.size)
    require_room(config, in_flight, ranks.size)
    with (
        _lock(run, ranks),
        ShardPool(threads, config.train.shards, in_flight=in_flight, ranks=ranks) as pool,
    ):
        in_flight = pool.in_flight
        beginning = ranks.on_first(lambda: _find_beginning(config, run))
        begin = time.perf_counter()
        course, warnings = _course(config, run, beginning, open_material(ranks), pool, ranks)
        with Journal(run, course.config, report, ranks) as journal:
            journal.go_on_from(course.state.step if beginning.checkpoint else -1, beginning.origin)
            for warning in warnings:
                journal.warn(warning)
            if course.state.step == course.config.train.steps:
                journal.warn(f"{run} is finished: step {course.state.step:,} of {course.state.step:,}.")
            if course.progress.stopped is not None:
                _reconsider_the_stop(course, journal)
            if course.state.step == 0 and evaluate is not None:
                evaluate_now(course, evaluate, journal)
            course.stream.steps = course.stream.steps or _STEPS_TO_TIME
            expected = forecast(
                course.state,
                course.config,
                course.batch_to_time,
                pool,
                run=run,
                rows_per_epoch=course.stream.rows_per_epoch,
                steps=course.config.train.steps,
                seconds_left=60.0 * (config.train.minutes or 0.0) - (time.perf_counter() - begin),
                evaluation_seconds=course.progress.evaluation_seconds,
            )
            course.config = with_steps(course.config, expected.steps)
            course.stream.steps = expected.steps
            for note in without_effect(course.config):
                journal.warn(note)
            ranks.on_first(lambda: replace_file(run / "config.yaml", dump_config(course.config).encode()))
            return train(course, evaluate, journal, pool, expected, in_flight)


def _course(
    config: Config, run: Path, beginning: Beginning, material: Material, pool: ShardPool, ranks: Ranks
) -> tuple[Course, list[str]]:
    """The course, and what is to be said of its beginning."""
    if beginning.checkpoint is None:
        if config.train.steps is None and config.train.minutes is None:
            raise ConfigError("train.steps", got="neither steps nor minutes", expected="one of the two")
        course = from_nothing(config, run, material, pool, ranks)
        warnings = [_beginning_anew(run)] if config.run.resume else []
    else:
        course, changes = from_checkpoint(config, run, beginning, material, pool, ranks)
        warnings = [f"{reason} Going on from {beginning.checkpoint}." for reason in beginning.warnings] + changes
    kinds = ranks.gather({name: value for name, value in course.facts["environment"].items() if name != "threads"})
    for name in kinds[0]:
        if len(values := {str(kind[name]) for kind in kinds}) > 1:
            warnings.append(f"{name} differs between the ranks ({', '.join(sorted(values))}): so may the bits.")
    return course, warnings


def open_in_turn(config: Config, ranks: Ranks, **options: Any) -> TokenCorpus:
    """The tokenised corpus on every rank: the first prepares it, the others find it prepared.

    On a host that does not share the first one's cache, it is prepared once more.

    Raises:
        DataError: as `open_tokens`.
    """
    found: list[TokenCorpus] = []

    def open_() -> None:
        found.append(open_tokens(config.data, config.tokenizer, config.model.vocab_size, **options))

    ranks.on_first(open_)
    if not ranks.first:
        open_()
    return found[0]


def _beginning_anew(run: Path) -> str:
    """That there is nothing to resume; with what may have been meant."""
    others = [path.parent.name for path in run.parent.glob("*/checkpoints") if path.parent != run]
    meant = nearest(run.name, others) if others else ""
    return f"{run} has no checkpoint to go on from. Beginning at step 0. {meant if 'Did' in meant else ''}".rstrip()


def _reconsider_the_stop(course: Course, journal: Journal) -> None:
    """A run that had stopped early goes on if `health.stop_after_evaluations` would not stop it any more."""
    patience, since = course.config.health.stop_after_evaluations, course.health.evaluations_since_best
    if patience is None or patience > since:
        course.progress.stopped = None
    else:
        more = f"To go on: --health.stop-after-evaluations {since + 1}, or more."
        journal.warn(f"The run has stopped early: {course.progress.stopped} {more}")


def _find_beginning(config: Config, run: Path) -> Beginning:
    with storage_errors(run):
        remove_stale(run)
        return find_beginning(config, run)


@contextmanager
def _lock(run: Path, ranks: Ranks) -> Iterator[None]:
    """The run's lock, held by the first rank; what refuses it refuses every rank."""
    lock = RunLock(run)
    ranks.on_first(lambda: lock.__enter__() and None)
    try:
        yield
    finally:
        if ranks.first:
            lock.__exit__(None, None, None)
