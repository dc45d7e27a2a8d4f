"""A learned bias of the scores for each head and each bucket of distances (Raffel et al. 2020, section 2.1: T5).

    N[a, t, s] = E[bucket(s − p_t), a]                                       (RBIAS.1)
    dE[n, a]   = Σ_{t, s : bucket(s − p_t) = n} dN[a, t, s]                  (RBIAS.2)

Buckets tell near distances apart one by one and far ones by their logarithm; half of them are for keys before the
query, half for keys behind it. All layers share one table. Derivation: docs/derivations/relative_bias.md.

Differs from T5: scores keep their 1/√K, which T5 leaves to the initial values of W_Q. A distance that lies on the
border of two buckets exactly is in the farther one, where T5 leaves it to the rounding of a logarithm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops import by_distance, embedding
from mini_bert.ops.contract import Array, Case, Cost

_ROUNDING = 1e-9


class Saved(NamedTuple):
    """Which bucket each distance is in, how distances were read, and how many rows the table has."""

    buckets: Array
    """[2 S − 1]"""
    distances: by_distance.Saved
    rows: int


def bucket(distances: Array, count: int, max_distance: int) -> Array:
    """The bucket, 0 … `count` − 1, of each distance s − t; for even `count` and `max_distance` above a quarter of it.

    >>> bucket(np.array([0, -1, -2, -3, -6, -16, 1, 3, 6]), 8, 16).tolist()
    [0, 1, 2, 2, 3, 3, 5, 6, 7]
    """
    half = count // 2
    exact = half // 2
    steps = np.abs(distances)
    ratio = np.log(np.maximum(steps, 1) / exact) / np.log(max_distance / exact)
    far = exact + np.floor(ratio * (half - exact) + _ROUNDING).astype(np.int64)
    return half * (distances > 0) + np.where(steps < exact, steps, np.minimum(far, half - 1))


def forward(E: Array, *, keys: int, max_distance: int, positions: Array | None = None) -> tuple[Array, Saved]:
    """Return N [1, A, S, S], the same for all rows, or [B, A, T, S], to be added to the scores (RBIAS.1).

    Args:
        E: [buckets, A].
        keys: S.
        max_distance: distance from which on all are in one bucket.
        positions: [B, 1, T], places of the queries of each row; None: 0 … S − 1 in every row.
    """
    buckets = bucket(np.arange(1 - keys, keys), E.shape[0], max_distance)
    rows, queries = (1, keys) if positions is None else (positions.shape[0], positions.shape[-1])
    by_bucket = E[buckets].T[:, None, :]
    x = np.broadcast_to(by_bucket, (rows, E.shape[1], queries, 2 * keys - 1))
    N_BATS, distances = by_distance.forward(x, positions=positions)
    return np.ascontiguousarray(N_BATS), Saved(buckets, distances, E.shape[0])


def backward(dN_BATS: Array, saved: Saved) -> tuple[Array]:
    """Return dE [buckets, A] (RBIAS.2): by distance first, then by bucket."""
    (dx,) = by_distance.backward(dN_BATS, saved.distances)
    dE = np.zeros((saved.rows, dx.shape[1]), dN_BATS.dtype)
    embedding.add_rows(dE, saved.buckets, dx.sum(axis=(0, 2)).T)
    return (dE,)


def cost(A: int, T: int, S: int) -> Cost:
    """Cost for T queries and S keys in A heads of one row: one addition a distance of each query, backward."""
    return Cost(0, A * T * (2 * S - 1), 8 * (2 * S - 1))


def _case(name: str, buckets: int, keys: int, max_distance: int, positions: Any = None) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
        constants = {"keys": keys, "max_distance": max_distance}
        return (rng.normal(size=(buckets, 3)),), {
            **constants,
            "positions": None if positions is None else np.array(positions),
        }

    return Case(name, make)


CASES = (
    _case("near and far", 8, 6, 5),
    _case("more buckets than distances", 32, 4, 128),
    _case("queries of each row", 4, 7, 8, positions=[[[6, 0]], [[2, 3]]]),
)
