"""How many steps fit into so many minutes? Asked once, before step 1, by timing steps that are thrown away.

Schedule and resume know only steps, so that a slower hour or a resume cannot change the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.optim import adamw
from mini_bert.training.parallel import ShardPool
from mini_bert.training.step import TrainingState, training_step

_WARM_UP = 2
_FEWEST = 3
_SHARE = 0.02
"""Of the budget, what is spent on timing; 20 seconds at most."""


def seconds_a_step(state: TrainingState, config: Config, batch: Callable[[int], Batch], pool: ShardPool) -> float:
    """The median time of some steps on a copy of `state`, batches included."""
    copy = copy_of(state)
    minutes = config.train.minutes or 0.0
    end = time.perf_counter() + min(20.0, 60.0 * minutes * _SHARE)
    times: list[float] = []
    while len(times) < _WARM_UP + _FEWEST or time.perf_counter() < end:
        begin = time.perf_counter()
        training_step(copy, batch(copy.step), config, copy.step + 1, pool)
        times.append(time.perf_counter() - begin)
    return median(times[_WARM_UP:])


def steps_that_fit(seconds: float, step_seconds: float, evaluation_seconds: float, evaluate_every: int) -> int:
    """The most steps whose time, with an evaluation every so many and at the end, is within `seconds`; at least 1.

    >>> steps_that_fit(100, 0.1, evaluation_seconds=0, evaluate_every=1000)
    1000
    >>> steps_that_fit(100, 0.1, evaluation_seconds=10, evaluate_every=500)
    800
    >>> steps_that_fit(1, 9, evaluation_seconds=10, evaluate_every=10)
    1
    """
    low, high = 1, max(1, math.floor(seconds / step_seconds + 1e-9))
    while low < high:
        steps = (low + high + 1) // 2
        needed = steps * step_seconds + math.ceil(steps / evaluate_every) * evaluation_seconds
        low, high = (steps, high) if needed <= seconds + 1e-9 else (low, steps - 1)
    return low


def copy_of(state: TrainingState) -> TrainingState:
    """A state of its own with the same numbers in it."""
    parameters = state.model.parameters
    model = MiniBERT.from_parameters(Parameters(parameters.config, buffer=parameters.buffer.copy()))
    return TrainingState(model, adamw.State(state.optimizer.m.copy(), state.optimizer.v.copy()), state.step)
