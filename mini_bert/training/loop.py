"""The loop: one training step after the other, with its records, checkpoints and remedies, to the last or to a stop."""

from __future__ import annotations

import copy
import json
import math
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
from mini_bert.training.health import Remedy
from mini_bert.training.incident import incident, incident_text, not_finite_in
from mini_bert.training.journal import Journal
from mini_bert.training.milestones import keep_milestone
from mini_bert.training.parallel import ShardPool
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import PretrainResult
from mini_bert.training.run_records import record_begin, record_end, record_steps
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
    record_begin(course, journal, pool, expected)
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
    record_end(result, journal, course.ranks, state.step - first_step, time.perf_counter() - begun)
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
            _count(course, result, time.perf_counter() - begin)
            in_flight = _tell_of_halving(pool, in_flight, state.step, journal)
            journal.tell("ticked", result)
            if _went_back(course, result, journal):
                saved = None
                continue
            best = _look(course, result, evaluate, journal)
            if ranks.size > 1 and (
                state.step == train.steps or result.skipped or state.step % train.verify_ranks_every == 0
            ):
                ranks.same(f"the parameters after step {state.step}", model_and_optimizer_sha256(state))
            _keep(course, journal)
            saved = _save_if_due(course, journal, best=best, skipped=result.skipped) or saved
            signal = _agreed(stop, ranks)
        if saved is None or saved.name != f"checkpoint-{state.step}":
            saved = _save(course, journal)
    assert saved is not None
    return saved, signal


def _count(course: Course, result: StepResult, seconds: float) -> None:
    """Take a step into the records; before the first of several skipped updates, remember where it was well."""
    if not result.skipped:
        course.good = None
    elif course.good is None:
        course.good = copy.deepcopy(Good(course.state.step - 1, course.progress, course.health))
    course.progress.count(result, seconds)


def _tell_of_halving(pool: ShardPool, in_flight: int, step: int, journal: Journal) -> int:
    """How many shards run at once now; said, where they are fewer than before."""
    if pool.in_flight < in_flight:
        journal.warn(
            f"Memory ran out with {in_flight} shards at once by step {step}; from here on it is {pool.in_flight} at "
            "once, to the same bits."
        )
    return pool.in_flight


def _went_back(course: Course, result: StepResult, journal: Journal) -> bool:
    """Do what the course's health calls for after a step; whether that led back to a checkpoint.

    Raises:
        NonFiniteError: it called for an end.
    """
    if result.skipped:
        _record_skip(course, result, journal)
    remedy = course.health.after_step(result, course.config.health)
    if remedy is not None and remedy.kind == "give up":
        _give_up(course, remedy, journal)
    if remedy is not None and remedy.kind == "roll-back":
        _roll_back(course, remedy, journal)
        return True
    _say(course, remedy, journal)
    return False


def _look(course: Course, result: StepResult, evaluate: Evaluate | None, journal: Journal) -> bool:
    """Record the steps since the last record and score the model, where it is time; whether it is the best so far."""
    train, step, best = course.config.train, course.state.step, False
    last, logged = step == train.steps, step % train.log_every == 0
    if last or logged:
        record_steps(course, journal, result.lr)
    if evaluate is not None and (last or step % train.evaluate_every == 0):
        best = evaluate_now(course, evaluate, journal)
    if course.progress.stopped is not None and not last and not logged:
        record_steps(course, journal, result.lr)
    return best


def _save_if_due(course: Course, journal: Journal, *, best: bool, skipped: bool) -> Path | None:
    """Write a checkpoint in turn, or of the best model; not after a skipped update, nor at the end, which is saved."""
    train, step = course.config.train, course.state.step
    due = course.progress.save_due or step % train.save_every == 0
    course.progress.save_due = due and skipped  # five skips lead back to before the first
    if step == train.steps or skipped or not (best or due):
        return None
    return _save(course, journal, in_turn=due, may_fail=train.on_save_error == "go-on")


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
