from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.ops import attention
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
STREAM = RandomStream(1, "attention/test", 2)


def drawn(
    seed: int, B: int = 2, A: int = 2, T: int = 4, S: int = 5, K: int = 3, dtype: type = np.float64
) -> list[Array]:
    rng = np.random.default_rng(seed)
    shapes = ((B, A, T, K), (B, A, S, K), (B, A, S, K), (B, A, T, K))
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def weights(saved: attention.Saved) -> Array:
    return saved.probs.probs


@quick
@given(
    st.integers(0, 999), st.lists(st.integers(1, 5), min_size=2, max_size=2), st.sampled_from([np.float32, np.float64])
)
def test_padding_has_exactly_no_weight_and_no_gradient(seed: int, lengths: list[int], dtype: type) -> None:
    Q, K, V, dC = drawn(seed, dtype=dtype)
    mask = np.arange(5) < np.array(lengths)[:, None]
    _, saved = attention.forward(Q, K, V, mask_BS=mask)
    padding = np.broadcast_to(~mask[:, None, None, :], weights(saved).shape)
    assert not weights(saved)[padding].any()
    np.testing.assert_allclose(weights(saved).sum(axis=-1), 1.0, rtol=1e-6)
    _, dK, dV = attention.backward(dC, saved)
    keys = np.broadcast_to(~mask[:, None, :], dK.shape[:3])
    assert not dK[keys].any()
    assert not dV[keys].any()


@quick
@given(st.integers(0, 999))
def test_what_stands_in_the_padding_changes_nothing(seed: int) -> None:
    Q, K, V, dC = drawn(seed)
    mask = np.arange(5) < np.array([3, 5])[:, None]
    C, saved = attention.forward(Q, K, V, mask_BS=mask)
    dQ, _, _ = attention.backward(dC, saved)
    K[0, :, 3:], V[0, :, 3:] = 1e4, -77.0
    other_C, other_saved = attention.forward(Q, K, V, mask_BS=mask)
    np.testing.assert_array_equal(other_C, C)
    np.testing.assert_array_equal(attention.backward(dC, other_saved)[0], dQ)


