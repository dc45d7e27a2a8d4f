"""Rounding to the dtypes of weight files."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import InvalidInputError
from mini_bert.interop.precision import DTYPES, bfloat16_bits, from_bfloat16_bits, narrowest, rounded

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def as_bfloat16(value: float) -> float:
    return float(from_bfloat16_bits(bfloat16_bits(np.array([value], np.float32)))[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1.0),
        (1.0 + 2**-8, 1.0),  # half way: to the even one
        (1.0 + 3 * 2**-8, 1.0 + 2 * 2**-7),
        (1.0 + 2**-8 + 2**-20, 1.0 + 2**-7),
        (-1.0 - 3 * 2**-8, -1.0 - 2 * 2**-7),
        (2.0 - 2**-10, 2.0),
        (0.0, 0.0),
        (2**-133, 2**-133),  # the smallest
        (3.4e38, np.inf),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
    ],
)
def test_known_values(value: float, expected: float) -> None:
    assert as_bfloat16(value) == expected


def test_nan_stays_nan() -> None:
    signalling = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(from_bfloat16_bits(bfloat16_bits(signalling))).all()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(FINITE.filter(lambda value: abs(value) < 3e38))
def test_no_other_is_nearer(value: float) -> None:
    bits = int(bfloat16_bits(np.array([value], np.float32))[0])
    errors = {
        other: abs(Fraction(float(from_bfloat16_bits(np.array([other], np.uint16))[0])) - Fraction(value))
        for other in (bits - 1, bits, bits + 1)
        if 0 <= other < 2**16 and np.isfinite(from_bfloat16_bits(np.array([other], np.uint16))[0])
    }
    assert errors[bits] == min(errors.values())
    if list(errors.values()).count(errors[bits]) > 1:
        assert bits % 2 == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_narrowest_dtype_that_holds_them_all(dtype: str) -> None:
    x = {
        "float16": np.array([0.1, 65504.0, 6e-8]).astype(np.float16),
        "bfloat16": np.array([1e30, 0.5], np.float32).view(np.uint32) & 0xFFFF0000,
        "float32": np.array([0.1], np.float32),
        "float64": np.array([0.1]),
    }[dtype]
    x = x.astype(np.uint32).view(np.float32) if dtype == "bfloat16" else x
    assert narrowest([x]) == dtype
    assert narrowest([np.ones(3), x.astype(np.float64)]) == dtype
    assert narrowest([x, np.array([1.0 + 2**-40])]) == "float64"
    assert narrowest([]) == "bfloat16"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="float16 for W with 70000"):
        rounded(np.array([1.0, -70_000.0]), "float16", "W")
    with pytest.raises(InvalidInputError, match="bfloat16 for W"):
        rounded(np.array([3.4e38]), "bfloat16", "W")
    with pytest.raises(InvalidInputError, match="float32 for W"):
        rounded(np.array([1e300]), "float32", "W")
    np.testing.assert_array_equal(rounded(np.array([np.inf, np.nan]), "float16", "W"), [np.inf, np.nan])
    assert rounded(np.array([1e-300]), "float32", "W") == 0.0


@pytest.mark.reference
def test_as_ml_dtypes_rounds() -> None:
    import ml_dtypes

    rng = np.random.default_rng(0)
    x = (rng.normal(size=100_000) * 10.0 ** rng.uniform(-40, 30, 100_000)).astype(np.float32)
    np.testing.assert_array_equal(bfloat16_bits(x), x.astype(ml_dtypes.bfloat16).view(np.uint16))
