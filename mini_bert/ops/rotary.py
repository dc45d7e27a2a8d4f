"""Rotary position embeddings: pairs of numbers are turned by an angle that grows with the position (Su et al. 2021).

    θ_k = θ^(−2k/K)                      k = 0 … K/2 − 1                     (ROPE.1)
    (y_2k + i y_2k+1) = e^(i t θ_k) (x_2k + i x_2k+1)                        (ROPE.2)
    (dx_2k + i dx_2k+1) = e^(−i t θ_k) (dy_2k + i dy_2k+1)                   (ROPE.3)

A pair is written as one complex number: to multiply it by e^(iφ) is to turn it by φ. Query and key turned so have an
inner product in which positions occur as t − s only. Derivation: docs/derivations/rotary.md.

Pairs are neighbours, as in the paper (equation 34). GPT-NeoX and Llama pair column k with k + K/2, which is the same up
to the order of the columns of W_Q and W_K. Angles are computed in float64, whatever the dtype of x.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost


class Saved(NamedTuple):
    """What each pair was turned by, a complex number of length 1; x itself does not enter its own gradient."""

    turns: Array
    """[..., T, K/2]"""


def forward(x: Array, *, positions: Array, theta: float = 10000.0) -> tuple[Array, Saved]:
    """Return y [..., T, K] (ROPE.2) for `x` [..., T, K], K even.

    Args:
        x: queries or keys.
        positions: whole numbers that broadcast to [..., T], the place of each row.
        theta: base of the wavelengths, which go from 2π to nearly 2π theta positions.
    """
    frequencies = theta ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1])  # (ROPE.1)
    angles = np.asarray(positions)[..., None] * frequencies
    turns = np.exp(1j * angles).astype(np.result_type(x.dtype, np.complex64))
    return _turned(x, turns), Saved(turns)


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (ROPE.3): turned back."""
    return (_turned(dy, saved.turns.conj()),)


def _turned(x: Array, turns: Array) -> Array:
    y = np.empty(x.shape, x.dtype)
    if x.dtype.kind == "c":  # its pairs cannot be read as complex numbers: they are some
        cos, sin, left, right = turns.real, turns.imag, x[..., ::2], x[..., 1::2]
        y[..., ::2] = left * cos - right * sin
        y[..., 1::2] = left * sin + right * cos
        return y
    if x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x)
    np.multiply(x.view(turns.dtype), turns, out=y.view(turns.dtype))
    return y


def cost(elements: int, tokens: int, width: int) -> Cost:
    """Cost for `x` of so many elements, at positions of so many tokens that all heads and rows share."""
    return Cost(3 * elements, 3 * elements, 4 * tokens * width)


def _case(name: str, shape: tuple[int, ...], positions: Any, theta: float = 10000.0) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
        return (rng.normal(size=shape),), {"positions": np.array(positions), "theta": theta}

    return Case(name, make)


CASES = (
    _case("one after the other", (2, 3, 4, 6), [0, 1, 2, 3]),
    _case("positions of each row", (2, 3, 2, 4), [[[5, 0]], [[63, 7]]], theta=100.0),
    _case("one pair, far away", (3, 2), [0, 1000, 65535], theta=2.0),
)
