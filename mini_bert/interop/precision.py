"""Which floating-point dtype holds these numbers as they are, and how are they rounded to a narrower one?

bfloat16 is the upper half of float32: the same exponent, 8 significant bits. NumPy has no such dtype, so its numbers
travel as uint16, their bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import InvalidInputError

DTYPES = ("bfloat16", "float16", "float32", "float64")
"""What a file of weights may hold, by significant bits: 8, 11, 24, 53."""


def bfloat16_bits(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16 of each number, ties to the even one; NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_bfloat16_bits(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 of the same value."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def rounded(x: NDArray[Any], dtype: str, name: str) -> NDArray[Any]:
    """`x` in one of `DTYPES`, to nearest, ties to even; bfloat16 as its bits. `name` is what errors call it.

    Raises:
        InvalidInputError: there is no such dtype, or a finite number is beyond its range.
    """
    if dtype not in DTYPES:
        raise InvalidInputError("dtype", got=repr(dtype), expected=f"one of {', '.join(DTYPES)}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = bfloat16_bits(x.astype(np.float32)) if dtype == "bfloat16" else x.astype(dtype)
        value = from_bfloat16_bits(narrow) if dtype == "bfloat16" else narrow
    if not np.array_equal(np.isfinite(value), np.isfinite(x)):
        largest = float(np.abs(x[np.isfinite(x)]).max())
        raise InvalidInputError("dtype", got=f"{dtype} for {name} with {largest:g}", expected="a dtype that holds it")
    return narrow


def narrowest(arrays: Iterable[NDArray[Any]]) -> str:
    """The first of `DTYPES` that holds every number of `arrays` as it is.

    A file of float16 that was widened to float32 is told from one of float32 by that.
    """
    arrays = list(arrays)
    holds: dict[str, Callable[[NDArray[Any]], bool]] = {
        "bfloat16": lambda x: _same(x, from_bfloat16_bits(bfloat16_bits(x.astype(np.float32)))),
        "float16": lambda x: _same(x, x.astype(np.float16)),
        "float32": lambda x: _same(x, x.astype(np.float32)),
    }
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return next((name for name, fits in holds.items() if all(map(fits, arrays))), "float64")


def _same(x: NDArray[Any], narrow: NDArray[Any]) -> bool:
    return np.array_equal(x, narrow, equal_nan=True)
