"""Where a number stopped being finite: is the place that is named the one where it was put?"""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mini_bert.training.step as step_module
from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, TrainConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops import linear
from mini_bert.random_streams import RandomStream
from mini_bert.training.non_finite import NonFinite, _repeat, _Watch, find_non_finite
from mini_bert.training.parallel import ShardPool, ShardSum
from mini_bert.training.step import TrainingState, training_step

V, B, T = 40, 8, 12
CONFIG = ModelConfig(
    vocab_size=V,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=T,
)
DROPOUT = RandomStream(0, "dropout", 1)
OPERATIONS = [
    ("embedding", "forward", 1),
    ("layer_norm", "forward", 2),
    ("layer_norm", "backward", 3),
    ("linear", "forward", 3),
    ("linear", "backward", 2),
    ("softmax", "forward", 2),
    ("softmax", "backward", 1),
    ("dropout", "forward", 4),
    ("dropout", "backward", 2),
    ("attention", "forward", 1),
    ("attention", "backward", 2),
    ("gelu", "forward", 3),
    ("gelu", "backward", 1),
    ("cross_entropy", "forward", 1),
    ("cross_entropy", "backward", 1),
]


def batch_of(counts: tuple[int, ...] = (3, 1, 2, 1, 0, 0, 3, 5)) -> Batch:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, V, (B, T)).astype(np.int32)
    positions = np.concatenate([b * T + np.sort(rng.choice(T, n, replace=False)) for b, n in enumerate(counts)])
    return Batch(ids, None, None, positions.astype(np.int64), rng.integers(5, V, positions.size))


def spoiling(function: Callable[..., Any], call: int, value: float) -> Callable[..., Any]:
    """`function`, whose first result has one bad number in call number `call`; to a traceback it is `function`."""
    calls = [0]

    def spoiled(*arguments: Any, **constants: Any) -> Any:
        result = function(*arguments, **constants)
        calls[0] += 1
        if calls[0] == call:
            result[0].flat[0] = value
            assert not np.isfinite(result[0]).all()
        return result

    spoiled.__code__ = spoiled.__code__.replace(co_filename=function.__code__.co_filename)
    return spoiled


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("op", "way", "call"), OPERATIONS)
def test_operation_that_made_the_number_is_named(
    monkeypatch: pytest.MonkeyPatch, op: str, way: str, call: int, value: float
) -> None:
    module = importlib.import_module(f"mini_bert.ops.{op}")
    monkeypatch.setattr(module, way, spoiling(getattr(module, way), call, value))
    found = find_non_finite(MiniBERT(CONFIG), batch_of(), DROPOUT, 4)
    assert found.op == f"ops/{op}.py"
    assert found.kind == ("NaN" if np.isnan(value) else "infinity")
    assert found.shard == 0
    assert found.direction == ("loss" if (op, way) == ("cross_entropy", "forward") else way)


def test_names_of_the_list_are_those_of_the_operations_that_exist() -> None:
    """What a step of the ordinary model goes through; erf is inside of gelu."""
    assert {op for op, _, _ in OPERATIONS} == {
        "embedding", "layer_norm", "linear", "softmax", "dropout", "attention", "gelu", "cross_entropy",
    }  # fmt: skip
    for op, way, _ in OPERATIONS:
        assert isinstance(getattr(importlib.import_module(f"mini_bert.ops.{op}"), way), types.FunctionType)


@pytest.mark.parametrize(
    ("parameter", "factor", "expected"),
    [
        ("W1_0", 1e25, NonFinite("layer_0.feed_forward.activation", "forward", "overflow", "ops/gelu.py", 0)),
        ("W1_1", 1e25, NonFinite("layer_1.feed_forward.activation", "forward", "overflow", "ops/gelu.py", 0)),
        ("W_mlm", 1e25, NonFinite("mlm.activation", "forward", "overflow", "ops/gelu.py", 0)),
        ("gamma_mlm", 3e38, NonFinite("mlm.output", "forward", "overflow", "ops/layer_norm.py", 0, (0, 1))),
        ("gamma_embeddings", 1e22, NonFinite("layer_0.attention.scores", "forward", "overflow", "ops/attention.py", 0)),
        ("gamma2_0", 3e38, NonFinite("layer_0.output", "forward", "overflow", "ops/layer_norm.py", 0, (0, 1))),
    ],
)
def test_an_overflow_is_named_by_what_was_being_computed(parameter: str, factor: float, expected: NonFinite) -> None:
    """Rows are told where the unfinished value, computed without raising, has such numbers."""
    model = MiniBERT(CONFIG)
    model.parameters[parameter][...] *= factor
    found = find_non_finite(model, batch_of(), None, 4)
    assert found._replace(rows=expected.rows) == expected
    if expected.rows:
        assert found.rows == expected.rows


