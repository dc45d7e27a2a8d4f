from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mini_bert.ops import layer_norm

quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 10_000)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=8)


def plain(x: np.ndarray, eps: float = 1e-12) -> tuple[np.ndarray, layer_norm.Saved]:
    H = x.shape[-1]
    return layer_norm.forward(x, np.ones(H, x.dtype), np.zeros(H, x.dtype), eps=eps)


@quick
@given(shapes, seeds)
def test_rows_have_mean_zero_and_variance_one(shape: tuple[int, ...], seed: int) -> None:
    y, _ = plain(np.random.default_rng(seed).normal(3.0, 2.0, size=shape), eps=0.0)
    np.testing.assert_allclose(y.mean(axis=-1), 0.0, atol=1e-12)
    np.testing.assert_allclose((y * y).mean(axis=-1), 1.0, rtol=1e-12)


@quick
@given(shapes, seeds, st.floats(0.1, 100.0), st.floats(-100.0, 100.0))
def test_scale_and_shift_of_a_row_are_not_seen(shape: tuple[int, ...], seed: int, scale: float, shift: float) -> None:
    x = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_allclose(plain(scale * x + shift, eps=0.0)[0], plain(x, eps=0.0)[0], atol=1e-7)


@quick
@given(shapes, seeds)
def test_dx_is_orthogonal_to_ones_and_to_the_output(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, gamma, beta, dy = rng.normal(size=shape), *rng.normal(size=(2, shape[-1])), rng.normal(size=shape)
    _, saved = layer_norm.forward(x, gamma, beta, eps=0.0)  # with ε the second holds but for terms of its size
    dx, _, _ = layer_norm.backward(dy, saved)
    scale = np.linalg.norm(dy * gamma * saved.inverse_deviation) * np.linalg.norm(saved.x_hat)
    assert np.abs(dx.sum(axis=-1)).max() <= 1e-12 * scale
    assert np.abs((dx * saved.x_hat).sum(axis=-1)).max() <= 1e-12 * scale


def test_epsilon_stands_under_the_root_and_variance_is_divided_by_H() -> None:
    x = np.array([1.0, 3.0])  # mean 2, biased variance 1, unbiased 2
    y, _ = plain(x, eps=3.0)
    np.testing.assert_allclose(y, [-0.5, 0.5], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e4])
def test_constant_rows_are_finite(dtype: type, value: float) -> None:
    x = np.full((2, 6), value, dtype)
    gamma, beta = np.full(6, 2, dtype), np.full(6, 0.5, dtype)
    y, saved = layer_norm.forward(x, gamma, beta)
    np.testing.assert_array_equal(y, 0.5)
    gradients = layer_norm.backward(np.random.default_rng(0).normal(size=(2, 6)).astype(dtype), saved)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_far_from_zero_in_float32() -> None:
    """E[x²] − E[x]² would lose all digits here."""
    x = (1e4 + np.random.default_rng(0).normal(size=(4, 192))).astype(np.float32)
    wide, _ = plain(x.astype(np.float64))
    np.testing.assert_allclose(plain(x)[0], wide, atol=2e-3)
    assert np.abs(plain(x)[0].std(axis=-1) - 1.0).max() < 1e-4


def test_one_row_by_hand() -> None:
    x, gamma, beta, dy = (np.array(v, float) for v in ([1, 2, 6], [1, 2, 1], [0, 0, 1], [1, 0, 0]))
    y, saved = layer_norm.forward(x, gamma, beta, eps=0.0)
    root = np.sqrt(14 / 3)  # mean 3, deviations −2, −1, 3
    np.testing.assert_allclose(y, [-2 / root, -2 / root, 1 + 3 / root], rtol=1e-15)
    dx, dgamma, dbeta = layer_norm.backward(dy, saved)
    np.testing.assert_allclose(dx * root, [1 - 1 / 3 - 4 / 14, -1 / 3 - 2 / 14, -1 / 3 + 6 / 14], rtol=1e-14)
    np.testing.assert_allclose(dgamma, [-2 / root, 0, 0], rtol=1e-15)
    np.testing.assert_array_equal(dbeta, [1, 0, 0])


def test_epsilon_is_berts_unless_it_is_given() -> None:
    deviation = 1e-6  # its square is ε, so that the row comes out √½ of what it would be without
    y, _ = layer_norm.forward(np.array([-deviation, deviation]), np.ones(2), np.zeros(2))
    np.testing.assert_allclose(y, [-np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-9)
