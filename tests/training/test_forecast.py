"""What a training is said to cost, and that asking changes nothing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.model.bert import MiniBERT
from mini_bert.reports.forecast import lines
from mini_bert.training import forecast as forecast_module
from mini_bert.training.forecast import Forecast, forecast
from mini_bert.training.memory import estimate_training_bytes
from mini_bert.training.parallel import ShardPool
from mini_bert.training.ranks import Ranks
from mini_bert.training.step import TrainingState


def config_of(**changes: object) -> Config:
    settings = {"train.steps": 100, "train.save_every": 40, "train.evaluate_every": 30}
    return load_config(["training/debugging"], settings | {k.replace("__", "."): v for k, v in changes.items()})


class Batches:
    """Random batches, and which were asked for."""

    def __init__(self, config: Config) -> None:
        self.shape = config.train.batch_size, config.model.max_position_embeddings
        self.pieces = config.model.vocab_size
        self.asked: list[int] = []

    def __call__(self, step: int) -> Batch:
        self.asked.append(step)
        rng = np.random.default_rng(step)
        ids = rng.integers(5, self.pieces, self.shape).astype(np.int32)
        positions = np.flatnonzero(rng.random(self.shape) < 0.15)
        return Batch(ids, masked_positions=positions, target_ids=ids.reshape(-1)[positions])


def started(config: Config, step: int = 0) -> TrainingState:
    state = TrainingState.fresh(MiniBERT(config.model, seed=3))
    rng = np.random.default_rng(1)
    for vector in state.optimizer.values():
        vector[...] = rng.random(vector.size)
    state.step = step
    return state


def asked(config: Config, state: TrainingState, tmp_path, batches=None, **given) -> Forecast:
    options = {"run": tmp_path / "not" / "yet", "rows_per_epoch": 1000, "steps": config.train.steps} | given
    with ShardPool(1, config.train.shards) as pool:
        return forecast(state, config, batches or Batches(config), pool, **options)


def test_nothing_in_the_state_changes(tmp_path):
    config = config_of(model__hidden_dropout_prob=0.1)
    state = started(config, step=7)
    vectors = (state.model.parameters.buffer, *state.optimizer.values())
    before = [vector.tobytes() for vector in vectors]
    batches = Batches(config)
    asked(config, state, tmp_path, batches)
    assert [vector.tobytes() for vector in vectors] == before
    assert state.step == 7
    assert batches.asked == list(range(7, 7 + len(batches.asked)))
    assert len(batches.asked) >= 5


def test_what_is_added_up(tmp_path, monkeypatch):
    """With a step of one second, an evaluation of ten and a checkpoint of a hundred."""
    config = config_of()
    state = started(config)
    monkeypatch.setattr(forecast_module, "_gradient_seconds", lambda *anything: (0.75, 250.0))
    monkeypatch.setattr(forecast_module, "_update_seconds", lambda *anything: 0.25)
    first = asked(config, state, tmp_path)
    monkeypatch.setattr(forecast_module, "_SAVED_A_SECOND", first.checkpoint_bytes / 100)

    found = asked(config, state, tmp_path, evaluation_seconds=10.0)
    assert found.seconds == pytest.approx(100 * 1 + 4 * 10 + 3 * 100)  # at 30, 60, 90, 100; at 40, 80, 100
    assert (found.steps, found.first_step, found.step_seconds) == (100, 0, 1.0)
    assert (found.tokens, found.epochs) == (25_000, 100 * 8 / 1000)
    assert found.parameters == state.model.parameters.buffer.size

    state.step = 60
    found = asked(config, state, tmp_path, evaluation_seconds=10.0)
    assert found.seconds == pytest.approx(40 * 1 + 2 * 10 + 2 * 100)  # at 90, 100; at 80, 100
    assert (found.tokens, found.first_step) == (10_000, 60)

    state.step = 100
    assert asked(config, state, tmp_path, evaluation_seconds=10.0).seconds == 0


def test_minutes_become_steps(tmp_path, monkeypatch):
    config = config_of(train__steps=None, train__minutes=10, train__save_every=10**6)
    monkeypatch.setattr(forecast_module, "_gradient_seconds", lambda *anything: (0.75, 250.0))
    monkeypatch.setattr(forecast_module, "_update_seconds", lambda *anything: 0.25)
    found = asked(config, started(config), tmp_path, steps=None, seconds_left=100.5, evaluation_seconds=10.0)
    assert found.steps == 70  # and evaluations at 30, 60, 70
    assert found.seconds <= 100.5
    assert asked(config, started(config), tmp_path, steps=None, seconds_left=-5.0).steps == 1


def test_memory_and_disk(tmp_path):
    config = config_of(train__keep_checkpoints=3, run__threads=1)
    found = asked(config, started(config), tmp_path)
    assert found.memory_bytes >= estimate_training_bytes(config, in_flight=1)
    assert found.memory_available is None or found.memory_available > found.memory_bytes
    assert found.in_flight == 1
    assert found.checkpoint_bytes > 12 * found.parameters
    assert found.disk_bytes == 5 * found.checkpoint_bytes  # three, the best, and the one being written
    assert found.disk_free > 0


def test_a_gradient_that_overflows_is_no_reason_to_fail(tmp_path):
    config = config_of()
    state = started(config)
    state.model.parameters.buffer[...] = 1e30
    assert asked(config, state, tmp_path).step_seconds > 0


def test_the_measured_time_is_that_of_batch_gradient_and_update(tmp_path, monkeypatch):
    """On a clock that advances only when something is done."""
    config = config_of()
    state, now = started(config), 0.0

    def taking(seconds, function):
        def slow(*arguments, **options):
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr(forecast_module.time, "perf_counter", lambda: now)
    monkeypatch.setattr(ShardPool, "gradients", taking(3.0, ShardPool.gradients))
    monkeypatch.setattr(forecast_module.optimizer, "update", taking(0.5, forecast_module.optimizer.update))
    found = asked(config, state, tmp_path, batches=taking(0.25, Batches(config)))
    assert found.step_seconds == pytest.approx(3.75)


def test_every_rank_makes_the_calls_that_the_first_one_decides_on(tmp_path):
    class Second(Ranks):
        """What the second of two ranks is told."""

        size, rank = 2, 1

        def __init__(self) -> None:
            self.told: list[object] = []

        def broadcast(self, value):
            self.told.append(value)
            return 9 if isinstance(value, int) else value._replace(steps=123)

    config = config_of()
    state, batches, ranks = started(config), Batches(config), Second()
    with ShardPool(1, config.train.shards) as pool, ShardPool(1, config.train.shards) as alone:
        pool.ranks, pool.gradients = ranks, alone.gradients  # the first rank is not there to add its own
        found = forecast(state, config, batches, pool, run=tmp_path, rows_per_epoch=1000, steps=100)
    assert found.steps == 123
    assert len(batches.asked) == 9
    assert len(ranks.told) == 2


def test_nothing_of_the_size_of_the_state_is_copied(tmp_path):
    config = config_of(model__vocab_size=120_000, train__batch_size=4)
    state = started(config)
    with ShardPool(1, config.train.shards) as pool:
        given = {"run": tmp_path, "rows_per_epoch": 1000, "steps": 100}
        batches = Batches(config)
        pool.gradients(state.model, batches(0))
        tracemalloc.start()
        pool.gradients(state.model, batches(0))
        of_a_gradient = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        forecast(state, config, batches, pool, **given)
        assert tracemalloc.get_traced_memory()[1] < of_a_gradient + 0.5 * state.model.parameters.buffer.nbytes
        tracemalloc.stop()


def test_lines_say_it():
    found = Forecast(
        parameters=2_966_144,
        step_seconds=0.21,
        first_step=1000,
        steps=3000,
        seconds=450.0,
        tokens=8_192_000,
        epochs=8.2,
        memory_bytes=321_000_000,
        memory_available=23_700_000_000,
        in_flight=2,
        checkpoint_bytes=36_300_000,
        disk_bytes=145_000_000,
        disk_free=78_600_000_000,
    )
    assert lines(found) == [
        "parameters  2,966,144",
        "memory      321 MB of 23.7 GB, 2 shards at once",
        "to be read  8,192,000 tokens, 8.2 epochs",
        "to the end  7.5 min: 2,000 steps of 210 ms",
        "disk        145 MB of 78.6 GB, 36 MB a checkpoint",
    ]
    assert lines(found._replace(memory_available=None, in_flight=1))[1] == "memory      321 MB, 1 shard at once"
