"""Look rows up in a table.

    y[r]     = E[ids[r]]                                                     (EMB.1)
    dE[v]    = Σ_{r : ids[r] = v} dy[r]                                      (EMB.2)

An id that occurs several times collects a gradient from each occurrence. The sum runs over sorted ids with one
`reduceat` instead of `np.add.at`. Derivation: docs/derivations/embedding.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost, rows_of


class Saved(NamedTuple):
    """The ids; the table itself does not enter its own gradient."""

    ids: Array
    """[...] integers"""
    rows: int
    """V, the rows of the table"""


def forward(E: Array, *, ids: Array) -> tuple[Array, Saved]:
    """Return `E[ids]` (EMB.1): `E` [V, H], `ids` [...] to y [..., H]."""
    return E[ids], Saved(ids, E.shape[0])


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dE [V, H], zero in the rows that no id names."""
    dE = np.zeros((saved.rows, dy.shape[-1]), dy.dtype)
    add_rows(dE, saved.ids, dy)
    return (dE,)


def add_rows(dE: Array, ids: Array, dy: Array) -> None:
    """Add `dy` [..., H] to the rows `ids` [...] of `dE` [V, H], in place (EMB.2).

    The gradient buffer is given, not made: a table of V rows of which a batch names a few is not written in full.
    """
    flat_ids = ids.reshape(-1)
    if flat_ids.size == 0:
        return
    order = np.argsort(flat_ids, kind="stable")
    sorted_ids = flat_ids[order]
    starts = np.flatnonzero(np.concatenate(([True], sorted_ids[1:] != sorted_ids[:-1])))
    dE[sorted_ids[starts]] += np.add.reduceat(rows_of(dy)[order], starts, axis=0)


def cost(rows: int, width: int) -> Cost:
    """Cost of `rows` look-ups in a table of `width` columns: one addition an element, backward."""
    return Cost(0, rows * width, 8 * rows)


def _case(name: str, *ids: object) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (rng.normal(size=(6, 4)),), {"ids": np.array(ids)}

    return Case(name, make)


CASES = (_case("repeated ids", 5, 0, 5, 5, 2), _case("ids [2, 3]", [1, 1, 4], [0, 1, 3]))
