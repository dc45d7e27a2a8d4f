"""Gaussian error linear unit with tanh in the place of erf (Hendrycks and Gimpel 2016, section 2).

    u(x)    = √(2/π) (x + 0.044715 x³)                                       (TGELU.1)
    P(x)    = (1 + tanh u(x)) / 2                                            (TGELU.2)
    y       = x P(x)                                                         (TGELU.3)
    dx      = dy (P + 2 x P (1 − P) u'(x))                                   (TGELU.4)
    u'(x)   = √(2/π) (1 + 3 · 0.044715 x²)                                   (TGELU.5)

GPT-2 and some published BERTs were trained with this form; it differs from `gelu` by up to 4.7e-4. Hugging Face calls
it gelu_new, gelu_pytorch_tanh, gelu_fast and more. Derivation: docs/derivations/gelu_new.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import BLOCK, Array, Case, Cost, blocks

_LINEAR = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715 * _LINEAR

_LARGEST_SQUARE = 100.0
"""x² above this is taken for this: tanh is 1 to the last bit of float64 from |x| = 8 on, and x³ cannot overflow."""


class Saved(NamedTuple):
    """The derivative itself, instead of x: forward has P at hand, and backward becomes one product."""

    derivative: Array
    """[...] P + 2 x P (1 − P) u'(x)"""


def forward(x: Array) -> tuple[Array, Saved]:
    """Return x P(x), elementwise."""
    if x.dtype == np.float32:
        return _forward_float32(x)
    square = x * x
    square = np.where(square.real > _LARGEST_SQUARE, _LARGEST_SQUARE, square)
    P = 0.5 * (1.0 + np.tanh(x * (_LINEAR + _CUBIC * square)))  # (TGELU.1-2)
    y = x * P  # (TGELU.3)
    return y, Saved(P + 2.0 * y * (1.0 - P) * (_LINEAR + 3.0 * _CUBIC * square))  # (TGELU.5)


def _forward_float32(x: Array) -> tuple[Array, Saved]:
    """The same equations, in place and block by block: memory traffic is what costs here."""
    y, derivative = np.empty_like(x, order="C"), np.empty_like(x, order="C")
    x_flat, y_flat, derivative_flat = x.reshape(-1), y.reshape(-1), derivative.reshape(-1)
    square_buffer, P_buffer = np.empty((2, min(BLOCK, x.size)), np.float32)
    for block in blocks(x.size):
        xb, yb, db = x_flat[block], y_flat[block], derivative_flat[block]
        square, P = square_buffer[: xb.size], P_buffer[: xb.size]
        np.multiply(xb, xb, out=square)
        np.minimum(square, _LARGEST_SQUARE, out=square)
        np.multiply(square, _CUBIC, out=P)
        P += _LINEAR
        P *= xb
        np.tanh(P, out=P)  # (TGELU.1)
        P += 1.0
        P *= 0.5  # (TGELU.2)
        np.multiply(xb, P, out=yb)  # (TGELU.3)
        square *= 6.0 * _CUBIC
        square += 2.0 * _LINEAR  # (TGELU.5), twice
        square *= yb
        np.subtract(1.0, P, out=db)
        db *= square
        db += P
    return y, Saved(derivative)


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (TGELU.4)."""
    return (dy * saved.derivative,)


def cost(elements: int) -> Cost:
    """Cost for `x` of so many elements."""
    return Cost(15 * elements, elements, 4 * elements)


def _case(name: str, scale: float) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (scale * rng.normal(size=(4, 8)),), {}

    return Case(name, make)


CASES = (_case("around zero", 0.3), _case("unit normal", 1.0), _case("into the tails", 3.0))
