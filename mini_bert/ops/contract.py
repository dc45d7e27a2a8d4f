"""What all operations agree on: the array type, the tap, the cost of a call and a case for the common test suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

Tap: TypeAlias = Callable[[str, Array], Array]
"""Called with the name and the value of an intermediate; what it returns flows on. The array is valid during the call
only: it may be overwritten afterwards."""


def identity(name: str, value: Array) -> Array:
    """The tap of ordinary passes: looks at nothing, changes nothing."""
    return value


class Cost(NamedTuple):
    """What one call costs, from shapes alone (float32)."""

    forward_flops: int
    """Multiplications and additions of the forward pass; an elementary function counts as one."""
    backward_flops: int
    saved_bytes: int
    """Bytes kept for the backward pass that nobody else keeps."""


class Case(NamedTuple):
    """One input of the common test suite: `make(rng)` gives the differentiable inputs and the constants."""

    name: str
    make: Callable[[np.random.Generator], tuple[tuple[Array, ...], dict[str, Any]]]


def rows_of(x: Array) -> Array:
    """`x` with all leading axes folded into one: `[R, last]`."""
    return x.reshape(-1, x.shape[-1])


def row_sums(x: Array) -> Array:
    """Sums over the last axis, kept as an axis of 1. On short rows `einsum` sums three times as fast as `x.sum`."""
    return np.asarray(np.einsum("...n->...", x))[..., None]


def row_dots(x: Array, y: Array) -> Array:
    """Σ x y over the last axis, kept as an axis of 1, without a temporary product."""
    return np.asarray(np.einsum("...n,...n->...", x, y))[..., None]


def row_maxima(x: Array) -> Array:
    """Largest (real part of each) element of the last axis, kept as an axis of 1.

    On short rows NumPy finds where the largest element is three times as fast as it finds the element.
    """
    real = x.real
    return np.take_along_axis(real, real.argmax(axis=-1, keepdims=True), axis=-1)


BLOCK = 131_072
"""Elements that an elementwise chain works on at a time: 512 KiB of float32, so that the steps of the chain meet in a
cache instead of in main memory. A quarter of it would do as well for one thread; two threads are slower then, because
each call of NumPy has to take the interpreter's lock back."""


def blocks(size: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` elements that cover `size`."""
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
