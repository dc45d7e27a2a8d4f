"""Columns times gates: one gate for a group of neighbouring columns, or for each column its own.

    y[h]  = x[h] g[⌊h/n⌋]                h = 0 … H − 1, n = H / G            (GATE.1)
    dx[h] = dy[h] g[⌊h/n⌋]                                                   (GATE.2)
    dg[j] = Σ_{h : ⌊h/n⌋ = j} dy[h] x[h]                                     (GATE.3)

With G = A, the heads of attention, each head's context has one gate; with G = H each number has. Derivation:
docs/derivations/gate.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost, row_dots


class Saved(NamedTuple):
    """Both factors: each is the other's derivative. The callers hold them anyway."""

    x: Array
    """[..., H]"""
    g: Array
    """[..., G]"""


def forward(x: Array, g: Array) -> tuple[Array, Saved]:
    """Return y [..., H] (GATE.1) for `x` [..., H] and `g` [..., G], where G divides H."""
    return _times(x, g), Saved(x, g)


def backward(dy: Array, saved: Saved) -> tuple[Array, Array]:
    """Return dx [..., H] and dg [..., G]."""
    x, g = saved
    dx = _times(dy, g)  # (GATE.2)
    if g.shape == x.shape:
        return dx, dy * x
    return dx, row_dots(_grouped(dy, g), _grouped(x, g))[..., 0]  # (GATE.3)


def _times(x: Array, g: Array) -> Array:
    if g.shape == x.shape:
        return np.asarray(x * g)
    return np.asarray(_grouped(x, g) * g[..., None]).reshape(x.shape)


def _grouped(x: Array, g: Array) -> Array:
    """[..., H] as [..., G, n]."""
    return x.reshape(*g.shape, x.shape[-1] // g.shape[-1])


def cost(rows: int, width: int) -> Cost:
    """Cost for `x` [rows, width], with gates for groups of columns; x and g are not counted as saved: others hold them.

    (GATE.2) multiplies, (GATE.3) multiplies and adds.
    """
    return Cost(rows * width, 3 * rows * width, 0)


def _case(name: str, H: int, G: int) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (rng.normal(size=(2, 3, H)), rng.normal(size=(2, 3, G))), {}

    return Case(name, make)


CASES = (_case("three groups of two columns", 6, 3), _case("one gate in all", 5, 1), _case("one a column", 4, 4))
