"""Inverted dropout (Srivastava et al. 2014; scaled in training, so that inference does nothing).

    k  = [u ≥ p]                     u uniform, one draw an element          (DROP.1)
    y  = x k / (1 − p)                                                       (DROP.2)
    dx = dy k / (1 − p)                                                      (DROP.3)

u has 16 bits: p is rounded to a multiple of 2⁻¹⁶, and the scale is that of the rounded p, so that E[y] = x exactly.
The draw of an element depends on the stream, its row number in the global batch and its column: not on how the batch
is cut. Derivation: docs/derivations/dropout.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case, Cost
from mini_bert.random_streams import RandomStream

_LEVELS = 65_536


class Saved(NamedTuple):
    """Which elements were kept, one byte each, and the scale. None: nothing was dropped."""

    keep: Array | None
    """[...] bool"""
    scale: float


def forward(
    x: Array, *, p: float, stream: RandomStream | None, first_row: int = 0, rows: Array | None = None
) -> tuple[Array, Saved]:
    """Return `x` [..., C] with each element zero with probability p (DROP.2); without a stream `x` itself.

    Args:
        x: the flattened leading axes are the rows of the draw.
        p: probability of dropping, in [0, 1).
        stream: table of random numbers of this site and step; None at inference.
        first_row: number of the first row of `x` in the global batch.
        rows: numbers, counted from `first_row`, of the rows that `x` holds, where it does not hold all of them. They
            get the very draws that they would get within the whole.
    """
    threshold = min(round(p * _LEVELS), _LEVELS - 1)
    if stream is None or threshold == 0:
        return x, Saved(None, 1.0)
    C = x.shape[-1]
    if rows is None:
        lanes = stream.lanes(first_row, x.size // C, C)
    elif rows.size:
        lowest, highest = int(rows.min()), int(rows.max())
        lanes = stream.lanes(first_row + lowest, highest - lowest + 1, C)[rows - lowest]
    else:
        lanes = np.empty((0, C), np.uint16)
    keep = (lanes >= threshold).reshape(x.shape)  # (DROP.1)
    saved = Saved(keep, _LEVELS / (_LEVELS - threshold))
    return _scale(x, saved), saved


def backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Return dx (DROP.3): the same elements, the same scale."""
    return (_scale(dy, saved),)


def _scale(x: Array, saved: Saved) -> Array:
    if saved.keep is None:
        return x
    y = x * saved.scale
    y *= saved.keep
    return y


def cost(elements: int) -> Cost:
    """Cost for `x` of so many elements; the draw counts as one operation."""
    return Cost(3 * elements, 2 * elements, elements)


def _case(name: str, p: float, seed: int | None) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
        stream = None if seed is None else RandomStream(seed, "dropout", step=3)
        return (rng.normal(size=(4, 20)),), {"p": p, "stream": stream, "first_row": 5}

    return Case(name, make)


CASES = (_case("p 0.1", 0.1, 7), _case("p 0.5", 0.5, 8), _case("inference", 0.1, None))
