"""The logistic function, and columns that are multiplied with it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mini_bert.ops import gate, sigmoid


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 3e-7), (np.float64, 1e-15)])
def test_sigmoid_is_precise_where_it_is_small_too(dtype: type, bound: float) -> None:
    x = np.linspace(-80.0, 40.0, 1001).astype(dtype)
    y, _ = sigmoid.forward(x)
    exact = np.array([1.0 / (1.0 + math.exp(-float(value))) for value in x])
    assert np.abs(y.astype(np.float64) / exact - 1.0).max() <= bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_sigmoid_far_from_zero_is_0_or_1_and_learns_nothing(dtype: type) -> None:
    y, saved = sigmoid.forward(np.array([-1e30, -1e4, 0.0, 1e4, 1e30], dtype))
    np.testing.assert_array_equal(y, np.array([0.0, 0.0, 0.5, 1.0, 1.0], dtype))
    np.testing.assert_array_equal(sigmoid.backward(np.ones(5, dtype), saved)[0], np.array([0, 0, 0.25, 0, 0], dtype))


def test_a_gate_belongs_to_neighbouring_columns() -> None:
    x = np.arange(1.0, 13.0).reshape(2, 6)
    g = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
    y, saved = gate.forward(x, g)
    np.testing.assert_array_equal(y, [[1, 2, 0, 0, 10, 12], [0, 0, 27, 30, 11, 12]])
    dy = np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 1.0, 1.0, -1.0]])
    dx, dg = gate.backward(dy, saved)
    np.testing.assert_array_equal(dx, [[1, 1, 0, 0, 2, 2], [0, 0, 0, 3, 1, -1]])
    np.testing.assert_array_equal(dg, [[1 + 2, 3 + 4, 5 + 6], [2 * 8, 10, 11 - 12]])


def test_a_gate_for_each_column_is_a_product() -> None:
    x, g, dy = np.random.default_rng(0).normal(size=(3, 2, 5))
    y, saved = gate.forward(x, g)
    np.testing.assert_array_equal(y, x * g)
    np.testing.assert_array_equal(gate.backward(dy, saved), (dy * g, dy * x))


def test_no_row_at_all() -> None:
    y, saved = gate.forward(np.empty((0, 6)), np.empty((0, 3)))
    assert [part.shape for part in (y, *gate.backward(y, saved))] == [(0, 6), (0, 6), (0, 3)]
