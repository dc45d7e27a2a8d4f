"""Which equation of AdamW is wrong? Each is looked at by itself, whatever the others do, so that its name is enough."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from mini_bert.optim import adamw

LR, BETA1, BETA2, STEP = 0.25, 0.9, 0.999, 3
LARGE = 1e12
"""An eps beside which √v̂ is nothing, so that the update is m̂ alone."""


class Update(NamedTuple):
    """What went in and what came out."""

    m: Any
    v: Any
    g: Any
    after: adamw.State
    theta: Any
    """Began at 0."""


def updated(scale: float = 1.0, **settings: Any) -> Update:
    rng = np.random.default_rng(8)
    m, g = rng.normal(size=(2, 12))
    v, theta = rng.uniform(0.5, 2.0, 12), np.zeros(12)
    after = adamw.State(m.copy(), v.copy())
    adamw.update(theta, g, after, step=STEP, lr=LR, beta1=BETA1, beta2=BETA2, weight_decay=0.0, scale=scale, **settings)
    return Update(m, v, g, after, theta)


@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_first_moment_averages_gradients(scale: float) -> None:
    update = updated(scale)
    np.testing.assert_allclose(update.after.m, BETA1 * update.m + (1 - BETA1) * scale * update.g, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_second_moment_averages_squares_of_scaled_gradients(scale: float) -> None:
    update = updated(scale)
    expected = BETA2 * update.v + (1 - BETA2) * (scale * update.g) ** 2
    np.testing.assert_allclose(update.after.v, expected, rtol=1e-12)


def test_bias_correction_of_the_first_moment() -> None:
    m_hat = -updated(eps=LARGE).theta * LARGE / LR
    np.testing.assert_allclose(m_hat, updated().after.m / (1 - BETA1**STEP), rtol=1e-9)


def test_bias_correction_of_the_second_moment() -> None:
    """The quotient of two updates, which differ in eps alone, does not hear of m̂."""
    root = updated(eps=LARGE).theta * LARGE / updated(eps=1e-30).theta
    np.testing.assert_allclose(root**2, updated().after.v / (1 - BETA2**STEP), rtol=1e-9)


def test_eps_is_added_outside_the_root_and_after_the_correction() -> None:
    """Where v̂ is 0, the update is m̂ / eps for any eps."""
    for eps in (1e-2, 1e-6):
        state, theta = adamw.State(np.ones(4), np.zeros(4)), np.zeros(4)
        adamw.update(theta, np.zeros(4), state, step=STEP, lr=LR, eps=eps, weight_decay=0.0)
        np.testing.assert_allclose(-theta * eps / LR, BETA1 / (1 - BETA1**STEP), rtol=1e-12)


@pytest.mark.parametrize("lr", [0.1, 0.001])
def test_decay_shrinks_by_the_rate_and_leaves_the_moments_alone(lr: float) -> None:
    theta, state = np.full(4, 2.0), adamw.init(4, np.float64)
    adamw.update(theta, np.zeros(4), state, step=1, lr=lr, weight_decay=0.5, decayed=3)
    np.testing.assert_allclose(theta, 2 * np.array([1 - lr * 0.5] * 3 + [1]), rtol=1e-14)
    assert not np.any(state)


def test_many_small_updates_add_up() -> None:
    """A weight of 1, such as a LayerNorm's γ, moves on by 200 updates of a ten-thousandth."""
    theta, state = np.ones(3, np.float32), adamw.init(3)
    for step in range(1, 201):
        adamw.update(theta, np.full(3, 0.5, np.float32), state, step=step, lr=1e-4, weight_decay=0.0)
    np.testing.assert_allclose(theta, 1 - 200 * 1e-4, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_second_moment_holds_squares_of_small_gradients(size: float) -> None:
    theta, state = np.zeros(3, np.float32), adamw.init(3)
    for step in (1, 2, 3):
        adamw.update(theta, np.full(3, size, np.float32), state, step=step, lr=LR, eps=1e-12, weight_decay=0.0)
    np.testing.assert_allclose(theta, -3 * LR, rtol=1e-5)
