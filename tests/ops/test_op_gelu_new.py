"""GELU with tanh: known values, the tails, blocks; its derivative is checked by the common suite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mini_bert.ops import gelu, gelu_new
from mini_bert.ops.contract import BLOCK

SLOPE = math.sqrt(2.0 / math.pi)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_known_values(dtype: type) -> None:
    """u(1) = 0.83355866…, so P(1) = 1 / (1 + e^−2u) = 0.84119199…."""
    u = SLOPE * 1.044715
    P = 1.0 / (1.0 + math.exp(-2.0 * u))
    assert pytest.approx(0.841191990608276, abs=1e-14) == P
    y, saved = gelu_new.forward(np.array([-1.0, 0.0, 1.0], dtype))
    tolerance = 3e-7 if dtype is np.float32 else 1e-15
    np.testing.assert_allclose(y, [P - 1.0, 0.0, P], atol=tolerance)
    slope = 2.0 * P * (1.0 - P) * SLOPE * 1.134145
    np.testing.assert_allclose(saved.derivative, [1.0 - P - slope, 0.5, P + slope], atol=tolerance)


def test_it_is_near_the_exact_form_and_not_the_same() -> None:
    x = np.linspace(-6, 6, 1201)
    assert 4.7e-4 < np.abs(gelu_new.forward(x)[0] - gelu.forward(x)[0]).max() < 4.8e-4


@pytest.mark.parametrize("size", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_float32_block_by_block(size: int) -> None:
    x = np.random.default_rng(0).normal(size=size).astype(np.float32) * 2
    y, saved = gelu_new.forward(x)
    wide, wide_saved = gelu_new.forward(x.astype(np.float64))
    assert np.abs(y - wide).max(initial=0.0) <= 1e-6
    # In the lower tail P has lost its digits to 1 + tanh, and x u' is 40: a few units of float32 there, times that.
    assert np.abs(saved.derivative - wide_saved.derivative).max(initial=0.0) <= 4e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_it_is_x_or_nothing(dtype: type) -> None:
    with np.errstate(all="raise", under="ignore"):
        y, saved = gelu_new.forward(np.array([-1e15, -1e4, -10.5, 10.5, 1e4, 1e15], dtype))
    assert y.tolist() == [0.0, 0.0, 0.0, *(float(dtype(value)) for value in (10.5, 1e4, 1e15))]
    assert saved.derivative.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_the_square_is_cut_nothing_jumps(dtype: type) -> None:
    x = np.nextafter(dtype(10), dtype([0, 20]))
    y, saved = gelu_new.forward(np.concatenate([x, -x]))
    np.testing.assert_allclose(y, [*x, 0.0, 0.0], rtol=1e-7, atol=1e-30)
    np.testing.assert_allclose(saved.derivative, [1.0, 1.0, 0.0, 0.0], atol=1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_nan_stays(dtype: type) -> None:
    assert np.isnan(gelu_new.forward(np.array([np.nan], dtype))[0]).all()


def test_minus_its_mirror_image_it_is_x() -> None:
    x = np.random.default_rng(1).uniform(-30.0, 30.0, 2000)
    np.testing.assert_allclose(gelu_new.forward(x)[0] - gelu_new.forward(-x)[0], x, atol=1e-14)
