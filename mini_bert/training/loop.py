"""The loop: one training step after the other, with its records, checkpoints and remedies, to the last or to a stop."""

from __future__ import annotations

import copy
import json
import math
import signal as signals
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mini_bert.atomic_files import replace_file
from mini_bert.errors import NonFiniteError, StorageError
from mini_bert.model.bert import MiniBERT
from mini_bert.training import run_manifest
from mini_bert.training.allocator import give_freed_memory_back
from mini_bert.training.checkpoint import model_and_optimizer_sha256
from mini_bert.training.checkpoint_folders import newest_verified, retire_newer
from mini_bert.training.course import Course, Good
from mini_bert.training.forecast import Forecast
from mini_bert.training.health import Remedy, incident, incident_text, not_finite_in
from mini_bert.training.journal import Journal
from mini_bert.training.milestones import keep_milestone
from mini_bert.training.parallel import ShardPool
from mini_bert.training.phases import OTHER_TASKS, learning_phase
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import PretrainResult, RunInfo
from mini_bert.training.resuming import learning_sha256
from mini_bert.training.step import StepResult, training_step
from mini_bert.training.stop_signals import StopSignals

Evaluate = Callable[[MiniBERT], Mapping[str, Any]]


def train(
    course: Course,
    evaluate: Evaluate | None,
    journal: Journal,
    pool: ShardPool,
    expected: Forecast,
    in_flight: int,
) -> PretrainResult:
    """Take `course` to its last step, or to a signal, or to where its health says stop; all is saved then.

    `in_flight` is how many shards were to run at once; where the pool has halved it since, that is said.

    Raises:
        StorageError: a checkpoint or a record could not be written.
        NonFiniteError: too many updates in a row were skipped.
        RanksDifferError: the ranks do not hold the same parameters.
    """
    _begin(course, journal, pool, expected)
    begun, first_step = time.perf_counter(), course.state.step
    try:
        saved, signal = _steps(course, evaluate, journal, pool, in_flight)
    except BaseException as error:
        if course.ranks.first:
            failed, seconds = f"failed: {type(error).__name__}: {error}", time.perf_counter() - begun
            run_manifest.end(course.run, step=course.state.step, sha256=None, seconds=seconds, ended=failed)
        raise
    state, steps = course.state, expected.steps
    result = PretrainResult(
        course.run,
        saved,
        state.evaluated,
        state.step,
        steps,
        journal.newest.get("train", {}),
        journal.newest.get("evaluation", {}),
        model_and_optimizer_sha256(state),
        signal if state.step < steps else None,
        course.progress.stopped,
    )
    _end(result, journal, course.ranks, state.step - first_step, time.perf_counter() - begun)
    return result


def _steps(
    course: Course, evaluate: Evaluate | None, journal: Journal, pool: ShardPool, in_flight: int
) -> tuple[Path, int | None]:
    """The steps; returns the last checkpoint, and the signal that ended them."""
    config, state, train, ranks = course.config, course.state, course.config.train, course.ranks
    assert train.steps is not None
    saved = _save(course, journal, in_turn=True) if course.branched else None
    if state.step == 0:
        _keep(course, journal)
    with StopSignals() as stop:
        signal = _agreed(stop, ranks)
        while state.step < train.steps and signal is None and course.progress.stopped is None:
            begin = time.perf_counter()
            batch = course.next_batch()
            result = _agreed_on(training_step(state, batch, config, train.steps, pool, course.health.lr_scale), ranks)
            if not result.skipped:
                course.good = None
            elif course.good is None:
                course.good = copy.deepcopy(Good(state.step - 1, course.progress, course.health))
            course.progress.count(result, time.perf_counter() - begin)
            if pool.in_flight < in_flight:
                journal.warn(
                    f"Memory ran out with {in_flight} shards at once by step {state.step}; from here on it is "
                    f"{pool.in_flight} at once, to the same bits."
                )
                in_flight = pool.in_flight
            journal.tell("ticked", result)
            if result.skipped:
                _record_skip(course, result, journal)
            remedy = course.health.after_step(result, config.health)
            if remedy is not None and remedy.kind == "give up":
                _give_up(course, remedy, journal)
            if remedy is not None and remedy.kind == "roll-back":
                _roll_back(course, remedy, journal)
                saved = None
                continue
            _say(course, remedy, journal)
            last = state.step == train.steps
            if last or state.step % train.log_every == 0:
                journal.tell("stepped", journal.record("train", state.step, _measured(course, journal, result.lr)))
            best = False
            if evaluate is not None and (last or state.step % train.evaluate_every == 0):
                best = evaluate_now(course, evaluate, journal)
            if course.progress.stopped is not None and not last and state.step % train.log_every:
                journal.tell("stepped", journal.record("train", state.step, _measured(course, journal, result.lr)))
            if ranks.size > 1 and (last or result.skipped or state.step % train.verify_ranks_every == 0):
                ranks.same(f"the parameters after step {state.step}", model_and_optimizer_sha256(state))
            _keep(course, journal)
            due = course.progress.save_due or state.step % train.save_every == 0
            course.progress.save_due = due and result.skipped  # five skips lead back to before the first
            if not last and not result.skipped and (best or due):
                saved = _save(course, journal, in_turn=due, may_fail=train.on_save_error == "go-on") or saved
            signal = _agreed(stop, ranks)
        if saved is None or saved.name != f"checkpoint-{state.step}":
            saved = _save(course, journal)
    assert saved is not None
    return saved, signal