@pytest.mark.parametrize(
    ("factor", "name"), [(1e25, "layer_1.attention.sum"), (1e30, "layer_1.feed_forward.sum"), (1e36, "mlm.activation")]
)
def test_a_gradient_that_overflows_is_named_as_one(factor: float, name: str) -> None:
    """Forward, LayerNorm divides out how large the embeddings are; backward, the tied decoder multiplies by them."""
    model = MiniBERT(CONFIG)
    model.parameters["token_embeddings"][...] *= np.float32(factor)
    found = find_non_finite(model, batch_of(), None, 4)
    assert found == NonFinite(name, "backward", "overflow", "ops/layer_norm.py", 0, (0, 1))


def test_shards_are_repeated_in_order_and_empty_ones_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shard 2 has no masked piece; its rows do not count. The token 7 is in rows 6 and 3 alone."""
    batch = batch_of()
    batch.input_ids[batch.input_ids == 7] = 8
    for row in (5, 6):
        batch.input_ids[row, 0] = 7
    ordinary = step_module.find_non_finite  # the real one
    from mini_bert.ops import embedding

    whole = embedding.forward

    def forward(table: Any, *, ids: Any) -> Any:
        value, saved = whole(table, ids=ids)
        value[ids == 7] = np.nan
        return value, saved

    monkeypatch.setattr(embedding, "forward", forward)
    found = ordinary(MiniBERT(CONFIG), batch, None, 4)
    assert (found.name, found.shard, found.rows) == ("embeddings.token", 3, (6,))
    found = ordinary(MiniBERT(CONFIG), batch, None, 2)
    assert (found.shard, found.rows) == (1, (5, 6))


@pytest.mark.parametrize(("call", "name"), [(1, "W_mlm"), (2, "W2_1"), (3, "W1_1"), (4, "W_O_1"), (7, "W_O_0")])
def test_a_gradient_of_a_parameter_alone_is_named(monkeypatch: pytest.MonkeyPatch, call: int, name: str) -> None:
    """What flows on from there is finite."""
    ordinary, calls = linear.backward, [0]

    def backward(*arguments: Any) -> Any:
        dx, dW, db = ordinary(*arguments)
        calls[0] += 1
        dW[-1, 0] = np.inf if calls[0] == call else dW[-1, 0]
        dx.flat[0] = np.nan if calls[0] == call + 1 else dx.flat[0]  # what comes later does not hide it
        return dx, dW, db

    backward.__code__ = backward.__code__.replace(co_filename=ordinary.__code__.co_filename)
    monkeypatch.setattr(linear, "backward", backward)
    found = find_non_finite(MiniBERT(CONFIG), batch_of(), None, 4)
    assert found == NonFinite(name, "backward", "infinity", "ops/linear.py", 0)


def test_the_last_gradient_of_all_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last tap."""
    ordinary = Parameters._name_structure

    def spoiled(self: Parameters) -> None:
        ordinary(self)

        class Spoiled(np.ndarray):
            def __iadd__(self, other: Any) -> Any:
                np.ndarray.__iadd__(self, other)
                np.asarray(self)[0] = np.nan
                return self

        self.embeddings = dataclasses.replace(
            self.embeddings, segment_embeddings=self.embeddings.segment_embeddings.view(Spoiled)
        )

    monkeypatch.setattr(Parameters, "_name_structure", spoiled)
    found = find_non_finite(MiniBERT(CONFIG), batch_of(), None, 4)
    assert (found.name, found.direction, found.kind) == ("segment_embeddings", "backward", "NaN")


def test_the_repetition_computes_what_the_step_computed() -> None:
    """To the bit, so that it cannot miss what the step met."""
    model, batch = MiniBERT(CONFIG), batch_of()
    expected, got = Parameters(CONFIG), Parameters(CONFIG)
    model.mlm_loss_and_gradients(batch, expected, DROPOUT)
    names: list[tuple[str, str]] = []

    class Watch(_Watch):
        def _look(self, name: str, direction: Any, value: Any) -> Any:
            names.append((direction, name))
            return super()._look(name, direction, value)

    _repeat(model, batch, DROPOUT, got, _Watch(batch, got))
    _repeat(model, batch, DROPOUT, got, Watch(batch, got))
    assert got.buffer.tobytes() == expected.buffer.tobytes()
    _, cache = model.forward(batch.input_ids)
    assert [name for direction, name in names if direction == "forward"] == list(cache)
    assert {name for direction, name in names if direction == "backward"} == set(cache)


