"""What will this training cost: parameters, memory, tokens, time to the end, disk? Asked once, before its first step.

Measured by a few gradients of real batches and an update of copied pieces: nothing of the training's state changes, and
nothing of its size is copied. Schedule and resume know only steps, so that a slower hour cannot change the result.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.machine import available_bytes, peak_bytes, resident_bytes
from mini_bert.ops.contract import BLOCK
from mini_bert.optim import optimizer
from mini_bert.optim.clipping import global_norm
from mini_bert.optim.layout import Layout, length, packed
from mini_bert.optim.optimizer import OPTIMIZERS, Settings
from mini_bert.random_streams import RandomStream
from mini_bert.training.allocator import give_freed_memory_back
from mini_bert.training.memory import estimate_training_bytes
from mini_bert.training.parallel import ShardPool
from mini_bert.training.step import TrainingState, optimizer_settings
from mini_bert.training.time_budget import steps_that_fit

_SHARE, _LONGEST = 0.02, 2.0
"""Of the time to the end, what is spent on measuring; seconds, if that is less."""
_WARM_UP, _FEWEST_CALLS, _MOST_CALLS = 2, 5, 25
"""Gradients that are not counted; gradients in all."""
_PIECE = 4 * BLOCK
"""Numbers of a vector, or of a table, that stand for all of it."""
_GRADIENT = 1e-3
"""Of every parameter, where an update is measured."""
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
    step_seconds = gradient_seconds + _update_seconds(state, config, pool)
    parameters, train = state.model.parameters.buffer, config.train
    checkpoint_bytes = sum(vector.nbytes for vector in state.vectors) + _SMALL_FILES_A_PIECE * config.model.vocab_size
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
            dropout, again = RandomStream(config.run.seed, "dropout", step + 1), config.train.activation_checkpointing
            gradient = pool.gradients(state.model, now, dropout, activation_checkpointing=again).gradient
            global_norm(gradient)
        times.append(time.perf_counter() - begin)
        tokens += now.input_ids.size if now.attention_mask is None else int(now.attention_mask.sum())
        if len(times) == 1:
            to_the_end = (steps - state.step) * times[0] if steps is not None else seconds_left or 0.0
            seconds = min(_LONGEST, _SHARE * to_the_end)
            calls = min(_MOST_CALLS, max(_FEWEST_CALLS, int(seconds / times[0])))
            calls = pool.ranks.broadcast(calls)
    return median(times[_WARM_UP:]), tokens / len(times)


def _update_seconds(state: TrainingState, config: Config, pool: ShardPool) -> float:
    """The time of an update, from those of its pieces, on copies of a few megabytes."""
    settings, parameters = optimizer_settings(config.optimizer), state.model.parameters.buffer
    seconds = 0.0
    for piece, times in _pieces(state.optimizer.layout, settings, pool.threads):
        theta = np.resize(parameters[: length(piece)], length(piece))
        gradients, kept, measured = np.full_like(theta, _GRADIENT), optimizer.fresh(theta, piece, settings), []
        for _ in range(_FEWEST_CALLS):
            begin = time.perf_counter()
            optimizer.update(theta, gradients, kept, settings, step=1, lr=0.0, threads=pool.threads, run=pool.each)
            measured.append(time.perf_counter() - begin)
        seconds += times * median(measured)
    return seconds


def _pieces(layout: Layout, settings: Settings, threads: int) -> list[tuple[Layout, float]]:
    """What an update is measured by, and how many times each is in it.

    Of the tensors that can be cut anywhere, a stretch; of those that are updated as a whole, one of each shape for each
    thread, a large table of it only in part: but a matrix between hidden states costs more than its elements.
    """
    whole = OPTIMIZERS[settings.name].whole
    pieces: list[tuple[Layout, float]] = []
    if cut := [tensor for tensor in layout if not whole(tensor)]:
        size = sum(tensor.stop - tensor.start for tensor in cut)
        sample = min(size, _PIECE)
        pieces.append((packed([cut[0]._replace(shape=(sample,))]), size / sample))
    shapes = Counter((tensor.shape, tensor.hidden_matrix) for tensor in layout if whole(tensor))
    for (shape, hidden), count in shapes.items():
        rows = shape[0] if hidden else min(shape[0], max(1, _PIECE // math.prod(shape[1:])))
        like = next(tensor for tensor in layout if tensor.shape == shape and tensor.hidden_matrix == hidden)
        sample_shape = (rows, *shape[1:])
        each = packed(like._replace(name=f"{thread}", shape=sample_shape) for thread in range(threads))
        pieces.append((each, count / threads * shape[0] / rows))
    return pieces


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
