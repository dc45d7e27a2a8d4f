"""Clipping of the gradient by its global norm (Pascanu, Mikolov and Bengio 2013).

    norm  = sqrt(Σ g²)                                                       (CLIP.1)
    scale = min(1, max_norm / norm)                                          (CLIP.2)

Derivation: docs/derivations/clipping.md.
"""

from __future__ import annotations

import math

import numpy as np

from mini_bert.ops.contract import Array, blocks


def global_norm(vector: Array) -> float:
    """The Euclidean norm (CLIP.1); infinite or NaN exactly if an element is, or if it overflows.

    Each block is summed in the vector's dtype, the blocks in float64: so the sum has one order, whatever the BLAS.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [float(np.einsum("i,i->", vector[block], vector[block])) for block in blocks(vector.size)]
    try:
        return math.sqrt(math.fsum(squares))
    except OverflowError:  # each block is finite and their sum is not
        return math.inf


def clip_scale(norm: float, max_norm: float) -> float:
    """The factor that brings a gradient of this norm down to `max_norm`, or 1 (CLIP.2)."""
    return min(1.0, max_norm / norm) if norm > 0.0 else 1.0