@pytest.mark.parametrize("name", ["W_Q_0", "b_vocabulary", "token_embeddings", "gamma2_1"])
def test_a_parameter_is_found_before_anything_is_computed(name: str) -> None:
    model = MiniBERT(CONFIG)
    model.parameters[name].flat[-1] = np.inf
    assert find_non_finite(model, batch_of(), None, 4) == NonFinite(name, "parameter", "infinity")


def test_a_norm_or_a_sum_that_overflows_is_found_in_the_sum_of_the_shards() -> None:
    model = MiniBERT(CONFIG)
    gradient = np.ones_like(model.parameters.buffer)
    views = Parameters(CONFIG, buffer=gradient)
    views["W2_1"].flat[3] = 1e20
    views["W_K_0"].flat[3] = -3e20
    assert find_non_finite(model, batch_of(), None, 4, gradient=gradient) == NonFinite(
        "W_K_0", "backward", "overflow", "optim/clipping.py"
    )
    views["W2_1"].flat[3] = np.inf
    assert find_non_finite(model, batch_of(), None, 4, gradient=gradient) == NonFinite(
        "W2_1", "backward", "overflow", "training/parallel.py"
    )


def test_what_is_not_there_again_is_said_to_be_so() -> None:
    model = MiniBERT(CONFIG)
    for gradient in (None, np.ones_like(model.parameters.buffer)):
        found = find_non_finite(model, batch_of(), DROPOUT, 4, gradient=gradient)
        assert found == NonFinite("loss", "loss", "NaN", again=False)
    assert str(found) == "NaN in loss, not there when the batch was repeated."


def test_sentences() -> None:
    place = NonFinite("layer_1.output", "backward", "infinity", "ops/linear.py", 2, tuple(range(4, 10)))
    assert str(place) == (
        "infinity in the gradient of layer_1.output, made by ops/linear.py, shard 2, rows 4, 5, 6, 7 and 2 more of the "
        "batch."
    )
    assert str(NonFinite("W_Q_0", "parameter", "NaN")) == "NaN in the parameter W_Q_0."


def test_nothing_is_changed_and_the_same_is_found_again() -> None:
    model = MiniBERT(CONFIG)
    model.parameters["W1_1"][...] *= 1e25
    before = model.parameters.buffer.copy()
    found = [find_non_finite(model, batch_of(), DROPOUT, 4) for _ in range(2)]
    assert found[0] == found[1]
    np.testing.assert_array_equal(model.parameters.buffer, before)


# --- within a training step


def config_of(**train: Any) -> Config:
    return Config(model=CONFIG, train=TrainConfig(batch_size=B, **train))


def test_a_step_that_is_finite_looks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "find_non_finite", lambda *_, **__: pytest.fail("looked"))
    with ShardPool(2) as pool:
        result = training_step(TrainingState.fresh(MiniBERT(CONFIG)), batch_of(), config_of(), 10, pool)
    assert not result.skipped
    assert result.found is None


def test_a_finite_gradient_whose_norm_overflows_is_skipped_and_named() -> None:
    class Pool(ShardPool):
        def gradients(self, *arguments: Any, **options: Any) -> ShardSum:
            total = super().gradients(*arguments, **options)
            Parameters(CONFIG, buffer=total.gradient)["W_V_1"][...] = 3e19
            return total

    state = TrainingState.fresh(MiniBERT(CONFIG))
    before = state.model.parameters.buffer.copy()
    with Pool(1) as pool:
        result = training_step(state, batch_of(), config_of(), 10, pool)
    assert result.skipped
    assert result.found is not None
    assert (result.found.name, result.found.kind) == ("W_V_1", "overflow")
    np.testing.assert_array_equal(state.model.parameters.buffer, before)
    assert not state.optimizer["m"].any()


def test_learning_rate_is_scaled_to_the_bit() -> None:
    rates, buffers = [], []
    for lr, scale in ((1e-3, 0.25), (0.25e-3, 1.0), (1e-3, 1.0)):
        state = TrainingState.fresh(MiniBERT(CONFIG))
        with ShardPool(1) as pool:
            result = training_step(
                state, batch_of(), config_of(lr=lr, warmup_ratio=0.0, schedule="constant"), 10, pool, scale
            )
        rates.append(result.lr)
        buffers.append(state.model.parameters.buffer.tobytes())
    assert rates == [0.25e-3, 0.25e-3, 1e-3]
    assert buffers[0] == buffers[1] != buffers[2]
