"""Squared error of numbers with the numbers that they should be, summed over rows.

    loss    = Σ_m (z_m − target_m)²                                          (SE.1)
    dz_m    = 2 dloss (z_m − target_m)                                       (SE.2)

The sum, not the mean, as in cross_entropy.py: shards of a batch then simply add, and whoever wants the mean squared
error divides once by the number of targets of the whole batch. Derivation: docs/derivations/squared_error.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost


class Saved(NamedTuple):
    """By how much each was missed."""

    differences: Array
    """[M, 1]"""


def forward(z: Array, *, targets: Array) -> tuple[Array, Saved]:
    """Return the summed loss, a scalar array: `z` [M, 1], `targets` [M] real numbers (SE.1)."""
    differences = z - targets.astype(z.real.dtype)[:, None]
    return np.asarray((differences * differences).sum()), Saved(differences)


def backward(dloss: Array, saved: Saved) -> tuple[Array]:
    """Return dz [M, 1] (SE.2)."""
    return (2 * dloss * saved.differences,)


def cost(rows: int) -> Cost:
    """Cost for `z` [rows, 1]."""
    return Cost(3 * rows, rows, 4 * rows)


def _case(name: str, *targets: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (rng.normal(size=(len(targets), 1)),), {"targets": np.array(targets)}

    return Case(name, make)


CASES = (_case("three rows", 0.0, 4.75, -1.5), _case("far away", 1000.0, -1000.0))
