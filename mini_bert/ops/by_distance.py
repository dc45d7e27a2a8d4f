"""From numbers by distance to numbers by key: what each query reads of a table of relative positions.

    y[…, t, s] = x[…, t, s − p_t + S − 1]                                    (DIST.1)
    dx[…, t, d] = dy[…, t, d + p_t − S + 1],  0 where there is no such key   (DIST.2)

p_t is the place of query t: t itself, or what `positions` says. Column d of x belongs to the distance d − (S − 1) of
the key from the query, from −(S − 1) to S − 1. Where p_t = t, row t + 1 of y begins one column earlier than row t: y is
x with a stride that is one shorter, and no number is moved. Derivation: docs/derivations/relative_keys.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mini_bert.ops.contract import Array, Case, Cost


class Saved(NamedTuple):
    """The shape that was read from, and from which places."""

    shape: tuple[int, ...]
    """[..., T, 2 S − 1]"""
    positions: Array | None


def forward(x: Array, *, positions: Array | None = None) -> tuple[Array, Saved]:
    """Return y [..., T, S] (DIST.1) for `x` [..., T, 2 S − 1]; without `positions` a view of x.

    Args:
        x: a number for each distance.
        positions: whole numbers below S that broadcast to [..., T], the place of each query; None: 0 … T − 1.
    """
    saved = Saved(x.shape, positions)
    if positions is None:
        return _skewed(x), saved
    return np.take_along_axis(x, _columns(x.shape, positions), axis=-1), saved


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx [..., T, 2 S − 1] (DIST.2)."""
    dx = np.zeros(saved.shape, dy.dtype)
    if saved.positions is None:
        _skewed(dx)[...] = dy
    else:
        np.put_along_axis(dx, _columns(saved.shape, saved.positions), dy, axis=-1)
    return (dx,)


def _skewed(x: Array) -> Array:
    """The view of `x` whose row t begins at column S − 1 − t."""
    S = (x.shape[-1] + 1) // 2
    row, column = x.strides[-2:]
    shape, strides = (*x.shape[:-1], S), (*x.strides[:-2], row - column, column)
    return np.asarray(as_strided(x[..., S - 1 :], shape, strides, writeable=x.flags.writeable))


def _columns(shape: tuple[int, ...], positions: Array) -> Array:
    """The column that each query and key read, [..., T, S] with as many axes as `shape`."""
    S = (shape[-1] + 1) // 2
    columns: Array = np.arange(S) - np.asarray(positions)[..., None] + (S - 1)
    return columns.reshape((1,) * (len(shape) - columns.ndim) + columns.shape)


def cost(queries: int, keys: int) -> Cost:
    """Cost for so many queries, all rows and heads together: numbers move, and nothing is computed."""
    return Cost(0, 0, 0)


def _case(name: str, shape: tuple[int, ...], positions: Any = None) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
        return (rng.normal(size=shape),), {"positions": None if positions is None else np.array(positions)}

    return Case(name, make)


CASES = (
    _case("all queries", (2, 3, 4, 7)),
    _case("the first queries", (2, 2, 5)),
    _case("queries of each row", (2, 3, 2, 5), [[[2, 0]], [[1, 1]]]),
)
