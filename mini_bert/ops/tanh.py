"""Hyperbolic tangent, the activation of BERT's pooler.

    y  = tanh(x)                                                             (TANH.1)
    dx = dy (1 − y²)                                                         (TANH.2)

Derivation: docs/derivations/tanh.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost


class Saved(NamedTuple):
    """The output: its derivative is a polynomial in it."""

    y: Array
    """[...]"""


def forward(x: Array) -> tuple[Array, Saved]:
    """Return tanh(x), elementwise (TANH.1)."""
    y = np.tanh(x)
    return y, Saved(y)


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (TANH.2)."""
    return (dy * (1.0 - saved.y * saved.y),)


def cost(elements: int) -> Cost:
    """Cost for `x` of so many elements."""
    return Cost(elements, 3 * elements, 4 * elements)


def _make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
    return (2.0 * rng.normal(size=(3, 4)),), {}


CASES = (Case("x [3, 4]", _make),)