def _begin(course: Course, journal: Journal, pool: ShardPool, expected: Forecast) -> None:
    config, state, ranks = course.config, course.state, course.ranks
    course.facts["config_sha256"] = learning_sha256(config)
    info = RunInfo(
        course.run,
        config,
        state.step,
        expected.steps,
        state.model.parameters.buffer.size,
        pool.threads,
        course.stream.steps_per_epoch,
        course.train_tokens,
        course.references,
        ranks.size,
        expected,
    )
    warnings = ranks.on_first(
        lambda: run_manifest.begin(
            course.run, config, course.facts, first_step=state.step, threads=pool.threads, ranks=ranks.size
        )
    )
    start = {**course.facts, "steps": expected.steps}
    if course.references is not None:
        start["references"] = course.references._asdict()
    journal.record("start", state.step, {**start, "forecast": expected._asdict()})
    journal.note("started", step=state.step, steps=expected.steps, threads=pool.threads, ranks=ranks.size)
    journal.tell("started", info)
    for warning in warnings:
        journal.warn(warning)


def _end(result: PretrainResult, journal: Journal, ranks: Ranks, steps_done: int, seconds: float) -> None:
    ended = "finished"
    if result.signal is not None:
        ended = signals.Signals(result.signal).name
    elif result.stopped is not None:
        ended = "early stop"
    warnings = ranks.on_first(
        lambda: run_manifest.end(result.run, step=result.step, sha256=result.sha256, seconds=seconds, ended=ended),
    )
    for warning in warnings:
        journal.warn(warning)
    journal.note(
        "ended", how=ended, step=result.step, steps_done=steps_done, sha256=result.sha256, seconds=round(seconds, 3)
    )
    journal.tell("finished", result)


def _measured(course: Course, journal: Journal, lr: float) -> dict[str, Any]:
    """What a record of training steps says, of the steps since the one before."""
    step, progress = course.state.step, course.progress
    measured = progress.take_window()
    history = [*journal.losses, (step, measured["loss"])] if math.isfinite(measured["loss"]) else journal.losses
    phase = OTHER_TASKS
    if course.config.tasks.masked_lm and course.references is not None:
        phase = learning_phase([at for at, _ in history], [loss for _, loss in history], course.references)
    steps_left = (course.config.train.steps or step) - step
    return {
        "epoch": course.stream.epoch(step - 1 + course.health.batch_offset),
        **measured,
        "lr": lr,
        **({} if course.config.masking.rate_schedule == "fixed" else {"masking_rate": course.masking_rate(step - 1)}),
        "tokens": progress.tokens,
        "seconds": progress.seconds,
        "seconds_left": steps_left * progress.seconds / step,
        "phase": phase,
    }


def evaluate_now(course: Course, evaluate: Evaluate, journal: Journal) -> bool:
    """Score the model; whether its loss is the best so far."""
    step, progress, begin = course.state.step, course.progress, time.perf_counter()
    give_freed_memory_back()  # arrays of other sizes come now: without this, the peaks would partly add up
    try:
        measured = course.ranks.on_first(lambda: dict(evaluate(course.state.evaluated)))
    except Exception:
        if step > 0 and course.good is None:  # whoever mends the evaluation goes on from here
            _save(course, journal)
        raise
    give_freed_memory_back()
    progress.evaluation_seconds = time.perf_counter() - begin
    record = journal.record("evaluation", step, measured)
    loss = record.get("loss")
    loss = float(loss) if isinstance(loss, (int, float)) and math.isfinite(loss) else None
    better = loss is not None and step > 0 and (progress.best_loss is None or loss < progress.best_loss)
    if better:
        progress.best_loss, progress.best_step = loss, step
    journal.tell("evaluated", record)
    if step > 0:
        if progress.masking is not None:
            progress.masking.after_evaluation(record.get("top1"), course.config.masking)
        _say(course, course.health.after_evaluation(step, loss, course.config.health), journal)
    return better


