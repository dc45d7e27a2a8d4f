"""What does a number become in a format with fewer bits, and how far apart are its neighbours there?

A format has one bit for the sign, e for the exponent and m for the mantissa. Its numbers are

    normal:     ± 2^E (1 + k / 2^m)        k = 0 … 2^m − 1,  E = E_min … E_max       (FMT.1)
    subnormal:  ± 2^E_min k / 2^m          k = 0 … 2^m − 1                           (FMT.2)

with E_max = 2^(e−1) − 1 and E_min = 1 − E_max. Between two powers of two the numbers lie evenly, one ULP (unit in the
last place) apart; below 2^E_min they lie evenly down to 0. Rounding takes the nearest, of two equally near the one with
an even k (IEEE 754); or, stochastically, one of the two neighbours with a probability that makes the mean exact.

The rounded numbers stay in the dtype that they came in, so that a model computes on with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import InvalidInputError, nearest
from mini_bert.random_streams import RandomStream

Floats = NDArray[np.floating[Any]]


class Format(NamedTuple):
    """A binary floating-point format of 1 + e + m bits."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    has_infinity: bool = True
    """False: the topmost exponent holds numbers too, and only its last pattern is NaN (float8 e4m3 as OCP defines it);
    what overflows becomes NaN."""

    @property
    def bits(self) -> int:
        """Of one number."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def smallest_exponent(self) -> int:
        """E_min, that of the smallest normal number."""
        return 2 - 2 ** (self.exponent_bits - 1)

    @property
    def largest_exponent(self) -> int:
        """E_max, that of the largest number."""
        return 2 ** (self.exponent_bits - 1) - self.has_infinity

    @property
    def largest(self) -> float:
        """The largest finite number; where there is no infinity, the last pattern is taken by NaN."""
        return 2.0**self.largest_exponent * (2 - 2.0**-self.mantissa_bits * (1 if self.has_infinity else 2))

    @property
    def smallest_normal(self) -> float:
        """2^E_min."""
        return 2.0**self.smallest_exponent

    @property
    def smallest(self) -> float:
        """The smallest number above 0."""
        return 2.0 ** (self.smallest_exponent - self.mantissa_bits)

    @property
    def epsilon(self) -> float:
        """From 1 to the next number, 2^−m; rounding to nearest errs by half of it at most, relative to the number."""
        return 2.0**-self.mantissa_bits


FORMATS: dict[str, Format] = {
    "float64": Format("float64", 11, 52),
    "float32": Format("float32", 8, 23),
    "bfloat16": Format("bfloat16", 8, 7),
    "float16": Format("float16", 5, 10),
    "float8_e5m2": Format("float8_e5m2", 5, 2),
    "float8_e4m3": Format("float8_e4m3", 4, 3, has_infinity=False),
}
"""By name, widest first."""


class Damage(NamedTuple):
    """What rounding did to an array beyond an error in the last place."""

    elements: int
    overflow: int
    """Finite before, infinite or NaN after."""
    underflow: int
    """Not zero before, zero after."""
    subnormal: int
    """Between zero and the smallest normal number: fewer bits than the format promises."""


def lookup(name: str) -> Format:
    """The format of that name.

    Raises:
        InvalidInputError: there is none.
    """
    if name not in FORMATS:
        raise InvalidInputError("format", got=repr(name), expected="a known format", advice=nearest(name, FORMATS))
    return FORMATS[name]


def rounded(x: Floats, format: Format, stream: RandomStream | None = None) -> Floats:
    """Each element of `x` (float32 or float64) as a number of `format`, in the dtype of `x`.

    Args:
        x: any shape; stays as it is.
        format: a format whose numbers the dtype of `x` holds, or one that is at least as wide: then `x` is returned.
        stream: random numbers for stochastic rounding; None: to nearest, ties to even. Element i of the flattened
            array uses number i of the stream.

    Raises:
        InvalidInputError: `x` is neither float32 nor float64, or `format` has the wider range or the finer steps only.
    """
    carrier = _CARRIERS.get(x.dtype)
    if carrier is None:
        raise InvalidInputError("x", got=f"dtype {x.dtype}", expected="float32 or float64")
    wide, whole = carrier
    if format.exponent_bits >= wide.exponent_bits and format.mantissa_bits >= wide.mantissa_bits:
        return x
    if format.exponent_bits > wide.exponent_bits or format.mantissa_bits >= wide.mantissa_bits:
        raise InvalidInputError("format", got=format.name, expected=f"one whose numbers {wide.name} can hold")
    dropped = wide.mantissa_bits - format.mantissa_bits
    bits = np.ascontiguousarray(x).view(whole)
    sign = bits & whole(1 << (wide.bits - 1))
    magnitude = bits ^ sign
    infinity = _pattern(np.inf, wide, whole)
    not_numbers = magnitude > infinity
    below_normal = magnitude < _pattern(format.smallest_normal, wide, whole)

    # Bit patterns of positive numbers are in the order of the numbers, and a carry out of the mantissa raises the
    # exponent: adding half of the last kept bit and cutting the rest off is rounding, up into the next power of two.
    last_kept = (magnitude >> whole(dropped)) & whole(1)
    half_or_random = last_kept + whole((1 << (dropped - 1)) - 1) if stream is None else _low_bits(stream, x, dropped)
    result = (magnitude + half_or_random) & whole(~((1 << dropped) - 1) & ((1 << wide.bits) - 1))
    too_large = result > _pattern(format.largest, wide, whole)
    quiet_nan = _pattern(np.nan, wide, whole)
    result[too_large] = infinity if format.has_infinity else quiet_nan
    result[not_numbers] = quiet_nan
    y = (result | sign).view(x.dtype).reshape(x.shape)
    if format.exponent_bits < wide.exponent_bits and below_normal.any():
        small = below_normal.reshape(x.shape)
        y[small] = _multiples(x[small], format, stream)
    return y


def damage(before: Floats, after: Floats, format: Format) -> Damage:
    """What `after`, the rounded `before`, lost in range; zeros and what was not finite before do not count."""
    magnitude = np.abs(after)
    changed = ~np.isfinite(after)
    changed &= np.isfinite(before)
    zero = after == 0
    subnormal = int(np.count_nonzero(magnitude < format.smallest_normal)) - int(np.count_nonzero(zero))
    return Damage(before.size, int(changed.sum()), int(np.count_nonzero(zero & (before != 0))), subnormal)


def ulp(x: Floats, format: Format) -> Floats:
    """The distance between neighbours of `format` at each element: 2^(E − m), and 2^(E_min − m) below 2^E_min."""
    _, exponent = np.frexp(x)  # |x| = f 2^exponent with f from 1/2 to 1
    exponent = np.where(x == 0, format.smallest_exponent, exponent - 1)
    steps = np.clip(exponent, format.smallest_exponent, format.largest_exponent) - format.mantissa_bits
    return np.ldexp(np.ones((), x.dtype), steps)


def relative_error(x: Floats, exact: Floats) -> float:
    """‖x − exact‖ / ‖exact‖: 0 where both are 0, infinite where `x` is not finite."""
    if not np.isfinite(x).all():
        return float("inf")
    difference = float(np.linalg.norm((x - exact).astype(np.float64).ravel()))
    return difference / float(np.linalg.norm(exact.astype(np.float64).ravel())) if difference else 0.0


def _multiples(x: Floats, format: Format, stream: RandomStream | None) -> Floats:
    """Rounding below the smallest normal number, where a format is a fixed-point one; the scalings are exact."""
    with np.errstate(under="ignore"):
        multiples = np.ldexp(x, format.mantissa_bits - format.smallest_exponent)
        if stream is None:
            whole = np.rint(multiples)  # ties to even
        else:
            down = np.floor(np.abs(multiples))
            above = np.abs(multiples) - down
            blocks = -(-x.size // 4)
            words = stream.at("subnormal").words(0, blocks)[: x.size] >> np.uint64(11)
            whole = np.copysign(down + (words * 2.0**-53 < above), multiples)
        return np.asarray(np.ldexp(whole, format.smallest_exponent - format.mantissa_bits), dtype=x.dtype)


def _low_bits(stream: RandomStream, x: Floats, count: int) -> NDArray[Any]:
    """One random integer of `count` bits an element, in the unsigned dtype of the size of `x`'s."""
    if count <= 16:
        return (stream.lanes(0, 1, x.size).reshape(x.shape) >> np.uint16(16 - count)).astype(f"u{x.dtype.itemsize}")
    words = stream.words(0, -(-x.size // 4))[: x.size].reshape(x.shape)
    return (words >> np.uint64(64 - count)).astype(f"u{x.dtype.itemsize}")


def _pattern(value: float, wide: Format, whole: Any) -> Any:
    """The bits of a positive number in the wide format, as an unsigned integer."""
    return np.array(value, wide.name).view(whole)[()]


_CARRIERS: dict[np.dtype[Any], tuple[Format, Any]] = {
    np.dtype(np.float32): (FORMATS["float32"], np.uint32),
    np.dtype(np.float64): (FORMATS["float64"], np.uint64),
}
"""The dtypes in which rounded numbers are carried."""
