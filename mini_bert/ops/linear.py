"""Affine map of the last axis.

    y  = x W + b                                                             (LIN.1)
    dx = dy Wᵀ                                                               (LIN.2)
    dW = xᵀ dy, summed over all rows                                         (LIN.3)
    db = 1ᵀ dy, summed over all rows                                         (LIN.4)

Where there is no bias, b is None, and so is db. Derivation: docs/derivations/linear.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost, rows_of


class Saved(NamedTuple):
    """Both factors of the product: each is the other's derivative. No copies; the callers hold them anyway."""

    x: Array
    """[..., in]"""
    W: Array
    """[in, out]"""
    biased: bool
    """Whether there is a bias."""


def forward(x: Array, W: Array, b: Array | None) -> tuple[Array, Saved]:
    """Return `x W + b` (LIN.1): `x` [..., in], `W` [in, out], `b` [out] or None to y [..., out]."""
    y = rows_of(x) @ W  # one large product, whatever the leading axes
    if b is not None:
        y += b
    return y.reshape(*x.shape[:-1], W.shape[1]), Saved(x, W, b is not None)


def backward(dy: Array, saved: Saved) -> tuple[Array, Array, Array | None]:
    """Return dx [..., in], dW [in, out] and db [out], None without a bias."""
    x, W, biased = saved
    dy_rows = rows_of(dy)
    dx = (dy_rows @ W.T).reshape(x.shape)  # (LIN.2)
    dW = rows_of(x).T @ dy_rows  # (LIN.3)
    db = dy_rows.sum(axis=0) if biased else None  # (LIN.4)
    return dx, dW, db


def cost(rows: int, inputs: int, outputs: int) -> Cost:
    """Cost for `x` [rows, inputs] and `W` [inputs, outputs]; x and W are not counted as saved: others hold them."""
    return Cost(2 * rows * inputs * outputs + rows * outputs, 4 * rows * inputs * outputs + rows * outputs, 0)


def _case(*shape: int) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (rng.normal(size=shape), rng.normal(size=(shape[-1], 3)), rng.normal(size=3)), {}

    return Case(f"x {list(shape)}", make)


CASES = (_case(4, 5), _case(2, 3, 5), _case(1, 1))
