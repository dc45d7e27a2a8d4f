from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.ops import gelu
from mini_bert.ops.contract import BLOCK
from mini_bert.ops.erf import erf

quick = settings(max_examples=200, deadline=None, derandomize=True, database=None)

COUNTS = [pytest.param(200_000), pytest.param(2_000_000, marks=pytest.mark.slow)]
NEIGHBOURHOODS = [
    0.0,
    1e-300,
    1e-20,
    1e-8,
    0.46875,
    np.nextafter(0.46875, 1),
    1.0,
    4.0,
    np.nextafter(4.0, 5),
    5.9,
    26.0,
    31.0,
    1e4,
]


def points(count: int) -> np.ndarray:
    """Evenly over [−8, 8], and where the branches meet."""
    return np.concatenate((np.linspace(-8.0, 8.0, count), NEIGHBOURHOODS, [-x for x in NEIGHBOURHOODS]))


def exact_erf(x: np.ndarray) -> np.ndarray:
    return np.fromiter(map(math.erf, x.tolist()), np.float64, x.size)


@pytest.mark.parametrize("count", COUNTS)
def test_erf_in_float32(count: int) -> None:
    x = points(count).astype(np.float32)
    assert np.abs(erf(x) - exact_erf(x)).max() <= 5e-7


@pytest.mark.parametrize("count", COUNTS)
def test_erf_in_float64(count: int) -> None:
    x = points(count)
    exact = exact_erf(x)
    assert np.abs(erf(x) - exact).max() <= 1e-15
    away = np.abs(x) > 1e-290
    assert np.abs(erf(x)[away] / exact[away] - 1.0).max() <= 1e-15


def test_math_erf_is_a_fit_judge() -> None:
    """Against the Taylor series in fractions, which rounds once."""
    for x in (0.25, 0.75, 2.5):
        exact, term = Fraction(0), Fraction(x)
        for n in range(80):
            exact += term / (2 * n + 1)
            term *= -(Fraction(x) ** 2) / (n + 1)
        assert math.erf(x) == pytest.approx(float(exact) * 2.0 / math.sqrt(math.pi), rel=4e-16)


@pytest.mark.parametrize("x", [0.0, 0.3, -0.46875, 0.47, 1.0, -2.0, 3.999, 4.0, 4.001, -5.0, 40.0])
def test_the_complex_step_differentiates_erf(x: float) -> None:
    derivative = erf(np.array([x + 1e-30j]))[0].imag / 1e-30
    assert derivative == pytest.approx(2.0 / math.sqrt(math.pi) * math.exp(-x * x), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_odd_bounded_and_rises(dtype: type) -> None:
    x = np.linspace(0.0, 8.0, 20_001).astype(dtype)
    y = erf(x)
    assert np.array_equal(erf(-x), -y)
    assert y.max() <= 1.0
    assert np.diff(y).min() >= -2 * np.finfo(dtype).eps
    assert y[-1] == 1.0


def test_erf_of_special_values() -> None:
    for dtype in (np.float32, np.float64):
        with np.errstate(invalid="ignore"):
            y = erf(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype))
        assert y[:2].tolist() == [1.0, -1.0]
        assert np.isnan(y[2])
        assert y[3:].tolist() == [0.0, 0.0]


def test_gelu_is_x_times_the_normal_distribution() -> None:
    x = np.linspace(-12.0, 12.0, 20_001)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2.0)) for v in x])
    assert np.abs(gelu.forward(x)[0] - exact).max() <= 1e-15 * 12
    assert np.abs(gelu.forward(x.astype(np.float32))[0] - exact).max() <= 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_by_known_values(dtype: type) -> None:
    """Φ(1) = 0.841344746068543, φ(1) = 0.241970724519143."""
    y, saved = gelu.forward(np.array([-1.0, 0.0, 1.0], dtype))
    tolerance = 3e-7 if dtype is np.float32 else 1e-15
    np.testing.assert_allclose(y, [-0.158655253931457, 0.0, 0.841344746068543], atol=tolerance)
    derivative = [0.158655253931457 - 0.241970724519143, 0.5, 0.841344746068543 + 0.241970724519143]
    np.testing.assert_allclose(saved.derivative, derivative, atol=tolerance)


def test_gelu_is_not_its_tanh_approximation() -> None:
    x = np.linspace(-4, 4, 801)
    approximation = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    assert 4e-4 < np.abs(gelu.forward(x)[0] - approximation).max() < 5e-4


@pytest.mark.parametrize("size", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_gelu_in_float32_block_by_block(size: int) -> None:
    x = np.random.default_rng(0).normal(size=size).astype(np.float32) * 2
    y, saved = gelu.forward(x)
    wide, wide_saved = gelu.forward(x.astype(np.float64))
    assert np.abs(y - wide).max(initial=0.0) <= 1e-6
    assert np.abs(saved.derivative - wide_saved.derivative).max(initial=0.0) <= 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_far_out(dtype: type) -> None:
    y, saved = gelu.forward(np.array([-1e4, -40.0, 40.0, 1e4], dtype))
    np.testing.assert_allclose(y, [0.0, 0.0, 40.0, 1e4], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(saved.derivative, [0.0, 0.0, 1.0, 1.0], atol=1e-6)
    assert np.abs(saved.derivative[:2]).max() <= 1e-15


@quick
@given(st.floats(-50.0, 50.0))
def test_gelu_minus_its_mirror_image_is_x(x: float) -> None:
    """x Φ(x) − (−x) Φ(−x) = x, since Φ(x) + Φ(−x) = 1."""
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-15)):
        value = dtype(x)
        left, right = gelu.forward(np.array([value, -value], dtype))[0]
        assert left - right == pytest.approx(float(value), rel=tolerance, abs=tolerance)
