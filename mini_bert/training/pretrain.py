"""Masked-language-model pre-training: the loop around `training_step`, and what it leaves on the disk.

    runs/<name>/config.yaml        every setting, resolved
    runs/<name>/metrics.jsonl      one record a line, of kind start, train, evaluation or checkpoint
    runs/<name>/checkpoints/       see checkpoint.py
    runs/<name>/latest, best       names of checkpoints

A run is a function of its configuration, its data and the kind of machine: batches and dropout are pure functions of
(seed, step), so a run that was stopped and resumed anywhere ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.atomic_files import replace_file, storage_errors
from mini_bert.config.load import dump_config
from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import ConfigError, NonFiniteError, StorageError
from mini_bert.machine import available_cores
from mini_bert.model.bert import MiniBERT
from mini_bert.training.checkpoint import (
    environment,
    load_checkpoint,
    model_and_optimizer_sha256,
    remove_stale,
    save_checkpoint,
)
from mini_bert.training.metrics_log import MetricsLog, Record, keep_until
from mini_bert.training.ownership import RunLock
from mini_bert.training.parallel import ShardPool
from mini_bert.training.phases import References, learning_phase, references_of
from mini_bert.training.progress import Progress
from mini_bert.training.report import PretrainResult, Report, RunInfo
from mini_bert.training.resuming import (
    Beginning,
    check_same_data,
    check_same_training,
    data_sha256,
    find_beginning,
    learning_sha256,
    run_folder,
    with_steps,
)
from mini_bert.training.step import TrainingState, training_step
from mini_bert.training.stop_signals import StopSignals
from mini_bert.training.time_budget import seconds_a_step, steps_that_fit

MOST_SKIPPED = 5
"""So many updates in a row without a finite gradient end a run."""

Evaluate = Callable[[MiniBERT], Mapping[str, Any]]


def pretrain(
    config: Config,
    *,
    tokens: TokenCorpus | None = None,
    evaluate: Evaluate | None = None,
    report: Report | None = None,
    stop_on_save_error: bool = True,
) -> PretrainResult:
    """Train a model as `config` says, or go on with one (`run.resume`), until its last step or a signal.

    Args:
        config: `train.steps` or `train.minutes` must be set; minutes become steps before step 1.
        tokens: the tokenised corpus, where it is open already.
        evaluate: scores the model before step 1, every `train.evaluate_every` steps and at the end; of what it returns,
            the key `loss`, if there is one, decides which checkpoint is the best.
        report: told what happens.
        stop_on_save_error: False: a checkpoint that cannot be written is reported, and training goes on until the last.

    Raises:
        ConfigError: neither steps nor minutes, or a resume with other settings; the message names the setting.
        DataError: the corpus is not usable, or not the one that the run was begun with.
        RunInUseError: another process trains in the run's folder.
        CheckpointError: what `run.resume` names does not hold.
        StorageError: disk full, read-only or failing; the checkpoints before are as they were.
        NonFiniteError: five updates in a row had no finite gradient; the last good state is saved.
    """
    report, run = report or Report(), run_folder(config)
    with RunLock(run), ShardPool(_threads(config), config.train.shards) as pool:
        with storage_errors(run):
            remove_stale(run)
        beginning = find_beginning(config, run)
        if beginning.checkpoint is None and config.run.resume is not None:
            report.warned(f"{run} has no checkpoint to go on from. Beginning at step 0.")
        for reason in beginning.warnings:
            report.warned(f"{reason} Going on from {beginning.checkpoint}.")
        if tokens is None:
            tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
        begin = time.perf_counter()
        if beginning.checkpoint is None:
            course = _from_nothing(config, run, tokens, pool)
        else:
            course = _from_checkpoint(config, run, beginning, tokens, pool, report)
        with MetricsLog(run / "metrics.jsonl") as log:
            spent = -time.perf_counter()
            if course.state.step == 0 and evaluate is not None:
                _evaluate(course, evaluate, log, report)
            spent += time.perf_counter()
            if course.config.train.steps is None:
                step = seconds_a_step(course.state, course.config, course.stream.batch, pool)
                left = 60.0 * (config.train.minutes or 0.0) - (time.perf_counter() - begin)
                steps = steps_that_fit(left, step, spent, config.train.evaluate_every)
                course.config = with_steps(course.config, steps)
            replace_file(run / "config.yaml", dump_config(course.config).encode())
            return _train(course, evaluate, log, report, pool, stop_on_save_error)


@dataclass
class Course:
    """A training under way."""

    run: Path
    config: Config
    state: TrainingState
    stream: BatchStream
    references: References
    facts: dict[str, Any]
    """What the manifests say of data, tokenizer and machine."""
    train_tokens: int
    progress: Progress = field(default_factory=Progress)
    records: list[Record] = field(default_factory=list)
    """What `metrics.jsonl` holds."""

    def last(self, kind: str) -> Record:
        """The newest record of a kind; empty if there is none."""
        return next((record for record in reversed(self.records) if record["kind"] == kind), {})


def _from_nothing(config: Config, run: Path, tokens: TokenCorpus, pool: ShardPool) -> Course:
    if config.train.steps is None and config.train.minutes is None:
        raise ConfigError("train.steps", got="neither steps nor minutes", expected="one of the two")
    model = MiniBERT(config.model, seed=config.run.seed, tokenizer=tokens.tokenizer)
    course = _course(config, run, TrainingState.fresh(model), tokens, pool)
    keep_until(run / "metrics.jsonl", -1)
    return course


def _from_checkpoint(
    config: Config, run: Path, beginning: Beginning, tokens: TokenCorpus, pool: ShardPool, report: Report
) -> Course:
    assert beginning.checkpoint is not None
    state, saved, manifest = load_checkpoint(beginning.checkpoint)
    config = check_same_training(config, saved["config"], beginning.checkpoint)
    check_same_data(manifest, tokens, beginning.checkpoint)
    state.model.tokenizer = tokens.tokenizer
    course = _course(config, run, state, tokens, pool)
    for name, before in manifest["environment"].items():
        now = course.facts["environment"].get(name)
        if now != before and name != "threads":
            report.warned(
                f"{name} was {before} when this run was saved, and is {now}: the bits may differ from here on."
            )
    course.facts["parent"] = str(beginning.origin or "") or manifest["parent"]
    course.progress = Progress.restored(saved["progress"])
    log = run / "metrics.jsonl"
    if beginning.origin is not None and (beginning.origin / log.name).exists():
        with storage_errors(log):
            replace_file(log, (beginning.origin / log.name).read_bytes())
    course.records = keep_until(log, state.step)
    return course


def _course(config: Config, run: Path, state: TrainingState, tokens: TokenCorpus, pool: ShardPool) -> Course:
    config = config.model_copy(update={"run": config.run.model_copy(update={"name": run.name, "resume": None})})
    facts = {
        "run": run.name,
        "parent": None,
        "data_sha256": data_sha256(tokens.provenance),
        "tokenizer_sha256": tokens.tokenizer.fingerprint,
        "environment": environment(pool.threads),
    }
    stream = BatchStream(tokens.train, config, tokens.tokenizer)
    known = references_of(
        tokens.train.documents(),
        config.model.vocab_size,
        tokens.tokenizer.special_ids,
        config.masking.mask_share,
        config.masking.random_share,
    )
    return Course(run, config, state, stream, known, facts, tokens.train.n_tokens)


def _train(
    course: Course,
    evaluate: Evaluate | None,
    log: MetricsLog,
    report: Report,
    pool: ShardPool,
    stop_on_save_error: bool,
) -> PretrainResult:
    """The loop."""
    config, state, train = course.config, course.state, course.config.train
    assert train.steps is not None
    info = RunInfo(
        course.run,
        config,
        state.step,
        train.steps,
        state.model.parameters.buffer.size,
        pool.threads,
        course.stream.steps_per_epoch,
        course.train_tokens,
        course.references,
    )
    course.facts["config_sha256"] = learning_sha256(config)
    _write(course, log, "start", {**course.facts, "steps": train.steps, "references": course.references._asdict()})
    report.started(info)
    saved: Path | None = None
    good = course.progress
    with StopSignals() as stop:
        while state.step < train.steps and stop.received is None:
            begin = time.perf_counter()
            result = training_step(state, course.stream.batch(state.step), config, train.steps, pool)
            if result.skipped and course.progress.skipped_in_a_row == 0:
                good = copy.deepcopy(course.progress)
            course.progress.count(result, time.perf_counter() - begin)
            report.ticked(result)
            if course.progress.skipped_in_a_row == MOST_SKIPPED:
                raise _not_finite(course, good, log)
            last = state.step == train.steps
            if last or state.step % train.log_every == 0:
                report.stepped(_write(course, log, "train", _train_record(course, result.lr)))
            if evaluate is not None and (last or state.step % train.evaluate_every == 0):
                _evaluate(course, evaluate, log, report)
            if not last and state.step % train.save_every == 0:
                try:
                    saved = _save(course, log, report)
                except StorageError as error:
                    if stop_on_save_error:
                        raise
                    report.warned(str(error))
        if saved is None or saved.name != f"checkpoint-{state.step}":
            saved = _save(course, log, report)
    outcome = PretrainResult(
        course.run,
        saved,
        state.model,
        state.step,
        train.steps,
        course.last("train"),
        course.last("evaluation"),
        model_and_optimizer_sha256(state),
        stop.received if state.step < train.steps else None,
    )
    report.finished(outcome)
    return outcome


def _train_record(course: Course, lr: float) -> Record:
    step, progress, known = course.state.step, course.progress, course.references
    measured = progress.window.means()
    losses = [(record["step"], record["loss"]) for record in course.records if record["kind"] == "train"]
    history = [
        (at, loss) for at, loss in [*losses, (step, measured["loss"])] if loss is not None and math.isfinite(loss)
    ]
    steps_left = (course.config.train.steps or step) - step
    progress.window = type(progress.window)()
    return {
        "epoch": course.stream.epoch(step - 1),
        **measured,
        "lr": lr,
        "tokens": progress.tokens,
        "seconds": progress.seconds,
        "seconds_left": steps_left * progress.seconds / step,
        "phase": learning_phase([at for at, _ in history], [loss for _, loss in history], known),
    }


def _evaluate(course: Course, evaluate: Evaluate, log: MetricsLog, report: Report) -> None:
    record = _write(
        course, log, "evaluation", {key: _plain(value) for key, value in evaluate(course.state.model).items()}
    )
    loss, best = record.get("loss"), course.progress.best_loss
    if isinstance(loss, float) and course.state.step > 0 and (best is None or loss < best):
        course.progress.best_loss, course.progress.best_step = loss, course.state.step
    report.evaluated(record)


def _save(course: Course, log: MetricsLog, report: Report) -> Path:
    state, progress = course.state, course.progress
    log.sync()
    saved = {
        "progress": asdict(progress),
        "config": course.config.to_dict(),
        "epoch": course.stream.epoch(state.step),
        "samples": state.step * course.config.train.batch_size,
    }
    path = save_checkpoint(
        course.run,
        state,
        saved,
        course.facts,
        keep=course.config.train.keep_checkpoints,
        best=progress.best_step == state.step,
    )
    _write(course, log, "checkpoint", {"path": str(path.relative_to(course.run))})
    report.saved(path)
    return path


def _not_finite(course: Course, good: Progress, log: MetricsLog) -> NonFiniteError:
    """Save the state before the updates that were skipped, which did not change it, and say so."""
    step = course.state.step
    course.state.step, course.progress = step - MOST_SKIPPED, good
    path = _save(course, log, Report())
    return NonFiniteError(
        "loss",
        got=f"NaN or infinity in loss or gradient at each of the steps {step - MOST_SKIPPED + 1} to {step}",
        expected="finite numbers",
        advice=f"The last good state is {path}. Start anew with a lower --train.lr or a higher --train.warmup-ratio.",
    )


def _write(course: Course, log: MetricsLog, kind: str, values: Mapping[str, Any]) -> Record:
    record = {"kind": kind, "step": course.state.step, **values}
    log.write(record)
    course.records.append(record)
    return record


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _threads(config: Config) -> int:
    threads = config.run.threads or available_cores()
    return threads if config.train.in_flight == "auto" else min(threads, config.train.in_flight)
