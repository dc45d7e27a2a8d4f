"""Every bad input is refused by name, with what was got and what was expected; the others have a defined result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, IDS, MASK, TYPES, small_bert

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops.cross_entropy import mlm_cross_entropy


def refuses(call: Callable[[], Any], argument: str, got: str, expected: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call()
    error = caught.value
    assert error.argument == argument
    assert got in str(error.got)
    assert expected in error.expected
    assert str(error).startswith(f"{argument}: got ")


def changed(array: Any, place: tuple[int, ...], value: Any) -> Any:
    copy = np.array(array)
    copy[place] = value
    return copy


@pytest.mark.parametrize(
    ("ids", "got", "expected"),
    [
        (changed(IDS, (1, 2), -1), "-1", "0 to 12"),
        (changed(IDS, (1, 2), 13), "13", "0 to 12 (V = 13)"),
        (changed(IDS.astype(np.uint16), (0, 0), 65535), "65535", "0 to 12"),
        (IDS.astype(float), "float64", "integers"),
        (IDS.astype(bool), "bool", "integers"),
        (IDS.astype(str), "<U", "integers"),
        ([[2, None]], "object", "integers"),
        (None, "object", "integers"),
        ([[2, 5], [2]], "unequal lengths", "full array"),
        ([[2**70]], "object", "integers"),
        (IDS[0], "[6]", "[B, T]"),
        (IDS[None], "[1, 3, 6]", "[B, T]"),
        (5, "[]", "[B, T]"),
        (IDS[:0], "[0, 6]", "at least one row"),
        (IDS[:, :0], "[3, 0]", "at least one token"),
        ([], "float64", "integers"),
        (np.full((1, 8), 5), "T = 8", "at most 7"),
    ],
)
def test_ids(ids: Any, got: str, expected: str) -> None:
    model = small_bert()
    refuses(lambda: model.forward(ids), "input_ids", got, expected)
    refuses(lambda: model.encode(ids), "input_ids", got, expected)
    refuses(lambda: model.mlm_logits(Batch(ids, masked_positions=np.array([0]))), "input_ids", got, expected)


@pytest.mark.parametrize(
    ("mask", "got", "expected"),
    [
        (MASK.astype(float), "float64", "bool, or integers 0 and 1"),
        (np.full(IDS.shape, np.nan), "float64", "bool"),
        (changed(MASK.astype(int), (0, 3), 2), "2", "0 and 1"),
        (changed(MASK.astype(int), (0, 3), -1), "-1", "0 and 1"),
        (MASK[:2], "[2, 6]", "[3, 6]"),
        (MASK[0], "[6]", "[3, 6]"),
        (MASK[:, None, :], "[3, 1, 6]", "[3, 6]"),
        ([[True, None]] * 3, "object", "bool"),
        ([[1], [1, 0], [1]], "unequal", "full array"),
        ("yes", "<U3", "bool"),
    ],
)
def test_mask(mask: Any, got: str, expected: str) -> None:
    model = small_bert()
    refuses(lambda: model.forward(IDS, mask), "attention_mask", got, expected)
    x = np.zeros((3, 6, 12))
    refuses(lambda: model.multi_head_attention(x, attention_mask=mask), "attention_mask", got, expected)
    refuses(lambda: model.mlm_logits(BATCH._replace(attention_mask=mask)), "attention_mask", got, expected)


@pytest.mark.parametrize(
    ("types", "got", "expected"),
    [
        (changed(TYPES, (0, 0), 2), "2", "0 to 1"),
        (changed(TYPES, (0, 0), -1), "-1", "0 to 1"),
        (TYPES.astype(float), "float64", "integers"),
        (TYPES[:, :5], "[3, 5]", "[3, 6]"),
    ],
)
def test_segments(types: Any, got: str, expected: str) -> None:
    refuses(lambda: small_bert().forward(IDS, MASK, types), "token_type_ids", got, expected)


@pytest.mark.parametrize(
    ("positions", "got"),
    [
        (None, "None"),
        (np.array([3, 2]), "int64 [2]"),
        (np.array([2, 2]), "int64 [2]"),
        (np.array([-1, 2]), "int64 [2]"),
        (np.array([2, 18]), "int64 [2]"),
        (np.array([[2, 3]]), "int64 [1, 2]"),
        (np.array([2.0, 3.0]), "float64 [2]"),
        (np.array([False, True]), "bool [2]"),
    ],
)
def test_masked_positions(positions: Any, got: str) -> None:
    model = small_bert()
    batch = BATCH._replace(masked_positions=positions, target_ids=np.array([5, 6]))
    refuses(lambda: model.mlm_logits(batch), "batch.masked_positions", got, "[M]" if positions is None else "below 18")
    refuses(
        lambda: model.mlm_loss_and_gradients(batch, Parameters(model.config, np.float64)),
        "batch.masked_positions",
        got,
        "positions",
    )


@pytest.mark.parametrize(
    ("targets", "got", "expected"),
    [
        (None, "None", "[M]"),
        (changed(BATCH.target_ids, (2,), 13), "13", "0 to 12"),
        (changed(BATCH.target_ids, (2,), -100), "-100", "0 to 12"),
        (BATCH.target_ids[:5], "[5]", "[6]"),
        (BATCH.target_ids.astype(float), "float64", "integers"),
    ],
)
def test_target_ids(targets: Any, got: str, expected: str) -> None:
    model = small_bert()
    gradients = Parameters(model.config, np.float64)
    batch = BATCH._replace(target_ids=targets)
    refuses(lambda: model.mlm_loss_and_gradients(batch, gradients), "batch.target_ids", got, expected)
    assert not gradients.buffer.any()


def test_gradients_of_another_model() -> None:
    model = small_bert()
    other = Parameters(small_bert(num_hidden_layers=1).config, np.float64)
    refuses(
        lambda: model.mlm_loss_and_gradients(BATCH, other), "gradients", "26 tensors", "the layout of Parameters(42"
    )


X = np.zeros((2, 3, 12))


@pytest.mark.parametrize(
    ("x", "layer", "argument", "got", "expected"),
    [
        (X[0], 0, "x", "[3, 12]", "[B, T, 12]"),
        (X[..., :11], 0, "x", "[2, 3, 11]", "[B, T, 12]"),
        (X.astype(int), 0, "x", "int64", "floats"),
        (X[:0], 0, "x", "[0, 3, 12]", "[B, T, 12]"),
        (changed(X, (1, 2, 3), np.nan), 0, "x", "nan at [1, 2, 3]", "finite"),
        (changed(X, (0, 0, 0), -np.inf), 0, "x", "-inf at [0, 0, 0]", "finite"),
        (X, 2, "layer", "2", "0 to 1"),
        (X, -1, "layer", "-1", "0 to 1"),
        (X, "0", "layer", "'0'", "0 to 1"),
        (X, 0.0, "layer", "0.0", "0 to 1"),
    ],
)
def test_hidden_states(x: Any, layer: Any, argument: str, got: str, expected: str) -> None:
    refuses(lambda: small_bert().multi_head_attention(x, layer), argument, got, expected)


@pytest.mark.parametrize(
    ("value", "got", "expected"),
    [
        (np.zeros((3, 6, 12)), "[3, 6, 12]", "[3, 6, 13]"),
        (np.zeros((18, 13)), "[18, 13]", "[3, 6, 13]"),
        (np.zeros((3, 6, 13), int), "int64", "floats"),
        (changed(np.zeros((3, 6, 13)), (0, 5, 1), np.nan), "nan at [0, 5, 1]", "finite"),
    ],
)
def test_gradient_of_the_logits(value: Any, got: str, expected: str) -> None:
    model = small_bert()
    grads = MiniBERTGradients(model)
    _, cache = model.forward(IDS)
    refuses(lambda: grads.backward_from_logits(value, cache), "grad_logits", got, expected)
    assert not grads.gradients.buffer.any()


def test_gradient_of_the_hidden_states() -> None:
    model = small_bert()
    grads = MiniBERTGradients(model)
    hidden, cache = model.encode(IDS)
    refuses(lambda: grads.backward_from_hidden(hidden[:, :5], cache), "grad_hidden", "[3, 5, 12]", "[3, 6, 12]")
    refuses(lambda: grads.backward_from_logits(np.zeros((3, 6, 13)), cache), "cache", "encode()", "forward()")


@pytest.mark.parametrize("head", ["nsp", "classifier", "sentiment"])
def test_head_that_is_not_there(head: str) -> None:
    model = small_bert()
    refuses(lambda: model.forward(IDS, head=head), "head", f"'{head}'", "['mlm']")
    refuses(lambda: small_bert(heads=()).forward(IDS), "head", "'mlm'", "[]")


def test_loss_of_a_model_without_the_head() -> None:
    model = small_bert(heads=("nsp",))
    gradients = Parameters(model.config, np.float64)
    refuses(lambda: model.mlm_loss_and_gradients(BATCH, gradients), "head", "'mlm'", "['nsp']")
    refuses(lambda: model.mlm_logits(BATCH), "head", "'mlm'", "['nsp']")


@pytest.mark.parametrize("dtype", [np.float16, int, "quad", object, np.complex64])
def test_dtype(dtype: Any) -> None:
    refuses(lambda: MiniBERT(small_bert().config, dtype=dtype), "dtype", "", "float32, float64 or complex128")


@pytest.mark.parametrize("config", [{"hidden_size": 12}, Config(), "model/tiny"])
def test_config(config: Any) -> None:
    refuses(lambda: MiniBERT(config), "config", type(config).__name__, "ModelConfig")


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed(seed: int) -> None:
    refuses(lambda: MiniBERT(small_bert().config, seed=seed), "seed", str(seed), "2**64 - 1")


LOGITS = np.zeros((3, 6, 13))
TARGETS = np.full((3, 6), -100)


@pytest.mark.parametrize(
    ("arguments", "argument", "got", "expected"),
    [
        ((LOGITS, changed(TARGETS, (0, 1), 13)), "target_ids", "13", "0 to 12"),
        ((LOGITS, changed(TARGETS, (0, 1), -1)), "target_ids", "-1", "0 to 12"),
        ((LOGITS, TARGETS, TARGETS == -100), "target_ids", "-100 at a masked", "0 to 12"),
        ((LOGITS, TARGETS[:, :5]), "target_ids", "[3, 5]", "[3, 6]"),
        ((LOGITS, TARGETS.astype(float)), "target_ids", "float64", "integers"),
        ((LOGITS.astype(int), TARGETS), "logits", "int64", "floats"),
        ((LOGITS, TARGETS, MASK[:2]), "mask_pos", "[2, 6]", "[3, 6]"),
        ((LOGITS, TARGETS, MASK.astype(float)), "mask_pos", "float64", "bool"),
    ],
)
def test_cross_entropy(arguments: tuple[Any, ...], argument: str, got: str, expected: str) -> None:
    grads = MiniBERTGradients(small_bert())
    refuses(lambda: grads.compute_mlm_loss_and_gradients(*arguments), argument, got, expected)
    refuses(lambda: mlm_cross_entropy(*arguments), argument, got, expected)


# --- at the edge, and fine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_smallest_and_longest_rows(shape: tuple[int, int], dtype: type) -> None:
    model = small_bert(np.float32)
    ids = np.full(shape, 12, dtype)
    logits, cache = model.forward(ids)
    assert logits.shape == (*shape, 13)
    assert np.isfinite(logits).all()
    MiniBERTGradients(model).backward_from_logits(logits, cache)
    batch = Batch(ids, masked_positions=np.array([0]), target_ids=np.array([3]))
    loss, n_masked = model.mlm_loss_and_gradients(batch, Parameters(model.config))
    assert n_masked == 1
    assert np.isfinite(loss)


def test_all_padding() -> None:
    model = small_bert(np.float32)
    logits, cache = model.forward(IDS, np.zeros(IDS.shape, bool))
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(cache["layer_1.attention.attention_weights"], 1 / 6, rtol=1e-6)


def test_nothing_to_predict_is_a_loss_of_zero() -> None:
    loss, grad_logits = mlm_cross_entropy(LOGITS, TARGETS)
    assert loss == 0
    assert not grad_logits.any()


def test_hidden_states_of_another_precision_are_cast() -> None:
    model = small_bert(np.float32)
    x = np.random.default_rng(0).normal(size=(2, 3, 12))
    y, cache = model.multi_head_attention(x)
    assert {y.dtype, *(array.dtype for array in cache.values())} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(y, model.multi_head_attention(x.astype(np.float32))[0])
