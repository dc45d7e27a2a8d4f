from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mini_bert.errors import InvalidInputError
from mini_bert.ops import softmax
from mini_bert.ops.softmax import stable_softmax

scores = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.floats(-1e4, 1e4, allow_nan=False)
)
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@quick
@given(scores, st.sampled_from([np.float32, np.float64]))
def test_rows_are_probabilities(x: np.ndarray, dtype: type) -> None:
    probs, _ = softmax.forward(x.astype(dtype))
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=-1), 1.0, rtol=0, atol=1e-6 if dtype is np.float32 else 1e-15)


@quick
@given(scores, st.floats(-1e3, 1e3))
def test_a_shift_changes_nothing(x: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(softmax.forward(x + shift)[0], softmax.forward(x)[0], atol=1e-11)


@quick
@given(scores, st.randoms(use_true_random=False))
def test_order_does_not_matter(x: np.ndarray, random: object) -> None:
    order = random.sample(range(x.shape[-1]), x.shape[-1])  # type: ignore[attr-defined]
    np.testing.assert_allclose(softmax.forward(x[..., order])[0], softmax.forward(x)[0][..., order], rtol=1e-12)


@quick
@given(scores, st.integers(0, 99))
def test_the_gradient_is_orthogonal_to_ones(x: np.ndarray, seed: int) -> None:
    probs, saved = softmax.forward(x)
    (dx,) = softmax.backward(np.random.default_rng(seed).normal(size=probs.shape), saved)
    np.testing.assert_allclose(dx.sum(axis=-1), 0.0, atol=1e-14)


def test_a_cotangent_of_ones_has_no_gradient() -> None:
    probs, saved = softmax.forward(np.random.default_rng(0).normal(size=(3, 7)))
    assert np.abs(softmax.backward(np.ones_like(probs), saved)[0]).max() < 1e-16


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_ten_thousand(dtype: type) -> None:
    probs, saved = softmax.forward(np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [0, 1e4, -1e4]], dtype))
    np.testing.assert_array_equal(probs[0], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(probs[1], [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_array_equal(probs[2], [0.0, 1.0, 0.0])
    assert np.isfinite(softmax.backward(np.ones_like(probs), saved)[0]).all()


def test_two_scores_are_the_logistic_function() -> None:
    for difference in (-3.0, -0.5, 0.0, 1.25):
        probs, _ = softmax.forward(np.array([difference, 0.0]))
        assert probs[0] == pytest.approx(1.0 / (1.0 + math.exp(-difference)), rel=1e-15)


def test_stable_softmax_along_another_axis() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    for axis in (0, 1, 2, -3, -2, -1):
        expected = np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)
        np.testing.assert_allclose(stable_softmax(x, axis=axis), expected, rtol=1e-14)


def test_stable_softmax_takes_lists_and_whole_numbers_and_keeps_its_hands_off_them() -> None:
    x = np.array([[1, 2, 3]])
    probs = stable_softmax(x)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs, [[0.09003057317038046, 0.24472847105479764, 0.6652409557748219]], rtol=1e-15)
    np.testing.assert_array_equal(x, [[1, 2, 3]])
    assert stable_softmax([True, True]).tolist() == [0.5, 0.5]
    assert stable_softmax(np.zeros(4, np.float32)).dtype == np.float32


@pytest.mark.parametrize("bad", [[], np.zeros((2, 0)), ["a"], np.array([None])])
def test_stable_softmax_refuses_what_has_no_softmax(bad: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^x: got .* expected floats"):
        stable_softmax(bad)


@pytest.mark.parametrize(("x", "axis"), [(1.0, -1), ([1.0, 2.0], 1), ([1.0, 2.0], -2)])
def test_stable_softmax_refuses_an_axis_that_is_not_there(x: object, axis: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"^axis: got {axis}; expected an axis of an array of shape"):
        stable_softmax(x, axis=axis)
