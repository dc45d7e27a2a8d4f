"""What will this training cost: parameters, memory, tokens, time to the end, disk? Asked once, before its first step.

Measured by a few gradients of real batches and an update of copied pieces: nothing of the training's state changes, and
nothing of its size is copied. Schedule and resume know only steps, so that a slower hour cannot change the result.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.machine import available_bytes, peak_bytes, resident_bytes
from mini_bert.ops.contract import BLOCK
from mini_bert.optim import adamw
from mini_bert.optim.clipping import global_norm
from mini_bert.random_streams import RandomStream
from mini_bert.training.allocator import give_freed_memory_back
from mini_bert.training.memory import estimate_training_bytes
from mini_bert.training.parallel import ShardPool
from mini_bert.training.step import TrainingState
from mini_bert.training.time_budget import steps_that_fit

_SHARE, _LONGEST = 0.02, 2.0
"""Of the time to the end, what is spent on measuring; seconds, if that is less."""
_WARM_UP, _FEWEST_CALLS, _MOST_CALLS = 2, 5, 25
"""Gradients that are not counted; gradients in all."""
_SAVED_A_SECOND = 240_000_000
"""Bytes of a checkpoint that are written, hashed and read back in a second."""
_SMALL_FILES_A_PIECE = 80
"""Bytes of the tokenizer's files a piece of the vocabulary."""


class Forecast(NamedTuple):
    """What a training will cost from here to its end."""

    parameters: int
    step_seconds: float
    first_step: int
    """Steps done before."""
    steps: int
    """Steps in all."""
    seconds: float
    """To the end, with evaluations and checkpoints."""
    tokens: int
    """To be seen."""
    epochs: float
    """To be seen."""
    memory_bytes: int
    """Estimated peak of this process."""
    memory_available: int | None
    """What this process has and may still take."""
    in_flight: int
    checkpoint_bytes: int
    disk_bytes: int
    """Of all checkpoints that stand beside each other at once."""
    disk_free: int


def forecast(
    state: TrainingState,
    config: Config,
    batch: Callable[[int], Batch],
    pool: ShardPool,
    *,
    run: Path,
    rows_per_epoch: int,
    steps: int | None,
    seconds_left: float | None = None,
    evaluation_seconds: float = 0.0,
) -> Forecast:
    """Measure a few steps, and say what all of them will cost. `state` stays as it is, to the bit.

    Every rank calls it; times are those of rank 0, and the result is the same on all.

    Args:
        state: before its first step, or as a checkpoint restored it.
        config: of the run.
        batch: batch by number.
        pool: the threads that will train.
        run: the run's folder, or where it will be.
        rows_per_epoch: rows of the training text.
        steps: in all; None: as many as fit into `seconds_left`.
        seconds_left: of the time budget; measuring is taken off it here.
        evaluation_seconds: of one evaluation, as measured before step 1.
    """
    begin = time.perf_counter()
    ranks = pool.ranks
    give_freed_memory_back()  # what reading, drawing and evaluating left behind
    gradient_seconds, tokens_a_step = _gradient_seconds(state, config, batch, pool, steps, seconds_left)
    step_seconds = gradient_seconds + _update_seconds(state, pool)
    parameters, train = state.model.parameters.buffer, config.train
    checkpoint_bytes = 3 * parameters.nbytes + _SMALL_FILES_A_PIECE * config.model.vocab_size
    checkpoint_seconds = checkpoint_bytes / _SAVED_A_SECOND
    first = state.step
    if steps is None:
        left = (seconds_left or 0.0) - (time.perf_counter() - begin)
        each = step_seconds + checkpoint_seconds / train.save_every
        steps = first + steps_that_fit(left, each, evaluation_seconds, train.evaluate_every)
    to_do = max(0, steps - first)
    evaluations = _times(first, steps, train.evaluate_every)
    checkpoints = _times(first, steps, train.save_every)
    available = available_bytes()
    measured = Forecast(
        parameters=parameters.size,
        step_seconds=step_seconds,
        first_step=first,
        steps=steps,
        seconds=to_do * step_seconds + evaluations * evaluation_seconds + checkpoints * checkpoint_seconds,
        tokens=round(to_do * tokens_a_step),
        epochs=to_do * train.batch_size / rows_per_epoch,
        memory_bytes=max(estimate_training_bytes(config, pool.in_flight, ranks=ranks.size), peak_bytes() or 0),
        memory_available=None if available is None else available + (resident_bytes() or 0),
        in_flight=pool.in_flight,
        checkpoint_bytes=checkpoint_bytes,
        disk_bytes=(min(train.keep_checkpoints, checkpoints) + 2) * checkpoint_bytes,
        disk_free=_disk_free(run),
    )
    return ranks.broadcast(measured)


def _gradient_seconds(
    state: TrainingState,
    config: Config,
    batch: Callable[[int], Batch],
    pool: ShardPool,
    steps: int | None,
    seconds_left: float | None,
) -> tuple[float, float]:
    """The median time of a batch and its gradient, and the mean number of tokens in one.

    The number of calls follows from the first one's time on rank 0: every rank must make the same number.
    """
    times: list[float] = []
    tokens = calls = 0
    while not times or len(times) < calls:
        begin = time.perf_counter()
        step = state.step + len(times)
        now = batch(step)
        with suppress(FloatingPointError):  # found again, and dealt with, when the training meets it
            gradient = pool.gradients(state.model, now, RandomStream(config.run.seed, "dropout", step + 1)).gradient
            global_norm(gradient)
        times.append(time.perf_counter() - begin)
        tokens += now.input_ids.size if now.attention_mask is None else int(now.attention_mask.sum())
        if len(times) == 1:
            to_the_end = (steps - state.step) * times[0] if steps is not None else seconds_left or 0.0
            seconds = min(_LONGEST, _SHARE * to_the_end)
            calls = min(_MOST_CALLS, max(_FEWEST_CALLS, int(seconds / times[0])))
            calls = pool.ranks.broadcast(calls)
    return median(times[_WARM_UP:]), tokens / len(times)


def _update_seconds(state: TrainingState, pool: ShardPool) -> float:
    """The time of an update, from that of a piece, on copies of a few megabytes."""
    parameters, (m, v) = state.model.parameters.buffer, state.optimizer
    piece = slice(0, min(parameters.size, 4 * BLOCK))
    vectors = [vector[piece].copy() for vector in (parameters, m, m, v)]

    def update(part: slice) -> None:
        theta, gradient, first, second = (vector[part] for vector in vectors)
        adamw.update(theta, gradient, adamw.State(first, second), step=1, lr=0.0)

    times = []
    for _ in range(_FEWEST_CALLS):
        begin = time.perf_counter()
        pool.elementwise(update, piece.stop)
        times.append(time.perf_counter() - begin)
    return median(times) * parameters.size / max(piece.stop, 1)


def _times(first: int, steps: int, every: int) -> int:
    """How often something is done every so many steps, and after the last.

    >>> _times(0, 100, 30), _times(60, 100, 30), _times(100, 100, 30)
    (4, 2, 0)
    """
    return math.ceil(steps / every) - first // every if first < steps else 0


def _disk_free(run: Path) -> int:
    """Of the file system that `run` is on, or will be."""
    there = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
