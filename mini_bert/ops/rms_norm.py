"""Root-mean-square normalisation of the last axis (Zhang and Sennrich 2019, equation 4).

    s    = sqrt(mean(x²) + ε)        no mean is subtracted                   (RMS.1)
    x̂    = x / s                                                             (RMS.2)
    y    = γ x̂                       no shift                                (RMS.3)

    dγ   = Σ_rows dy x̂                                                       (RMS.4)
    dx̂   = dy γ                                                              (RMS.5)
    dx   = (dx̂ − x̂ mean(dx̂ x̂)) / s                                           (RMS.6)

The paper has no ε; it stands under the root here, as in layer_norm. Derivation: docs/derivations/rms_norm.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost, row_dots, rows_of


class Saved(NamedTuple):
    """x̂ and 1/s: with them x is not read again, and (RMS.6) needs no second pass over the statistics."""

    x_hat: Array
    """[..., H]"""
    inverse_root: Array
    """[..., 1]"""
    gamma: Array
    """[H]"""


def forward(x: Array, gamma: Array, *, eps: float = 1e-12) -> tuple[Array, Saved]:
    """Return γ x̂: `x` [..., H], `gamma` [H] to y [..., H]."""
    mean_square = row_dots(x, x) / x.shape[-1]
    inverse_root = 1.0 / np.sqrt(mean_square + eps)  # (RMS.1)
    x_hat = x * inverse_root  # (RMS.2)
    return x_hat * gamma, Saved(x_hat, inverse_root, gamma)  # (RMS.3)


def backward(dy: Array, saved: Saved) -> tuple[Array, Array]:
    """Return dx [..., H] and dgamma [H]."""
    x_hat, inverse_root, gamma = saved
    dgamma = np.einsum("rh,rh->h", rows_of(dy), rows_of(x_hat))  # (RMS.4)
    dx = dy * gamma  # (RMS.5)
    projection = row_dots(dx, x_hat) / dy.shape[-1]
    dx -= x_hat * projection
    dx *= inverse_root  # (RMS.6)
    return dx, dgamma


def cost(rows: int, width: int) -> Cost:
    """Cost for `x` [rows, width]."""
    return Cost(4 * rows * width, 8 * rows * width, 4 * rows * (width + 1))


def _case(name: str, *shape: int, scale: float = 1.0, shift: float = 0.0, eps: float = 1e-12) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (shift + scale * rng.normal(size=shape), rng.normal(size=shape[-1])), {"eps": eps}

    return Case(name, make)


CASES = (
    _case("x [3, 8]", 3, 8),
    _case("x [2, 2, 5]", 2, 2, 5),
    _case("far from zero", 2, 6, scale=0.5, shift=30.0),
    _case("epsilon that matters", 2, 6, scale=0.1, eps=1e-2),
)
