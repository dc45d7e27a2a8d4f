"""Softmax of the last axis, shifted by its maximum.

    p_i  = exp(x_i − max x) / Σ_j exp(x_j − max x)                           (SM.1)
    dx   = p ⊙ (dp − Σ_j dp_j p_j)                                           (SM.2)

The shift changes nothing in exact arithmetic and keeps every exponential in [0, 1]. Derivation:
docs/derivations/softmax.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, Case, Cost, row_dots, row_maxima, row_sums


class Saved(NamedTuple):
    """The probabilities: (SM.2) needs nothing else."""

    probs: Array
    """[..., N]"""


def stable_softmax(x: Any, axis: int = -1) -> Array:
    """Softmax of any array along `axis`, for scores of any size: the one softmax of this package (SM.1).

    >>> stable_softmax([1e4, 1e4, -1e4]).tolist()
    [0.5, 0.5, 0.0]

    Raises:
        InvalidInputError: `x` has no such axis or no element along it, or is not a number array.
    """
    values = np.asarray(x)
    if values.dtype.kind in "bui":
        values = values.astype(np.float64)
    if not -values.ndim <= axis < values.ndim:
        raise InvalidInputError("axis", got=axis, expected=f"an axis of an array of shape {list(values.shape)}")
    if values.dtype.kind not in "fc" or values.shape[axis] == 0:
        raise InvalidInputError(
            "x", got=f"{values.dtype} of shape {list(values.shape)}", expected="floats, at least one along the axis"
        )
    if axis in (-1, values.ndim - 1):
        return forward(values)[0]
    return np.moveaxis(forward(np.ascontiguousarray(np.moveaxis(values, axis, -1)))[0], -1, axis)


def forward(x: Array) -> tuple[Array, Saved]:
    """Return the probabilities p [..., N] of the scores `x` [..., N] (SM.1)."""
    probs = x - row_maxima(x)
    with np.errstate(under="ignore"):
        np.exp(probs, out=probs)
    probs /= row_sums(probs)
    return probs, Saved(probs)


def backward(dprobs: Array, saved: Saved) -> tuple[Array]:
    """Return dx [..., N] (SM.2)."""
    probs = saved.probs
    dx = dprobs - row_dots(dprobs, probs)
    dx *= probs
    return (dx,)


def cost(rows: int, width: int) -> Cost:
    """Cost for `x` [rows, width]."""
    return Cost(5 * rows * width, 4 * rows * width, 4 * rows * width)


def _case(name: str, shift: float, scale: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (shift + scale * rng.normal(size=(2, 3, 5)),), {}

    return Case(name, make)


CASES = (_case("small scores", 0.0, 1.0), _case("far from zero", 1e3, 2.0), _case("nearly uniform", 0.0, 1e-3))
