"""Is a number that is not finite found at its step, under its name, and kept out? One is put everywhere (R13)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.random_streams import RandomStream
from mini_bert.training.health import Health
from mini_bert.training.parallel import ShardPool, ShardSum
from mini_bert.training.step import TrainingState, training_step
from mini_bert.verification.reliability import faults
from mini_bert.verification.reliability.faults import Fault
from mini_bert.verification.reliability.promise import Outcome, Scale

_MASKED = 5
"""Masked pieces in each row of the made-up batches."""
_STEPS = (1, 4, 9)
"""Where faults are put: in the warm-up, at its end, and behind it."""


class _Injection(NamedTuple):
    """A fault, and what has to be said of it."""

    says: str
    step: int
    within: Callable[[TrainingState], AbstractContextManager[Any]]
    expected: dict[str, Any]
    fault: Fault | None = None


def bad_numbers(scale: Scale, folder: Path) -> Outcome:
    """NaN and infinity in every intermediate and gradient, in parameters, in summed gradients and in the loss."""
    outcome = Outcome()
    config = load_config(["training/debugging"], {"train.steps": 10, "model.hidden_dropout_prob": 0.1})
    states = _states(config)
    injections = list(_injections(config))
    chosen = injections if not scale.quick else injections[:: len(injections) // 12]
    with ShardPool(2, config.train.shards) as pool:
        for number, injection in enumerate(chosen, 1):
            outcome.count(*_survives(injection, states[injection.step], config, pool))
            scale.told(number, len(chosen))
    return outcome


def _injections(config: Config) -> Iterator[_Injection]:
    names = _intermediates(config)
    draws = RandomStream(13, "injections").uniform(2 * len(names), 4)
    for number, (name, direction) in enumerate([(name, way) for name in names for way in ("forward", "backward")]):
        for value in (math.nan, math.inf):
            row, step = int(draws[number, 0] * config.train.batch_size), _STEPS[int(draws[number, 1] * len(_STEPS))]
            fault = Fault(name, direction, value, row, float(draws[number, 2]), _MASKED)
            expected = {"name": name, "direction": direction, "kind": _kind(value), "shard": _shard_of(row, config)}
            if name in ("embeddings.position", "embeddings.segment"):  # every shard has it
                fault.row, expected["shard"] = 0, 0
            yield _Injection(
                f"{value} {direction} in {name}",
                step,
                lambda state, f=fault: faults.in_intermediate(f),
                expected,
                fault,
            )
    parameters = list(Parameters(config.model))
    for number, name in enumerate(parameters):
        value, step = (math.nan, math.inf)[number % 2], _STEPS[number % len(_STEPS)]
        said: dict[str, Any] = {"name": name, "kind": _kind(value)}
        yield _Injection(
            f"{value} in the parameter {name}",
            step,
            lambda state, n=name, v=value: _in_parameter(state, n, v),
            {**said, "direction": "parameter"},
        )
        yield _Injection(
            f"{value} in the summed gradient of {name}",
            step,
            lambda state, n=name, v=value: _in_sum(n, v),
            {"name": name, "direction": "backward", "shard": None},
        )
    for value in (math.nan, math.inf):
        for step in _STEPS:
            yield _Injection(
                f"a loss of {value}",
                step,
                lambda state, v=value: faults.in_loss(v),
                {"name": "loss", "direction": "loss", "kind": _kind(value), "shard": 0},
            )


def _survives(injection: _Injection, before: TrainingState, config: Config, pool: ShardPool) -> tuple[bool, str]:
    """Whether a step with the fault did what is promised, and the next one went on; and the sentence if not."""
    state, health = copy.deepcopy(before), Health()
    batch = made_up_batch(config, injection.step)
    with injection.within(state):
        bits = _bits(state)
        result = training_step(state, batch, config, 10, pool)
        unchanged = _bits(state) == bits
    remedy = health.after_step(result, config.health)
    expected = dict(injection.expected)
    if injection.fault is not None:
        expected["rows"] = (injection.fault.row,) if injection.fault.has_rows else ()
    found = {} if result.found is None else {key: getattr(result.found, key) for key in expected}
    told = remedy is not None if expected["direction"] == "parameter" else remedy is None
    after = training_step(state, made_up_batch(config, state.step + 1), config, 10, pool)
    health.after_step(after, config.health)
    wrong = [
        said
        for held, said in (
            (result.skipped and result.step == injection.step, "the update was not skipped"),
            (found == expected, f"found {result.found!r}, expected {expected}"),
            (unchanged, "parameters or moments changed"),
            (told and health.skipped_in_a_row == after.skipped, "it was counted wrongly"),
            (not after.skipped and _bits(state) != bits, "the next step did not go on"),
        )
        if not held
    ]
    return not wrong, f"{injection.says} at step {injection.step}: {'; '.join(wrong)}"


def _states(config: Config) -> dict[int, TrainingState]:
    """The state before each of the chosen steps."""
    state, states = TrainingState.fresh(MiniBERT(config.model)), {}
    with ShardPool(1, config.train.shards) as pool:
        for step in range(1, max(_STEPS) + 1):
            if step in _STEPS:
                states[step] = copy.deepcopy(state)
            training_step(state, made_up_batch(config, step), config, 10, pool)
    return states


def made_up_batch(config: Config, step: int) -> Batch:
    """Rows of random ids in which each row has the same number of masked places."""
    B, T, V = config.train.batch_size, config.model.max_position_embeddings, config.model.vocab_size
    draws = RandomStream(13, "batch", step)
    ids = draws.integers(V, B, T).astype(np.int32)
    places = np.sort(draws.at("places").uniform(B, T).argsort(axis=1)[:, :_MASKED], axis=1)
    positions = (np.arange(B)[:, None] * T + places).reshape(-1)
    return Batch(ids, None, None, positions, ids.reshape(-1)[positions])


def _intermediates(config: Config) -> list[str]:
    model, batch = MiniBERT(config.model), made_up_batch(config, 1)
    _, cache = model.forward(batch.input_ids)
    return list(cache)


def _shard_of(row: int, config: Config) -> int:
    return row * config.train.shards // config.train.batch_size


def _kind(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinity"


def _bits(state: TrainingState) -> tuple[bytes, ...]:
    return tuple(vector.tobytes() for vector in (state.model.parameters.buffer, *state.optimizer.values()))


@contextmanager
def _in_parameter(state: TrainingState, name: str, value: float) -> Iterator[None]:
    view = state.model.parameters[name]
    healthy = view.copy()
    view.flat[0] = value  # one that every batch reads
    yield
    view[...] = healthy


@contextmanager
def _in_sum(name: str, value: float) -> Iterator[None]:
    ordinary = ShardPool.gradients

    def gradients(pool: ShardPool, model: MiniBERT, *rest: Any, **options: Any) -> ShardSum:
        total = ordinary(pool, model, *rest, **options)
        view = Parameters(model.config, buffer=total.gradient)[name]
        view.flat[view.size // 2] = value
        return total

    with mock.patch.object(ShardPool, "gradients", gradients):
        yield