def _say(course: Course, remedy: Remedy | None, journal: Journal) -> None:
    """Record a remedy that leaves the loop as it is, or ends it in order."""
    if remedy is None:
        return
    if remedy.kind == "stop":
        course.progress.stopped = remedy.reason
    journal.record("remedy", course.state.step, {"remedy": remedy.kind, "reason": remedy.reason})
    journal.warn(remedy.reason if remedy.kind != "stop" else f"Stopping early: {remedy.reason}")


def _keep(course: Course, journal: Journal) -> None:
    """Keep the model for good, if this step is a milestone."""
    step = course.state.step
    if step in course.config.train.milestones:
        try:
            path = course.ranks.on_first(lambda: keep_milestone(course.run, course.state.evaluated, step))
        except StorageError as error:
            if course.config.train.on_save_error == "stop":
                raise
            journal.warn(str(error))
            return
        journal.note("milestone", path=str(path), step=step)


def _save(course: Course, journal: Journal, in_turn: bool = False, may_fail: bool = False) -> Path | None:
    """Write a checkpoint and say so; None if it could not be written and training is to go on."""
    progress, step = course.progress, course.state.step
    try:
        course.ranks.on_first(journal.sync)
        path = course.save(in_turn)
    except StorageError as error:
        if not may_fail:
            raise
        if progress.best_step == step:
            progress.best_loss = progress.best_step = None
        journal.warn(str(error))
        return None
    journal.record("checkpoint", course.state.step, {"path": str(path.relative_to(course.run))})
    journal.note("saved", path=str(path), step=course.state.step)
    journal.tell("saved", path)
    return path


def _record_skip(course: Course, result: StepResult, journal: Journal) -> None:
    found = str(result.found) if result.found else None
    journal.record("skipped", result.step, {"found": found, "skipped_so_far": course.progress.skipped})
    journal.warn(f"Step {result.step}: the update was skipped. {found or 'Loss or gradient were not finite.'}")


def _roll_back(course: Course, remedy: Remedy, journal: Journal) -> None:
    """Back to the last checkpoint, and on with batches that were not met yet."""
    left = course.go_back()
    step = course.state.step
    journal.go_on_from(step)
    journal.record(
        "rollback", step, {"from_step": left, "reason": remedy.reason, "batch_offset": course.health.batch_offset}
    )
    journal.warn(f"{remedy.reason} Went back from step {left} to step {step}; the batches since are passed over.")


def _give_up(course: Course, remedy: Remedy, journal: Journal) -> NoReturn:
    """Save the state before the updates that were skipped, which did not change it, and say what happened."""
    told = incident(course.health, course.state, course.config.health, remedy.reason)
    file = course.run / f"incident-{course.state.step}.json"
    course.ranks.on_first(lambda: replace_file(file, json.dumps(told, indent=1).encode()))
    journal.warn(incident_text(told))
    good, run = course.good, course.run
    assert good is not None
    if all(bad is None for bad in course.ranks.gather(not_finite_in(course.state))):
        course.ranks.on_first(lambda: retire_newer(run, good.step))
        course.state.step, course.progress, course.health, course.good = good.step, good.progress, good.health, None
        where = f"The last finite state is {_save(course, journal)}"
    else:
        path = course.ranks.on_first(lambda: newest_verified(run).path)
        where = f"The last finite state is {path}" if path else "There is no checkpoint yet"
    raise NonFiniteError(
        "loss",
        got=f"NaN or infinity: {remedy.reason.rstrip('.')}",
        expected="finite numbers",
        advice=f"{where}; what happened stands in {file}. {told['advice'][0]}",
    )


def _agreed_on(result: StepResult, ranks: Ranks) -> StepResult:
    """The result with the place that any rank has found to be not finite; a parameter is one rank's own."""
    if not result.skipped or ranks.size == 1:
        return result
    found = [place for place in ranks.gather(result.found) if place is not None]
    own = [place for place in found if place.direction == "parameter"]
    return result._replace(found=next(iter([*own, *found]), None))


def _agreed(stop: StopSignals, ranks: Ranks) -> int | None:
    """The signal that any of the ranks has got."""
    if ranks.size == 1:
        return stop.received
    return next((received for received in ranks.gather(stop.received) if received is not None), None)