def test_leaving_padding_out_gives_the_same() -> None:
    Q, K, V, dC = drawn(0, B=1)
    C, saved = attention.forward(Q, K, V, mask_BS=np.array([[True, True, True, False, False]]))
    short_C, short_saved = attention.forward(Q, K[:, :, :3], V[:, :, :3])
    np.testing.assert_allclose(C, short_C, rtol=1e-14)
    dQ, dK, dV = attention.backward(dC, saved)
    short_dQ, short_dK, short_dV = attention.backward(dC, short_saved)
    np.testing.assert_allclose(dQ, short_dQ, atol=1e-15)
    np.testing.assert_allclose(dK[:, :, :3], short_dK, atol=1e-15)
    np.testing.assert_allclose(dV[:, :, :3], short_dV, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_a_row_of_padding_only_is_uniform_and_its_keys_get_no_gradient(dtype: type) -> None:
    Q, K, V, dC = drawn(0, dtype=dtype)
    mask = np.array([[False] * 5, [True] * 5])
    C, saved = attention.forward(Q * 100, K * 100, V, mask_BS=mask)
    np.testing.assert_allclose(weights(saved)[0], 0.2, rtol=1e-6)
    np.testing.assert_allclose(
        C[0], np.broadcast_to(V[0].mean(axis=1, keepdims=True), C[0].shape), rtol=1e-5, atol=1e-6
    )
    dQ, dK, dV = attention.backward(dC, saved)
    assert not dQ[0].any()
    assert not dK[0].any()
    np.testing.assert_allclose(dV[0], np.broadcast_to(dC[0].sum(axis=1, keepdims=True) / 5, dV[0].shape), atol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in (dQ, dK, dV))


@quick
@given(st.integers(0, 999), st.permutations(range(5)))
def test_the_order_of_the_keys_does_not_matter(seed: int, order: list[int]) -> None:
    Q, K, V, dC = drawn(seed)
    C, saved = attention.forward(Q, K, V)
    other_C, other_saved = attention.forward(Q, K[:, :, order], V[:, :, order])
    np.testing.assert_allclose(other_C, C, atol=1e-14)
    _, dK, dV = attention.backward(dC, saved)
    _, other_dK, other_dV = attention.backward(dC, other_saved)
    np.testing.assert_allclose(other_dK, dK[:, :, order], atol=1e-14)
    np.testing.assert_allclose(other_dV, dV[:, :, order], atol=1e-14)


@quick
@given(st.integers(0, 999))
def test_a_shift_of_all_keys_is_not_seen(seed: int) -> None:
    """Why the bias of the keys has no gradient: it adds q·b to all scores of a query, and softmax does not see that."""
    Q, K, V, dC = drawn(seed)
    C, saved = attention.forward(Q, K, V)
    np.testing.assert_allclose(attention.forward(Q, K + np.array([1.0, -2.0, 3.0]), V)[0], C, atol=1e-12)
    np.testing.assert_allclose(attention.backward(dC, saved)[1].sum(axis=2), 0.0, atol=1e-14)


def test_scores_of_padding_are_minus_a_billion() -> None:
    Q, K, V, _ = drawn(0)
    mask = np.arange(5) < np.array([3, 5])[:, None]
    seen: dict[str, Array] = {}
    attention.forward(Q, K, V, mask_BS=mask, tap=lambda name, value: seen.setdefault(name, value.copy()))
    assert (seen["attention.scores"][0, :, :, 3:] == -1e9).all()  # (ATT.2)
    assert np.abs(seen["attention.scores"][1]).max() < 100


def test_nothing_is_dropped_unless_a_probability_is_given() -> None:
    Q, K, V, _ = drawn(0)
    np.testing.assert_array_equal(attention.forward(Q, K, V, stream=STREAM)[0], attention.forward(Q, K, V)[0])


def test_scores_are_divided_by_the_root_of_the_width() -> None:
    Q, K = np.zeros((1, 1, 1, 4)), np.zeros((1, 1, 2, 4))
    Q[..., 0], K[0, 0, 0, 0] = 2.0, 3.0
    _, saved = attention.forward(Q, K, np.zeros((1, 1, 2, 4)))
    np.testing.assert_allclose(weights(saved)[0, 0, 0, 0], 1.0 / (1.0 + np.exp(-3.0)), rtol=1e-15)  # 2 · 3 / √4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_ten_thousand(dtype: type) -> None:
    Q, K, V, dC = drawn(0, dtype=dtype)
    C, saved = attention.forward(Q * 100, K * 100, V)
    assert np.isfinite(C).all()
    assert all(np.isfinite(gradient).all() for gradient in attention.backward(dC, saved))


def test_results_are_written_where_the_caller_says() -> None:
    Q, K, V, dC = drawn(0)
    C, saved = attention.forward(Q, K, V)
    out = np.full((2, 4, 2, 3), np.nan)  # [B, T, A, K], as the projections stand
    same, same_saved = attention.forward(Q, K, V, out_BATK=out.swapaxes(1, 2))
    assert np.shares_memory(same, out)
    np.testing.assert_allclose(out.swapaxes(1, 2), C, rtol=1e-14)
    gradients = attention.backward(dC, saved)
    places = tuple(np.full(np.swapaxes(gradient, 1, 2).shape, np.nan).swapaxes(1, 2) for gradient in gradients)
    written = attention.backward(dC, same_saved, out=places)
    for place, one, gradient in zip(places, written, gradients, strict=True):
        assert np.shares_memory(place, one)
        np.testing.assert_allclose(place, gradient, atol=1e-15)


def test_dropout_of_a_shard_and_of_selected_queries_is_that_of_the_whole() -> None:
    Q, K, V, _ = drawn(0, B=3)
    _, whole = attention.forward(Q, K, V, p=0.5, stream=STREAM, first_row=24)
    keep = whole.dropped_BATS != 0
    _, shard = attention.forward(Q[1:], K[1:], V[1:], p=0.5, stream=STREAM, first_row=24 + 2 * 4)
    np.testing.assert_array_equal(shard.dropped_BATS != 0, keep[1:])
    rows = np.arange(24).reshape(3, 2, 4)[:, :, [1, 3]].reshape(-1)
    _, some = attention.forward(Q[:, :, [1, 3]], K, V, p=0.5, stream=STREAM, first_row=24, rows=rows)
    np.testing.assert_array_equal(some.dropped_BATS != 0, keep[:, :, [1, 3]])


def test_the_tap_sees_and_replaces() -> None:
    Q, K, V, dC = drawn(0)
    seen: dict[str, Array] = {}

    def record(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    C, saved = attention.forward(Q, K, V, tap=record, name="layer_0.attention")
    assert list(seen) == ["layer_0.attention.scores", "layer_0.attention.attention_weights"]
    np.testing.assert_allclose(seen["layer_0.attention.scores"], Q @ K.swapaxes(-1, -2) / np.sqrt(3), rtol=1e-14)
    np.testing.assert_array_equal(seen["layer_0.attention.attention_weights"], weights(saved))
    np.testing.assert_allclose(seen["layer_0.attention.attention_weights"] @ V, C, rtol=1e-14)

    def uniform(name: str, value: Array) -> Array:
        return np.full_like(value, 0.2) if name.endswith("attention_weights") else value

    ablated, ablated_saved = attention.forward(Q, K, V, tap=uniform)
    np.testing.assert_allclose(
        ablated, np.broadcast_to(V.mean(axis=2, keepdims=True), ablated.shape), rtol=1e-12, atol=1e-15
    )
    seen.clear()
    attention.backward(dC, ablated_saved, tap=record, name="layer_0.attention")
    np.testing.assert_allclose(seen["layer_0.attention.attention_weights"], dC @ V.swapaxes(-1, -2), rtol=1e-14)
    dP, P = seen["layer_0.attention.attention_weights"], weights(saved)  # softmax's own output, whatever the tap put in
    dZ = P * (dP - (dP * P).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(seen["layer_0.attention.scores"], dZ, atol=1e-14)
