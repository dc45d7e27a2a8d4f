"""Rectified linear unit (Nair and Hinton 2010).

    y  = max(x, 0)                                                           (RELU.1)
    dx = dy [x > 0]                  the derivative at 0 is taken as 0       (RELU.2)

Derivation: docs/derivations/relu.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost


class Saved(NamedTuple):
    """Where x was positive: one byte an element."""

    positive: Array
    """[...] bool"""


def forward(x: Array) -> tuple[Array, Saved]:
    """Return max(x, 0), elementwise (RELU.1); the real part decides for complex x."""
    positive = x.real > 0
    return x * positive, Saved(positive)


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (RELU.2)."""
    return (dy * saved.positive,)


def cost(elements: int) -> Cost:
    """Cost for `x` of so many elements."""
    return Cost(elements, elements, elements)


def _make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
    x = rng.normal(size=(4, 8))
    return (x + 0.1 * np.sign(x),), {}  # away from the kink, where there is no derivative to check


CASES = (Case("away from the kink", _make),)
