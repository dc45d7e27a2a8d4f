"""AdamW beside its five equations, one number at a time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import BLOCK
from mini_bert.optim import adamw
from mini_bert.optim.layout import blocks_split_at

SETTINGS = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1}


def by_loops(
    theta: list[float], gradients: list[list[float]], rates: list[float], decayed: int, scale: float = 1.0
) -> list[float]:
    """Loshchilov and Hutter 2019, algorithm 2, as it is printed."""
    beta1, beta2, eps, decay = SETTINGS.values()
    theta = list(theta)
    for i in range(len(theta)):
        m = v = 0.0
        for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
            m = beta1 * m + (1 - beta1) * g[i] * scale
            v = beta2 * v + (1 - beta2) * (g[i] * scale) ** 2
            m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
            if i < decayed:
                theta[i] -= lr * decay * theta[i]
            theta[i] -= lr * m_hat / (math.sqrt(v_hat) + eps)
    return theta


def run(theta: Any, gradients: Any, rates: list[float], decayed: int, scale: float = 1.0) -> Any:
    theta = np.array(theta)
    state = adamw.init(theta.size, theta.dtype)
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        before = g.copy()
        adamw.update(theta, g, state, step=t, lr=lr, decayed=decayed, scale=scale, **SETTINGS)
        np.testing.assert_array_equal(g, before)
    return theta


@pytest.mark.parametrize("decayed", [0, 3, 7])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_ten_steps_are_those_of_the_loops(decayed: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=7), rng.normal(size=(10, 7)) * [1, 1e-6, 1e3, 1, 1, 0, 1]
    rates = [0.1 / t for t in range(1, 11)]
    expected = by_loops(theta.tolist(), gradients.tolist(), rates, decayed, scale)
    np.testing.assert_allclose(run(theta, gradients, rates, decayed, scale), expected, rtol=1e-12, atol=1e-15)
    single = run(theta.astype(np.float32), gradients.astype(np.float32), rates, decayed, scale)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-6)


def test_first_step_has_the_length_of_the_rate() -> None:
    """Bias correction: m̂/√v̂ is the sign of the gradient at step 1, whatever its size."""
    theta, gradient = np.zeros(4), np.array([1e-3, -1.0, 50.0, 0.0])
    adamw.update(theta, gradient, adamw.init(4, np.float64), step=1, lr=0.01, eps=1e-12, weight_decay=0.0)
    np.testing.assert_allclose(theta, [-0.01, 0.01, -0.01, 0.0], rtol=1e-8)


def test_decay_is_decoupled_and_of_the_prefix_alone() -> None:
    theta = np.array([2.0, -2.0, 2.0])
    state = adamw.init(3, np.float64)
    adamw.update(theta, np.zeros(3), state, step=1, lr=0.1, weight_decay=0.5, decayed=2)
    np.testing.assert_allclose(theta, [1.9, -1.9, 2.0], rtol=1e-15)
    assert not state.m.any()
    assert not state.v.any()


@pytest.mark.parametrize("decayed", [0, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17])
def test_blocks_leave_nothing_out_and_do_nothing_twice(decayed: int) -> None:
    n = 2 * BLOCK + 17
    rng = np.random.default_rng(1)
    theta, gradient = rng.normal(size=n), rng.normal(size=n)
    updated = run(theta, [gradient], [0.1], decayed)
    factor = np.where(np.arange(n) < decayed, 1 - 0.1 * 0.1, 1.0)
    np.testing.assert_allclose(
        updated, theta * factor - 0.1 * gradient / (np.abs(gradient) + 1e-3), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(("boundary", "size"), [(0, 5), (3, 5), (5, 5), (BLOCK, BLOCK + 1), (BLOCK + 1, 3 * BLOCK)])
def test_blocks_end_at_the_boundary_and_at_the_end(boundary: int, size: int) -> None:
    pieces = blocks_split_at(boundary, size)
    assert [place.start for place in pieces] == [0, *(place.stop for place in pieces[:-1])]
    assert pieces[-1].stop == size
    assert boundary in {0, *(place.stop for place in pieces)}
    assert max(place.stop - place.start for place in pieces) <= BLOCK


@given(st.integers(1, 60), st.integers(0, 60), st.lists(st.integers(0, 60), max_size=4))
@settings(deadline=None, max_examples=50)
def test_parts_change_no_bit(size: int, decayed: int, cuts: list[int]) -> None:
    decayed = min(decayed, size)
    rng = np.random.default_rng(size)
    theta, gradient = rng.normal(size=(2, size)).astype(np.float32)
    whole, state = theta.copy(), adamw.init(size)
    adamw.update(whole, gradient, state, step=3, lr=0.1, decayed=decayed, **SETTINGS)
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    part_state = adamw.init(size)
    for start, stop in pairwise(bounds):
        part = slice(start, stop)
        adamw.update(
            theta[part],
            gradient[part],
            adamw.State(part_state.m[part], part_state.v[part]),
            step=3,
            lr=0.1,
            decayed=min(max(decayed - start, 0), stop - start),
            **SETTINGS,
        )
    for one, other in ((theta, whole), (part_state.m, state.m), (part_state.v, state.v)):
        assert one.tobytes() == other.tobytes()


def test_defaults_are_berts() -> None:
    theta = np.array([1.0, 1.0])
    state = adamw.init(2, np.float64)
    adamw.update(theta, np.array([3.0, 3.0]), state, step=1, lr=0.1, decayed=1)
    np.testing.assert_allclose(state.m, 0.1 * 3)
    np.testing.assert_allclose(state.v, 0.001 * 9)
    np.testing.assert_allclose(theta, np.array([0.999, 1.0]) - 0.1 * 3 / (3 + 1e-6), rtol=1e-12)


def test_nothing_is_decayed_unless_it_is_said() -> None:
    theta = np.array([2.0, 3.0])
    adamw.update(theta, np.zeros(2), adamw.init(2, np.float64), step=1, lr=0.1)
    assert theta.tolist() == [2.0, 3.0]


def test_state_starts_at_zero_in_the_precision_asked_for() -> None:
    state = adamw.init(3)
    assert state.m.dtype == state.v.dtype == np.float32
    assert adamw.init(3, np.float64).v.dtype == np.float64
    assert state.m is not state.v
    assert not np.any(state)


@pytest.mark.parametrize(
    ("gradients", "step", "argument"),
    [(np.zeros(2), 1, "gradients"), (np.zeros(3), 0, "step"), (np.zeros(3), -1, "step")],
)
def test_refused(gradients: Any, step: int, argument: str) -> None:
    theta = np.ones(3)
    with pytest.raises(InvalidInputError) as error:
        adamw.update(theta, gradients, adamw.init(3, np.float64), step=step, lr=0.1)
    assert error.value.argument == argument
    np.testing.assert_array_equal(theta, 1)
