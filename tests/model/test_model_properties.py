"""What must hold of any BERT, whatever its weights."""

from __future__ import annotations

import copy
import pickle
import statistics

import numpy as np
import pytest
from small_bert import BATCH, IDS, MASK, TYPES, small_bert

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def gradients_of(model: MiniBERT, batch: Batch) -> Parameters:
    gradients = Parameters(model.config, np.float64)
    model.mlm_loss_and_gradients(batch, gradients)
    return gradients


def normalised(x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)


def test_gradient_of_the_tied_table_is_the_sum_of_its_two_uses() -> None:
    model = small_bert()
    logits, cache = model.forward(IDS, MASK, TYPES)
    cotangent = np.random.default_rng(0).normal(size=logits.shape)
    seen: dict[str, Array] = {}

    def record(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    grads = MiniBERTGradients(model)
    grads.backward_from_logits(cotangent, cache, tap=record)
    as_decoder = np.zeros((13, 12))
    as_table = np.zeros((13, 12))
    for b in range(3):
        for t in range(6):
            as_decoder += np.outer(cotangent[b, t], cache["mlm.output"][b, t])
            as_table[IDS[b, t]] += seen["embeddings.token"][b, t]
    assert min(np.abs(as_decoder).max(), np.abs(as_table).max()) > 1e-2
    np.testing.assert_allclose(grads.gradients["token_embeddings"], as_decoder + as_table, **TIGHT)


@pytest.mark.parametrize("start", [None, MASK])
def test_appended_padding_changes_nothing(start: Array | None) -> None:
    model = small_bert()
    mask = np.ones_like(MASK) if start is None else start
    longer_ids = np.concatenate([IDS, [[5], [0], [12]]], axis=1)
    longer_mask = np.concatenate([mask, np.zeros((3, 1), bool)], axis=1)
    longer_types = np.concatenate([TYPES, [[1], [0], [1]]], axis=1)
    logits, _ = model.forward(IDS, start, TYPES)
    longer, cache = model.forward(longer_ids, longer_mask, longer_types)
    np.testing.assert_allclose(longer[:, :6][mask], logits[mask], **TIGHT)
    for layer in range(2):
        weights = cache[f"layer_{layer}.attention.attention_weights"]
        assert not weights[..., 6].any()

    b, t = np.divmod(BATCH.masked_positions, 6)
    batch = BATCH._replace(attention_mask=start)
    longer_batch = Batch(longer_ids, longer_mask, longer_types, b * 7 + t, BATCH.target_ids)
    expected, got = gradients_of(model, batch), gradients_of(model, longer_batch)
    np.testing.assert_allclose(got.buffer, expected.buffer, **TIGHT)
    assert not got["position_embeddings"][6].any()


def test_ids_and_segments_under_padding_do_not_matter() -> None:
    model = small_bert()
    ids, types = IDS.copy(), TYPES.copy()
    ids[~MASK] = [12, 4, 7]
    types[~MASK] = 1
    logits, _ = model.forward(IDS, MASK, TYPES)
    np.testing.assert_array_equal(model.forward(ids, MASK, types)[0][MASK], logits[MASK])
    expected, got = gradients_of(model, BATCH), gradients_of(model, BATCH._replace(input_ids=ids, token_type_ids=types))
    np.testing.assert_allclose(got.buffer, expected.buffer, **TIGHT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_of_padding_only_is_uniform_and_finite(dtype: type) -> None:
    model = small_bert(dtype)
    mask = MASK.copy()
    mask[1] = False
    logits, cache = model.forward(IDS, mask, TYPES)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(cache["layer_0.attention.attention_weights"][1], 1 / 6, rtol=1e-6)
    grads = MiniBERTGradients(model)
    seen: dict[str, Array] = {}

    def record(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    grads.backward_from_logits(np.ones_like(logits), cache, tap=record)
    assert np.isfinite(grads.gradients.buffer).all()
    for name in "QK":
        assert not seen[f"layer_1.attention.{name}"][1].any()
        assert seen[f"layer_1.attention.{name}"][0].any()


@pytest.mark.parametrize("dtype", [bool, int, np.uint8, np.int32])
def test_mask_of_ones_is_no_mask(dtype: type) -> None:
    model = small_bert()
    logits, _ = model.forward(IDS)
    np.testing.assert_array_equal(model.forward(IDS, np.ones(IDS.shape, dtype))[0], logits)
    np.testing.assert_array_equal(model.forward(IDS, MASK.astype(dtype), TYPES)[0], model.forward(IDS, MASK, TYPES)[0])


def test_segment_0_is_the_default() -> None:
    model = small_bert()
    default, zeros, ones = (model.forward(IDS, MASK, types)[0] for types in (None, 0 * TYPES, 0 * TYPES + 1))
    np.testing.assert_allclose(zeros, default, **TIGHT)
    assert np.abs(ones - default).max() > 1e-2


def test_heads_have_no_order() -> None:
    model = small_bert()
    logits, cache = model.forward(IDS, MASK, TYPES)
    order = [2, 0, 1]
    columns = np.arange(12).reshape(3, 4)[order].ravel()
    for name in ("W_Q_1", "W_K_1", "W_V_1"):
        model.parameters[name][...] = model.parameters[name][:, columns]
    for name in ("b_Q_1", "b_K_1", "b_V_1"):
        model.parameters[name][...] = model.parameters[name][columns]
    model.parameters["W_O_1"][...] = model.parameters["W_O_1"][columns]
    permuted, permuted_cache = model.forward(IDS, MASK, TYPES)
    np.testing.assert_allclose(permuted, logits, **TIGHT)
    name = "layer_1.attention.attention_weights"
    np.testing.assert_allclose(permuted_cache[name], cache[name][:, order], **TIGHT)


def test_rows_of_a_batch_have_no_order() -> None:
    model = small_bert()
    logits, _ = model.forward(IDS, MASK, TYPES)
    order = [2, 0, 1]
    permuted, _ = model.forward(IDS[order], MASK[order], TYPES[order])
    np.testing.assert_allclose(permuted, logits[order], **TIGHT)
    for b in range(3):
        alone, _ = model.forward(IDS[b : b + 1], MASK[b : b + 1], TYPES[b : b + 1])
        np.testing.assert_allclose(alone[0], logits[b], **TIGHT)


def test_tokens_have_an_order_through_their_positions_alone() -> None:
    model = small_bert()
    order = [0, 3, 1, 5, 4, 2]
    moved = np.abs(model.forward(IDS[:, order])[0] - model.forward(IDS)[0][:, order]).max()
    assert moved > 1e-2
    model.parameters["position_embeddings"][...] = 0
    np.testing.assert_allclose(model.forward(IDS[:, order])[0], model.forward(IDS)[0][:, order], **TIGHT)


def test_attention_weights_are_a_distribution_over_real_keys() -> None:
    _, cache = small_bert().forward(IDS, MASK, TYPES)
    for layer in range(2):
        weights = cache[f"layer_{layer}.attention.attention_weights"]
        assert weights.shape == (3, 3, 6, 6)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-14)
        assert np.all(weights >= 0)
        assert not weights.swapaxes(1, 3)[:, :, :, :][~MASK].any()


def test_residual_stream_is_a_sum() -> None:
    _, cache = small_bert().forward(IDS, MASK, TYPES)
    stream = cache["embeddings.output"]
    for i in range(2):
        after_attention = stream + cache[f"layer_{i}.attention.projection"]
        np.testing.assert_allclose(cache[f"layer_{i}.attention.sum"], after_attention, **TIGHT)
        stream = cache[f"layer_{i}.attention.output"]
        np.testing.assert_allclose(
            cache[f"layer_{i}.feed_forward.sum"], stream + cache[f"layer_{i}.feed_forward.projection"], **TIGHT
        )
        stream = cache[f"layer_{i}.output"]


def test_block_that_adds_nothing_normalises() -> None:
    model = small_bert()
    for name in ("W_O_0", "b_O_0", "W2_0", "b2_0", "beta1_0", "beta2_0"):
        model.parameters[name][...] = 0
    for name in ("gamma1_0", "gamma2_0"):
        model.parameters[name][...] = 1
    _, cache = model.forward(IDS, MASK, TYPES)
    expected = normalised(normalised(cache["embeddings.output"]))
    np.testing.assert_allclose(cache["layer_0.output"], expected, **TIGHT)


def test_embeddings_are_a_sum_of_three() -> None:
    model = small_bert()
    p = model.parameters
    _, cache = model.forward(IDS, MASK, TYPES)
    for b in range(3):
        for t in range(6):
            total = (
                p["token_embeddings"][IDS[b, t]] + p["position_embeddings"][t] + p["segment_embeddings"][TYPES[b, t]]
            )
            np.testing.assert_allclose(cache["embeddings.sum"][b, t], total, rtol=1e-14)
            expected = normalised(total) * p["gamma_embeddings"] + p["beta_embeddings"]
            np.testing.assert_allclose(cache["embeddings.output"][b, t], expected, **TIGHT)


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_activation_of_feed_forward_and_head(act: str) -> None:
    _, cache = small_bert(hidden_act=act).forward(IDS, MASK, TYPES)
    for place in ("layer_0.feed_forward", "layer_1.feed_forward", "mlm"):
        x = cache[f"{place}.pre_activation"]
        expected = x * (x > 0) if act == "relu" else x * np.vectorize(statistics.NormalDist().cdf)(x)
        np.testing.assert_allclose(cache[f"{place}.activation"], expected, rtol=1e-12, atol=1e-13)


def test_forward_is_a_function_and_changes_nothing() -> None:
    model = small_bert()
    before = model.parameters.buffer.tobytes()
    ids, mask, types = IDS.copy(), MASK.copy(), TYPES.copy()
    first, cache = model.forward(ids, mask, types)
    grads = MiniBERTGradients(model)
    cotangent = np.random.default_rng(0).normal(size=first.shape)
    kept = cotangent.copy()
    grads.backward_from_logits(cotangent, cache)
    gradients_of(model, BATCH)
    second, _ = model.forward(ids, mask, types)
    assert first.tobytes() == second.tobytes()
    assert model.parameters.buffer.tobytes() == before
    for array, original in ((ids, IDS), (mask, MASK), (types, TYPES), (cotangent, kept)):
        np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copy_of_a_model_is_a_model(copied) -> None:
    model = small_bert()
    other = copied(model)
    np.testing.assert_array_equal(other.forward(IDS)[0], model.forward(IDS)[0])
    before = model.forward(IDS)[0]
    other.parameters.buffer[...] *= 0.5
    np.testing.assert_array_equal(other.parameters["W1_1"], 0.5 * model.parameters["W1_1"])
    np.testing.assert_array_equal(other.parameters.layers[0].attention.W_K, 0.5 * model.parameters["W_K_0"])
    np.testing.assert_array_equal(model.forward(IDS)[0], before)
    assert np.abs(other.forward(IDS)[0] - before).max() > 1e-2
