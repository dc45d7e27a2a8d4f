"""Scores of queries beside embeddings of distances (Shaw et al. 2018, equations 4 and 5; `relative_key` of BERT).

    N[t, s]  = Q_t · E[p_t − s + L − 1] / √K                                 (RKEY.1)
    X[t, d]  = Q_t · E'[d] / √K          E' the rows in reach, last first    (RKEY.2)
    dQ       = dX E' / √K                                                    (RKEY.3)
    dE'      = dXᵀ Q / √K                summed over rows, heads, queries    (RKEY.4)

N is X read by key instead of by distance (DIST.1). E [2 L − 1, K] has a row for each distance p_t − s of a query from a
key, from −(L − 1) to L − 1 with L the longest row of tokens; all heads share it. No array [T, S, K] of embeddings is
made: a product with the 2 S − 1 rows in reach costs twice that of queries with keys. Derivation:
docs/derivations/relative_keys.md.

Differs from Shaw et al.: distances are not clipped, and values have no embeddings.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops import by_distance
from mini_bert.ops.contract import Array, Case, Cost, rows_of


class Saved(NamedTuple):
    """Both factors of (RKEY.2), and how it was read."""

    Q_BATK: Array
    reach: Array
    """E' [2 S − 1, K]: a copy, in the order of s − p_t"""
    rows: int
    """2 L − 1"""
    distances: by_distance.Saved


def forward(Q_BATK: Array, E: Array, *, keys: int, positions: Array | None = None) -> tuple[Array, Saved]:
    """Return N [B, A, T, S], to be added to the scores (RKEY.1).

    Args:
        Q_BATK: queries.
        E: [2 L − 1, K] embeddings of distances.
        keys: S, at most L.
        positions: places of the queries, broadcast to [B, A, T]; None: 0 … T − 1.
    """
    first = E.shape[0] // 2 - (keys - 1)
    reach = np.ascontiguousarray(E[first : first + 2 * keys - 1][::-1])
    X = Q_BATK @ reach.T
    X *= 1.0 / math.sqrt(Q_BATK.shape[-1])  # (RKEY.2)
    N_BATS, distances = by_distance.forward(X, positions=positions)
    return N_BATS, Saved(Q_BATK, reach, E.shape[0], distances)


def backward(dN_BATS: Array, saved: Saved) -> tuple[Array, Array]:
    """Return dQ [B, A, T, K] and dE [2 L − 1, K]."""
    Q_BATK, reach, rows, distances = saved
    (dX,) = by_distance.backward(dN_BATS, distances)
    dX *= 1.0 / math.sqrt(Q_BATK.shape[-1])
    dQ_BATK = dX @ reach  # (RKEY.3)
    dE = np.zeros((rows, reach.shape[1]), dN_BATS.dtype)
    first = (rows - len(reach)) // 2
    dE[first : first + len(reach)] = (rows_of(dX).T @ rows_of(Q_BATK))[::-1]  # (RKEY.4)
    return dQ_BATK, dE


def cost(queries: int, S: int, K: int) -> Cost:
    """Cost for so many queries, all rows and heads together, and S keys; Q is not counted as saved: others hold it."""
    reached = 2 * S - 1
    scores = queries * reached
    return Cost(2 * scores * K + scores, 4 * scores * K + scores, 4 * reached * K)


def _case(name: str, shape: tuple[int, ...], L: int, keys: int, positions: Any = None) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
        constants = {"keys": keys, "positions": None if positions is None else np.array(positions)}
        return (rng.normal(size=shape), rng.normal(size=(2 * L - 1, shape[-1]))), constants

    return Case(name, make)


CASES = (
    _case("the longest row", (2, 3, 4, 2), L=4, keys=4),
    _case("a shorter row", (2, 1, 3, 4), L=5, keys=3),
    _case("queries of each row", (2, 2, 2, 3), L=6, keys=4, positions=[[[3, 0]], [[1, 1]]]),
)
