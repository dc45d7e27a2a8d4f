"""What a run writes down: how it begins, what its steps measured, and how it ended."""

from __future__ import annotations

import math
import signal as signals

from mini_bert.training import run_manifest
from mini_bert.training.course import Course
from mini_bert.training.forecast import Forecast
from mini_bert.training.journal import Journal
from mini_bert.training.parallel import ShardPool
from mini_bert.training.phases import OTHER_TASKS, learning_phase
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import PretrainResult, RunInfo
from mini_bert.training.resuming import learning_sha256


def record_begin(course: Course, journal: Journal, pool: ShardPool, expected: Forecast) -> None:
    """What it is made of, and what is expected of it."""
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


def record_end(result: PretrainResult, journal: Journal, ranks: Ranks, steps_done: int, seconds: float) -> None:
    """How it ended, and with which weights."""
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


def record_steps(course: Course, journal: Journal, lr: float) -> None:
    """What the steps since the record before measured."""
    step, progress = course.state.step, course.progress
    measured = progress.take_window()
    history = [*journal.losses, (step, measured["loss"])] if math.isfinite(measured["loss"]) else journal.losses
    phase = OTHER_TASKS
    if course.config.tasks.masked_lm and course.references is not None:
        phase = learning_phase([at for at, _ in history], [loss for _, loss in history], course.references)
    steps_left = (course.config.train.steps or step) - step
    record = {
        "epoch": course.stream.epoch(step - 1 + course.health.batch_offset),
        **measured,
        "lr": lr,
        **({} if course.config.masking.rate_schedule == "fixed" else {"masking_rate": course.masking_rate(step - 1)}),
        "tokens": progress.tokens,
        "seconds": progress.seconds,
        "seconds_left": steps_left * progress.seconds / step,
        "phase": phase,
    }
    journal.tell("stepped", journal.record("train", step, record))
