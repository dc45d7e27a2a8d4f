"""Clipping of the gradient: by its global norm (Pascanu, Mikolov and Bengio 2013), a layer's, or a unit's.

    norm  = sqrt(Σ g²)                                                       (CLIP.1)
    scale = min(1, max_norm / norm)                                          (CLIP.2)
    the same, with the norm of each layer's part                             (CLIP.3)
    scale of a unit = min(1, λ · max(‖w‖, ε) / ‖g‖)                          (AGC.1)

Derivations: docs/derivations/clipping.md, docs/derivations/adaptive_clipping.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, blocks
from mini_bert.optim.layout import Layout, Tensor

ADAPTIVE_EPS = 1e-3
"""ε of (AGC.1): units whose weights are nearly 0 may still have gradients of the size λ ε."""


class Clipped(NamedTuple):
    """What clipping found and did."""

    norm: float
    """Of the whole mean gradient, before clipping."""
    scale: float
    """Factor that is still to be put on the gradients: the mean's, and (CLIP.2) where that is one for all."""
    share: float
    """How many of the norms were too large: of one norm, of the layers', or of the units'."""


def clip(
    gradients: Array,
    parameters: Array,
    layout: Layout,
    *,
    kind: str = "global",
    divisor: float = 1.0,
    max_norm: float = 1.0,
    adaptive: float = 0.02,
) -> Clipped:
    """Clip the mean gradient, `gradients` / `divisor`, in one of four ways.

    Args:
        gradients: [N] sums; changed in place by the kinds `layer` and `adaptive`, where a norm is too large.
        parameters: [N] the vector θ, read by `adaptive`.
        layout: the tensors in both; read by `layer` and `adaptive`.
        kind: `global`, `layer` (embeddings, each block, and what stands on them), `adaptive` (each unit, but for
            the tensors that answers are made with), or `none`.
        divisor: how many items were summed.
        max_norm: the largest norm of the mean gradient, or of a layer's part.
        adaptive: λ, the largest norm of a unit's mean gradient as a share of its weights' norm.

    A gradient that is not finite is left as it is; its norm says so.

    Raises:
        InvalidInputError: another kind.
    """
    if kind not in ("global", "layer", "adaptive", "none"):
        raise InvalidInputError("kind", got=repr(kind), expected="'global', 'layer', 'adaptive' or 'none'")
    norm = global_norm(gradients) / divisor
    if kind == "none" or not math.isfinite(norm):
        return Clipped(norm, 1.0 / divisor, 0.0)
    if kind == "global":
        scale = clip_scale(norm, max_norm)
        return Clipped(norm, scale / divisor, float(scale < 1.0))
    if kind == "layer":
        return Clipped(norm, 1.0 / divisor, _clip_layers(gradients, layout, divisor * max_norm))
    return Clipped(norm, 1.0 / divisor, _clip_units(gradients, parameters, layout, divisor * adaptive))


def global_norm(vector: Array) -> float:
    """The Euclidean norm (CLIP.1); infinite or NaN exactly if an element is, or if it overflows.

    Each block is summed in the vector's dtype, the blocks in float64: so the sum has one order, whatever the BLAS.
    """
    return _norm([vector])


def clip_scale(norm: float, max_norm: float) -> float:
    """The factor that brings a gradient of this norm down to `max_norm`, or 1 (CLIP.2)."""
    return min(1.0, max_norm / norm) if norm > 0.0 else 1.0


def _norm(vectors: Iterable[Array]) -> float:
    """The Euclidean norm of several vectors as one."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [
            float(np.einsum("i,i->", vector[block], vector[block]))
            for vector in vectors
            for block in blocks(vector.size)
        ]
    try:
        return math.sqrt(math.fsum(squares))
    except OverflowError:  # each block is finite and their sum is not
        return math.inf


def _clip_layers(gradients: Array, layout: Layout, limit: float) -> float:
    """Bring each layer's part down to `limit` (CLIP.3); returns the share of layers that were longer."""
    layers: dict[int, list[Array]] = {}
    for tensor in layout:
        layers.setdefault(tensor.depth, []).append(gradients[tensor.part])
    clipped = 0
    for parts in layers.values():
        scale = clip_scale(_norm(parts), limit)
        if scale < 1.0:
            clipped += 1
            for part in parts:
                part *= scale
    return clipped / len(layers)


def _clip_units(gradients: Array, parameters: Array, layout: Layout, ratio: float) -> float:
    """Bring each unit's gradient down to `ratio` of its weights' norm (AGC.1); returns the share that was longer.

    What answers are made with is left alone (Brock et al. 2021: not the last linear layer).
    """
    clipped = units = 0
    for tensor in (tensor for tensor in layout if not tensor.answers):
        shape, axis = _units(tensor)
        gradient, weights = (vector[tensor.part].reshape(shape) for vector in (gradients, parameters))
        limits = ratio * np.maximum(_norms(weights, axis), ADAPTIVE_EPS)
        norms = _norms(gradient, axis)
        too_long = norms > limits
        units += too_long.size
        if too_long.any():
            clipped += int(too_long.sum())
            gradient *= np.divide(limits, norms, out=np.ones_like(norms), where=too_long)
    return clipped / max(units, 1)


def _units(tensor: Tensor) -> tuple[tuple[int, ...], int]:
    """The tensor's shape as a matrix of units, and the axis along which the numbers of one unit lie.

    A column of a matrix [in, out] makes one output; a row of a table is one entry; a vector is one unit.
    """
    if len(tensor.shape) == 1:
        return (1, *tensor.shape), 1
    return tensor.shape, 1 if tensor.table else 0


def _norms(matrix: Array, axis: int) -> Array:
    """The Euclidean norm along `axis`, kept as an axis of 1."""
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i" if axis else "ij,ij->j", matrix, matrix)
    return np.asarray(np.sqrt(np.expand_dims(squares, axis)))
