"""Which learning rate? Raise it step by step on real batches, and look where the loss falls fastest and where it turns.

    η_i = η_first · (η_last / η_first)^(i / (n − 1))             i = 0 … n − 1        (LRF.1)
    s_i = Σ_j β^(i−j) ℓ_j / Σ_j β^(i−j)                          j = 0 … i            (LRF.2)
    x_i = the same average of log η_j                                                 (LRF.3)
    slope_i = (s_(i+k) − s_(i−k)) / (x_(i+k) − x_(i−k))                               (LRF.4)

Everything happens on a copy of the state: training's own parameters, moments and counters are only read. A step of the
finder is a step of the training, with its batches, shards, clipping and optimiser; only the rate is another.

Source: Smith 2017, Cyclical learning rates for training neural networks, section 3.3. Differs: the rate rises by
factors, not by amounts (as in fastai), and the average of the rates goes with that of the losses, without which the
curve lags behind. Derivation: docs/derivations/lr_finder.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.data.tokens import TokenCorpus
from mini_bert.errors import InvalidInputError
from mini_bert.machine import available_cores
from mini_bert.model.tasks import with_task_heads
from mini_bert.training.course import Course, from_checkpoint, from_nothing
from mini_bert.training.material import RunningText
from mini_bert.training.memory import choose_in_flight, require_room
from mini_bert.training.parallel import ShardPool
from mini_bert.training.ranks import ALONE
from mini_bert.training.resuming import Beginning
from mini_bert.training.step import StepResult, TrainingState, training_step

DIVERGED = 1.0
"""Nats above the lowest smoothed loss at which the search ends."""
FAR_ENOUGH = 6.0
"""Standard errors of the smoothed loss by which it must fall; many, for the lowest of all points is looked at."""
BELOW_THE_TURN = 10.0
_HIGHEST = 1e9
_AVERAGED = 20
"""The average (LRF.2) reaches back over one step in so many."""


class Point(NamedTuple):
    """One step of the search."""

    lr: float
    loss: float
    """Of its batch, before the update with this rate; nats a masked token."""
    smoothed_lr: float
    """exp of (LRF.3)"""
    smoothed_loss: float
    """(LRF.2)"""


class Proposal(NamedTuple):
    """What the curve says."""

    lr: float | None
    """The rate that is proposed; None: none can be told from this curve."""
    reason: str
    """Why, in a sentence."""
    steepest: float | None = None
    """Where the smoothed loss falls fastest."""
    lowest: float | None = None
    """Where the smoothed loss is lowest."""
    turned: bool = False
    """Whether the loss rose again behind its lowest point."""


class LearningRateCurve(NamedTuple):
    """What a search found."""

    points: list[Point]
    stopped: str
    """Why it ended where it did."""
    proposal: Proposal


def search(config: Config, tokens: TokenCorpus, checkpoint: Path | None = None, **options: Any) -> LearningRateCurve:
    """As `find_learning_rate`, for the training that `config` describes; nothing is written.

    Args:
        config: `train.in_flight` and `run.threads` are as for a training.
        tokens: the tokenised corpus.
        checkpoint: look on from here; None: before step 1.
        options: first, last, steps, told.

    Raises:
        InvalidInputError: as `find_learning_rate`.
        CheckpointError: the checkpoint does not hold.
        ConfigError: too little memory, or settings that are not those of the checkpoint.
        DataError: texts or vocabulary are not those of the checkpoint.
    """
    config = with_task_heads(config)
    threads = config.run.threads or available_cores()
    in_flight = choose_in_flight(config, threads)
    require_room(config, in_flight)
    with ShardPool(threads, config.train.shards, in_flight=in_flight) as pool:
        course = _course(config, tokens, checkpoint, pool)

        def batch(step: int) -> Batch:
            return course.stream.batch(step + course.health.batch_offset, course.masking_rate(step))

        return find_learning_rate(course.state, course.config, batch, pool, **options)


def _course(config: Config, tokens: TokenCorpus, checkpoint: Path | None, pool: ShardPool) -> Course:
    if checkpoint is None:
        return from_nothing(config, Path(config.run.directory), RunningText(tokens), pool, ALONE)
    return from_checkpoint(config, checkpoint.parent, Beginning(checkpoint), RunningText(tokens), pool, ALONE)[0]


def find_learning_rate(
    state: TrainingState,
    config: Config,
    batch: Callable[[int], Batch],
    pool: ShardPool,
    *,
    first: float = 1e-6,
    last: float = 1.0,
    steps: int = 200,
    told: Callable[[int, Point], None] = lambda done, point: None,
) -> LearningRateCurve:
    """Raise the rate from `first` to `last` on a copy of `state`, an update a batch, until the loss diverges.

    Args:
        state: before step 1, or of a training under way; it stays as it is, to the bit.
        config: of the training: optimiser, clipping, dropout and seed are its own; its schedule and rate are not used.
        batch: batch by number; the first one is that of the state's next step.
        pool: threads, shards and how many of them are in flight.
        first: the lowest rate.
        last: the highest.
        steps: updates between them.
        told: hears of each step, and how many are done.

    Raises:
        InvalidInputError: the rates do not rise from above 0, or there are fewer than 10 steps.
    """
    if not 0.0 < first < last <= _HIGHEST:
        expected = f"rates above 0 that rise, up to {_HIGHEST:g}"
        raise InvalidInputError("--from, --to", got=f"{first:g} to {last:g}", expected=expected)
    if steps < 10:
        raise InvalidInputError("--steps", got=steps, expected="at least 10")
    tried, plain = copy.deepcopy(state), _at_a_rate_of_its_own(config)
    beta, points = smoothing(steps), list[Point]()
    average_loss, average_log, lowest = _Average(beta), _Average(beta), math.inf
    for done in range(1, steps + 1):
        lr = rate(done - 1, first, last, steps)
        result = training_step(tried, batch(tried.step), plain, state.step + steps, pool, lr)
        if result.skipped:
            return _curve(points, f"loss or gradient were not finite at {lr:.2g}", steps)
        points.append(_point(lr, result, average_loss, average_log))
        told(done, points[-1])
        smoothed = points[-1].smoothed_loss
        if done > 1 / (1 - beta) and smoothed > lowest + DIVERGED:
            return _curve(points, f"the loss rose {DIVERGED:g} nat above its lowest at {lr:.2g}", steps)
        lowest = min(lowest, smoothed)
    return _curve(points, f"{last:g} was reached", steps)


def rate(number: int, first: float, last: float, steps: int) -> float:
    """The rate of step `number`, from 0, of `steps` (LRF.1)."""
    return first * (last / first) ** (number / (steps - 1))


def smoothing(steps: int) -> float:
    """β of (LRF.2): the average reaches back over a twentieth of the steps."""
    return max(0.0, 1.0 - _AVERAGED / steps)


def propose(points: list[Point], steps: int) -> Proposal:
    """The rate that a curve speaks for.

    A tenth of the rate at which the loss is lowest, where it turns behind that: there updates undo each other, and one
    rate has to serve for a whole training, at whose end the valley is narrower. Where the curve ends before it turns,
    the lowest point says only how far it was looked, and the rate of steepest descent is proposed.
    """
    beta = smoothing(steps)
    begin = math.ceil(1 / (1 - beta))  # before, the average is of too few
    if len(points) < 2 * begin + 2:
        return Proposal(None, "The search ended before there was a curve: begin with a lower rate.")
    settled = points[begin:]
    lowest = min(range(len(settled)), key=lambda i: settled[i].smoothed_loss)
    error = _standard_error(points, beta)
    fall = settled[0].smoothed_loss - settled[lowest].smoothed_loss
    turned = max(point.smoothed_loss for point in settled[lowest:]) > settled[lowest].smoothed_loss + FAR_ENOUGH * error
    if fall < FAR_ENOUGH * error:
        return Proposal(
            None,
            f"The loss fell by {fall:.3f} nats, which batches alone can do (standard error {error:.3f}): take more "
            "steps, or larger batches.",
            turned=turned,
        )
    at_lowest = settled[lowest].smoothed_lr
    steepest = _steepest(settled[: lowest + 1], max(1, begin // 2))
    if turned:
        reason = f"A tenth of {at_lowest:.2g}, where the loss was lowest before it rose again."
        return Proposal(at_lowest / BELOW_THE_TURN, reason, steepest, at_lowest, True)
    reason = "Where the loss falls fastest; it has not risen again, so the highest rate that works was not found."
    return Proposal(steepest, reason, steepest, at_lowest, False)


class _Average:
    """A running average whose weights β^(i−j) add up to 1 (LRF.2)."""

    def __init__(self, beta: float) -> None:
        self._beta, self._sum, self._weights = beta, 0.0, 0.0

    def of(self, value: float) -> float:
        """The average with `value` in it."""
        self._sum = self._beta * self._sum + value
        self._weights = self._beta * self._weights + 1.0
        return self._sum / self._weights


def _point(lr: float, result: StepResult, loss: _Average, log: _Average) -> Point:
    return Point(lr, result.loss, math.exp(log.of(math.log(lr))), loss.of(result.loss))


def _curve(points: list[Point], stopped: str, steps: int) -> LearningRateCurve:
    return LearningRateCurve(points, stopped, propose(points, steps))


def _at_a_rate_of_its_own(config: Config) -> Config:
    """`config` with a schedule that is 1 throughout: the factor of each step is then its rate."""
    constant = {"schedule": "constant", "lr": 1.0, "warmup_ratio": 0.0, "warmup_steps": None}
    return config.model_copy(update={"train": config.train.model_copy(update=constant)})


def _standard_error(points: list[Point], beta: float) -> float:
    """Of a smoothed loss: neighbouring losses differ by √2 times the spread of one, and the average has less."""
    half = points[: max(3, len(points) // 2)]  # where rates are low, nothing but the batches differs
    squares = [(after.loss - before.loss) ** 2 / 2 for before, after in pairwise(half)]
    return math.sqrt(sum(squares) / len(squares) * (1 - beta) / (1 + beta))


def _steepest(points: list[Point], reach: int) -> float | None:
    """The rate at which the smoothed loss falls fastest in log η (LRF.4)."""
    inner = range(reach, len(points) - reach)
    if not inner:
        return points[-1].smoothed_lr

    def slope(i: int) -> float:
        before, after = points[i - reach], points[i + reach]
        return (after.smoothed_loss - before.smoothed_loss) / math.log(after.smoothed_lr / before.smoothed_lr)

    return points[min(inner, key=slope)].smoothed_lr
