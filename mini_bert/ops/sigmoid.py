"""Logistic function.

    y  = 1 / (1 + e^−x)                                                      (SIG.1)
    dx = dy y (1 − y)                                                        (SIG.2)

e^−|x| is all that is computed, so that nothing overflows: for x < 0, y = e^x / (1 + e^x). Derivation:
docs/derivations/sigmoid.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost


class Saved(NamedTuple):
    """The output: the derivative is a polynomial of it, so the exponential is not computed twice."""

    y: Array
    """[...]"""


def forward(x: Array) -> tuple[Array, Saved]:
    """Return `1 / (1 + e^−x)` (SIG.1)."""
    negative = x.real < 0
    with np.errstate(under="ignore"):
        small = np.exp(np.where(negative, x, -x))
    y = np.where(negative, small, 1.0) / (small + 1.0)
    return y, Saved(y)


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (SIG.2)."""
    dx = dy * saved.y
    dx *= 1.0 - saved.y
    return (dx,)


def cost(elements: int) -> Cost:
    """Cost for `x` of so many elements."""
    return Cost(4 * elements, 3 * elements, 4 * elements)


def _case(name: str, shift: float, scale: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (shift + scale * rng.normal(size=(3, 7)),), {}

    return Case(name, make)


CASES = (_case("around zero", 0.0, 1.0), _case("nearly shut", -12.0, 3.0), _case("nearly open", 9.0, 3.0))
