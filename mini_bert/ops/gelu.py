"""Gaussian error linear unit in its exact form (Hendrycks and Gimpel 2016).

    Φ(x)    = (1 + erf(x / √2)) / 2                                          (GELU.1)
    y       = x Φ(x)                                                         (GELU.2)
    φ(x)    = exp(−x² / 2) / √(2π)                                           (GELU.3)
    dx      = dy (Φ(x) + x φ(x))                                             (GELU.4)

BERT uses this form, not the tanh approximation (which differs from it by up to 4.7e-4). Derivation:
docs/derivations/gelu.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import BLOCK, Array, Case, Cost, blocks
from mini_bert.ops.erf import FIT, LARGEST_SQUARE, erf

_INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)

_FIT = tuple(c / 2 ** (k + 0.5) for k, c in enumerate(FIT))
"""The polynomial of (ERF.1) for x/√2 in the place of x."""


class Saved(NamedTuple):
    """The derivative itself, instead of x: forward has Φ at hand, and backward becomes one product."""

    derivative: Array
    """[...] Φ(x) + x φ(x)"""


def forward(x: Array) -> tuple[Array, Saved]:
    """Return x Φ(x), elementwise."""
    if x.dtype == np.float32:
        return _forward_float32(x)
    Phi = 0.5 * (1.0 + erf(x * math.sqrt(0.5)))  # (GELU.1)
    phi = np.exp(-0.5 * x * x) * _INVERSE_SQRT_2PI  # (GELU.3)
    return x * Phi, Saved(Phi + x * phi)


def _forward_float32(x: Array) -> tuple[Array, Saved]:
    """The same three equations, in place and block by block: memory traffic is what costs here."""
    y, derivative = np.empty_like(x, order="C"), np.empty_like(x, order="C")
    x_flat, y_flat, derivative_flat = x.reshape(-1), y.reshape(-1), derivative.reshape(-1)
    square_buffer, Phi_buffer = np.empty((2, min(BLOCK, x.size)), np.float32)
    for block in blocks(x.size):
        xb = x_flat[block]
        square, Phi = square_buffer[: xb.size], Phi_buffer[: xb.size]
        np.multiply(xb, xb, out=square)
        np.minimum(square, 2.0 * LARGEST_SQUARE, out=square)
        np.multiply(square, _FIT[-1], out=Phi)
        for coefficient in _FIT[-2:0:-1]:
            Phi += coefficient
            Phi *= square
        Phi += _FIT[0]
        Phi *= xb
        np.tanh(Phi, out=Phi)  # (ERF.1)
        Phi += 1.0
        Phi *= 0.5  # (GELU.1)
        np.multiply(xb, Phi, out=y_flat[block])  # (GELU.2)
        square *= -0.5
        phi = np.exp(square, out=square)
        phi *= xb
        phi *= _INVERSE_SQRT_2PI  # (GELU.3), times x
        np.add(Phi, phi, out=derivative_flat[block])
    return y, Saved(derivative)


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (GELU.4)."""
    return (dy * saved.derivative,)


def cost(elements: int) -> Cost:
    """Cost for `x` of so many elements."""
    return Cost(25 * elements, elements, 4 * elements)


def _case(name: str, scale: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (scale * rng.normal(size=(4, 8)),), {}

    return Case(name, make)


CASES = (_case("around zero", 0.3), _case("unit normal", 1.0), _case("into the tails", 3.0))
