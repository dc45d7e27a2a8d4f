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


BLOCK = 32_768
"""Elements that an elementwise chain works on at a time: 128 KiB of float32, so that the steps of the chain meet in the
second-level cache instead of in main memory. Measured for GELU on [1024, 768]: 2.5 times as fast as whole arrays."""


def blocks(size: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` elements that cover `size`."""
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
