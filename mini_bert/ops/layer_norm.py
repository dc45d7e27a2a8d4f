"""Layer normalisation of the last axis (Ba, Kiros and Hinton 2016, equations 3 and 4).

    μ    = mean(x)                                                           (LN.1)
    σ²   = mean((x − μ)²)            biased, divided by H                    (LN.2)
    x̂    = (x − μ) / sqrt(σ² + ε)    ε under the root                        (LN.3)
    y    = γ x̂ + β                                                           (LN.4)

    dγ   = Σ_rows dy x̂               dβ = Σ_rows dy                          (LN.5)
    dx̂   = dy γ                                                              (LN.6)
    dx   = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) / sqrt(σ² + ε)                     (LN.7)

Where there is no shift, β is None, and so is dβ. Derivation: docs/derivations/layer_norm.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost, row_dots, row_sums, rows_of


class Saved(NamedTuple):
    """x̂ and 1/σ: with them neither x nor μ is read again, and (LN.7) needs no second pass over the statistics."""

    x_hat: Array
    """[..., H]"""
    inverse_deviation: Array
    """[..., 1]"""
    gamma: Array
    """[H]"""
    shifted: bool
    """Whether there is a β."""


def forward(x: Array, gamma: Array, beta: Array | None, *, eps: float = 1e-12) -> tuple[Array, Saved]:
    """Return γ x̂ + β: `x` [..., H], `gamma` [H] and `beta` [H] or None to y [..., H]."""
    H = x.shape[-1]
    mean = row_sums(x) / H  # (LN.1)
    x_hat = x - mean
    variance = row_dots(x_hat, x_hat) / H  # (LN.2)
    inverse_deviation = 1.0 / np.sqrt(variance + eps)
    x_hat *= inverse_deviation  # (LN.3)
    y = x_hat * gamma
    if beta is not None:
        y += beta  # (LN.4)
    return y, Saved(x_hat, inverse_deviation, gamma, beta is not None)


def backward(dy: Array, saved: Saved) -> tuple[Array, Array, Array | None]:
    """Return dx [..., H], dgamma [H] and dbeta [H], None without a shift."""
    x_hat, inverse_deviation, gamma, shifted = saved
    H = dy.shape[-1]
    dgamma = np.einsum("rh,rh->h", rows_of(dy), rows_of(x_hat))  # (LN.5)
    dbeta = rows_of(dy).sum(axis=0) if shifted else None
    dx = dy * gamma  # (LN.6)
    mean = row_sums(dx) / H
    projection = row_dots(dx, x_hat) / H
    dx -= mean
    dx -= x_hat * projection
    dx *= inverse_deviation  # (LN.7)
    return dx, dgamma, dbeta


def cost(rows: int, width: int) -> Cost:
    """Cost for `x` [rows, width]."""
    return Cost(7 * rows * width, 11 * rows * width, 4 * rows * (width + 1))


def _case(name: str, *shape: int, scale: float = 1.0, shift: float = 0.0, eps: float = 1e-12) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        x = shift + scale * rng.normal(size=shape)
        return (x, rng.normal(size=shape[-1]), rng.normal(size=shape[-1])), {"eps": eps}

    return Case(name, make)


CASES = (
    _case("x [3, 8]", 3, 8),
    _case("x [2, 2, 5]", 2, 2, 5),
    _case("far from zero", 2, 6, scale=0.5, shift=30.0),
    _case("epsilon that matters", 2, 6, scale=0.1, eps=1e-2),
)
