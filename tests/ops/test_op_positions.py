"""Rotary embeddings, biases and embeddings of distances, linear biases: what each is, number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.ops import alibi, attention, by_distance, relative_bias, relative_keys, rotary
from mini_bert.ops.contract import Array
from mini_bert.verification.oracles import positions as loops

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


# --- rotary ---------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 999), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 60_000))
def test_scores_of_turned_rows_see_the_difference_of_positions_alone(seed: int, t: int, s: int, shift: int) -> None:
    q, k = np.random.default_rng(seed).normal(size=(2, 1, 8))

    def score(shift: int) -> float:
        rows = (rotary.forward(x, positions=np.array([place + shift]))[0][0] for x, place in ((q, t), (k, s)))
        return float(np.dot(*rows))

    assert score(shift) == pytest.approx(score(0), rel=1e-9, abs=1e-9)


@quick
@given(st.integers(0, 999), st.sampled_from([np.float32, np.float64, np.complex128]))
def test_turning_keeps_lengths_and_can_be_undone(seed: int, dtype: type) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 3, 5, 8)).astype(dtype)
    y, saved = rotary.forward(x, positions=np.arange(5))
    bound = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose((y * y).sum(axis=-1), (x * x).sum(axis=-1), rtol=bound)
    np.testing.assert_allclose(rotary.backward(y, saved)[0], x, rtol=bound, atol=bound)
    np.testing.assert_array_equal(y[:, :, 0], x[:, :, 0])  # position 0 is not turned


def test_pairs_are_neighbours_and_each_has_its_frequency() -> None:
    x = np.array([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    y, _ = rotary.forward(x, positions=np.array([7]), theta=1000.0)
    slow, slower = 7 / 10, 7 / 100  # 1000^(−2/6) and 1000^(−4/6)
    expected = [math.cos(7), math.sin(7), -math.sin(slow), math.cos(slow), math.cos(slower), math.sin(slower)]
    np.testing.assert_allclose(y[0], expected, rtol=1e-14)


def test_angles_are_exact_in_float32_too() -> None:
    positions = np.array([0, 1, 999, 65_535])
    x = np.tile(np.array([1.0, 0.0], np.float32), (4, 24))
    y, _ = rotary.forward(x, positions=positions)
    angles = positions[:, None] * 10000.0 ** (-np.arange(0, 48, 2) / 48)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[:, ::2], np.cos(angles), atol=1e-7)
    np.testing.assert_allclose(y[:, 1::2], np.sin(angles), atol=1e-7)


# --- by distance ----------------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 9), st.integers(0, 99))
def test_all_queries_at_their_own_places_read_a_view(S: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, S, 2 * S - 1))
    y, saved = by_distance.forward(x)
    places = np.arange(S)[None, :]
    named, named_saved = by_distance.forward(x, positions=places)
    np.testing.assert_array_equal(y, named)
    assert np.shares_memory(y, x)
    dy = np.random.default_rng(seed + 1).normal(size=y.shape)
    np.testing.assert_array_equal(by_distance.backward(dy, saved)[0], by_distance.backward(dy, named_saved)[0])
    for t in range(S):
        for s in range(S):
            assert y[1, t, s] == x[1, t, s - t + S - 1]


def test_what_no_key_reads_gets_no_gradient() -> None:
    _, saved = by_distance.forward(np.ones((1, 2, 5)), positions=np.array([[0, 2]]))
    (dx,) = by_distance.backward(np.ones((1, 2, 3)), saved)
    np.testing.assert_array_equal(dx[0], [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])


# --- T5's bias ------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(2, 64), st.integers(8, 600))
def test_buckets_are_those_of_whole_numbers(half: int, max_distance: int) -> None:
    count = 2 * half
    distances = np.arange(-700, 701)
    if max_distance <= count // 4:
        max_distance += count
    got = relative_bias.bucket(distances, count, max_distance)
    assert got.tolist() == [loops.bucket(int(d), count, max_distance) for d in distances]


def test_buckets_of_t5_as_the_page_says() -> None:
    buckets = relative_bias.bucket(-np.arange(200), 32, 128)
    begins = [int(np.argmax(buckets == number)) for number in range(16)]
    assert begins == [*range(8), 8, 12, 16, 23, 32, 46, 64, 91]
    assert (np.diff(buckets) >= 0).all()
    np.testing.assert_array_equal(relative_bias.bucket(np.arange(1, 200), 32, 128), 16 + buckets[1:])


def test_every_place_of_a_bucket_adds_to_its_row() -> None:
    E = np.random.default_rng(0).normal(size=(8, 3))
    N, saved = relative_bias.forward(E, keys=9, max_distance=16)
    dN = np.random.default_rng(1).normal(size=N.shape)
    expected = np.zeros_like(E)
    for a in range(3):
        for t in range(9):
            for s in range(9):
                n = loops.bucket(s - t, 8, 16)
                assert N[0, a, t, s] == E[n, a]
                expected[n, a] += dN[0, a, t, s]
    np.testing.assert_allclose(relative_bias.backward(dN, saved)[0], expected, rtol=1e-12)


# --- Shaw's keys ----------------------------------------------------------------------------------------------------


def test_scores_are_those_with_an_embedding_added_to_each_key() -> None:
    """As the paper writes it: softmax(Q (K + E)ᵀ / √K) V, with a key of its own for each query."""
    rng = np.random.default_rng(0)
    Q, K, V, dC = rng.normal(size=(4, 2, 3, 5, 4))
    E = rng.normal(size=(15, 4))  # up to 8 tokens
    N, saved = relative_keys.forward(Q, E, keys=5)
    C, attention_saved = attention.forward(Q, K, V, N)
    E_TSK = np.stack([[E[t - s + 7] for s in range(5)] for t in range(5)])
    scores = np.einsum("batk,batsk->bats", Q, K[:, :, None] + E_TSK) / 2.0
    probs = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(C, probs @ V, rtol=1e-12)

    _, _, _, dN = attention.backward(dC, attention_saved)
    _, dE = relative_keys.backward(dN, saved)
    np.testing.assert_allclose(dE.sum(axis=0), 0.0, atol=1e-13)  # what all distances have in common is not seen
    assert not dE[:3].any()
    assert not dE[12:].any()
    assert np.abs(dE[3:12]).min() > 0


# --- linear biases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [(1, [8]), (2, [4, 8]), (4, [2, 4, 6, 8]), (3, [4, 8, 2]), (6, [2, 4, 6, 8, 1, 3]), (5, [2, 4, 6, 8, 1])],
)
def test_slopes(heads: int, exponents: list[int]) -> None:
    np.testing.assert_array_equal(alibi.slopes(heads), [2.0**-exponent for exponent in exponents])


@quick
@given(st.integers(1, 40), st.integers(1, 12))
def test_linear_biases_are_those_of_the_loops(heads: int, keys: int) -> None:
    bias = alibi.bias(heads, keys)
    assert bias.shape == (1, heads, keys, keys)
    np.testing.assert_allclose(bias[0], loops.alibi(heads, keys), rtol=1e-14)
    assert len(set(alibi.slopes(heads))) == heads


@pytest.mark.parametrize("positions", [[[[3, 0]], [[1, 2]]], [[[0]]]])
def test_biases_of_chosen_queries_are_rows_of_all(positions: list[list[list[int]]]) -> None:
    places = np.array(positions)
    E = np.random.default_rng(0).normal(size=(8, 2))

    def chosen(bias: Array) -> Array:
        return np.stack([bias[0][:, own[0]] for own in places])

    everywhere = relative_bias.forward(E, keys=4, max_distance=16)[0]
    np.testing.assert_array_equal(
        relative_bias.forward(E, keys=4, max_distance=16, positions=places)[0], chosen(everywhere)
    )
    np.testing.assert_array_equal(alibi.bias(3, 4, places), chosen(alibi.bias(3, 4)))
