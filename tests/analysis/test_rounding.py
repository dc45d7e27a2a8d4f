"""Rounding against exact rational arithmetic, NumPy's own float16, and ml_dtypes."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.analysis.rounding import FORMATS, Damage, Format, damage, lookup, relative_error, rounded, ulp
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream

NARROW = ["float32", "bfloat16", "float16", "float8_e5m2", "float8_e4m3"]
CARRIERS = {np.float32: np.uint32, np.float64: np.uint64}


@lru_cache
def positive_numbers(format: Format) -> list[Fraction]:
    """All finite numbers from 0 up, from the definition (FMT.1-2)."""
    m, lowest = format.mantissa_bits, 2 - 2 ** (format.exponent_bits - 1)
    numbers = [Fraction(k, 2**m) * Fraction(2) ** lowest for k in range(2**m)]
    topmost = 2 ** (format.exponent_bits - 1) - (1 if format.has_infinity else 0)
    for exponent in range(lowest, topmost + 1):
        numbers += [Fraction(2) ** exponent * (1 + Fraction(k, 2**m)) for k in range(2**m)]
    return numbers if format.has_infinity else numbers[:-1]  # the last pattern is NaN


def nearest_even(x: Fraction, format: Format) -> float:
    """The nearest number of the format in exact arithmetic; of two, that with the even mantissa."""
    sign, x = (-1.0 if x < 0 else 1.0), abs(x)
    m, lowest = format.mantissa_bits, 2 - 2 ** (format.exponent_bits - 1)
    exponent = lowest
    while Fraction(2) ** (exponent + 1) <= x:
        exponent += 1
    step = Fraction(2) ** (exponent - m)
    below = int(x // step)
    rest = x - below * step
    up = rest > step / 2 or (rest == step / 2 and below % 2 == 1)
    value = (below + up) * step
    if value > positive_numbers(format)[-1]:
        return sign * np.inf if format.has_infinity else np.nan
    return sign * float(value)


def random_bits(dtype: type, n: int, seed: int = 0) -> np.ndarray:
    whole = CARRIERS[dtype]
    return np.random.default_rng(seed).integers(0, np.iinfo(whole).max, n, dtype=whole, endpoint=True).view(dtype)


def same(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equal to the bit; all NaNs are one."""
    return ((x == y) & (np.signbit(x) == np.signbit(y))) | (np.isnan(x) & np.isnan(y))


def test_the_facts_of_the_formats_are_those_of_numpy():
    for name in ("float16", "float32", "float64"):
        ours, numpys = FORMATS[name], np.finfo(name)
        assert (ours.bits, ours.epsilon, ours.largest) == (numpys.bits, numpys.eps, numpys.max)
        assert (ours.smallest_normal, ours.smallest) == (numpys.smallest_normal, numpys.smallest_subnormal)
    assert FORMATS["bfloat16"].largest == 3.3895313892515355e38
    assert (FORMATS["float8_e4m3"].largest, FORMATS["float8_e5m2"].largest) == (448, 57344)
    assert FORMATS["float8_e4m3"].smallest == 2**-9


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e5m2", "float8_e4m3"])
@pytest.mark.parametrize("dtype", CARRIERS)
def test_every_number_of_a_format_is_a_fixed_point(name, dtype):
    format = FORMATS[name]
    positive = np.array([float(x) for x in positive_numbers(format)], dtype)
    patterns = 2 ** (format.bits - 1)
    not_numbers = 2**format.mantissa_bits if format.has_infinity else 1
    assert len(positive) == patterns - not_numbers
    assert len(set(positive.tolist())) == len(positive)
    for numbers in (positive, -positive):
        assert same(rounded(numbers, format), numbers).all()
    special = np.array([np.inf, -np.inf, np.nan], dtype)
    kept = special if format.has_infinity else np.full(3, np.nan, dtype)
    assert same(rounded(special, format), kept).all()


@pytest.mark.parametrize("dtype", CARRIERS)
def test_all_65536_patterns_of_float16_are_fixed_points(dtype):
    numbers = np.arange(65536, dtype=np.uint16).view(np.float16).astype(dtype)
    assert same(rounded(numbers, FORMATS["float16"]), numbers).all()


@pytest.mark.parametrize("dtype", CARRIERS)
def test_all_65536_patterns_of_bfloat16_are_fixed_points(dtype):
    patterns = np.arange(65536, dtype=np.uint32) << np.uint32(16)  # a bfloat16 is the upper half of a float32
    with np.errstate(invalid="ignore"):  # signalling NaNs
        numbers = patterns.view(np.float32).astype(dtype)
    assert same(rounded(numbers, FORMATS["bfloat16"]), numbers).all()


@pytest.mark.parametrize("name", NARROW[1:])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_rounding_is_that_of_rational_arithmetic(name, data):
    format = FORMATS[name]
    near = 2 * format.largest
    x = data.draw(
        st.one_of(
            st.floats(-near, near, width=64),
            st.floats(-8 * format.smallest_normal, 8 * format.smallest_normal, width=64),
            st.floats(-2, 2, width=64),
        )
    )
    got = rounded(np.array([x]), format)
    assert same(got, np.array([nearest_even(Fraction(x), format)])).all() or (x == 0 and got[0] == 0)


@pytest.mark.parametrize("name", NARROW[1:])
def test_ties_go_to_the_even_neighbour(name):
    format = FORMATS[name]
    numbers = positive_numbers(format)
    picked = [0, 1, 2, 2**format.mantissa_bits - 1, 2**format.mantissa_bits, len(numbers) // 2, len(numbers) - 2]
    for i in picked:
        halfway = (numbers[i] + numbers[i + 1]) / 2
        even = numbers[i] if i % 2 == 0 else numbers[i + 1]
        tiny = np.ldexp(1.0, -1000)
        between = float(halfway)
        assert Fraction(between) == halfway
        assert rounded(np.array([between]), format)[0] == float(even)
        assert rounded(np.array([np.nextafter(between, 0)]), format)[0] == float(numbers[i])
        assert rounded(np.array([np.nextafter(between, np.inf)]), format)[0] == float(numbers[i + 1])
        assert rounded(np.array([tiny]), format)[0] == 0


def test_halfway_to_the_number_that_would_be_next_overflows():
    float16, e4m3 = FORMATS["float16"], FORMATS["float8_e4m3"]
    assert rounded(np.array([65519.99]), float16)[0] == 65504
    assert rounded(np.array([-65520.0]), float16)[0] == -np.inf
    assert rounded(np.array([464.0]), e4m3)[0] == 448  # a tie: 448 is even
    assert np.isnan(rounded(np.array([464.01]), e4m3)[0])


def test_what_becomes_nan_can_be_computed_with():
    x = np.array([1e6, np.nan])
    with np.errstate(all="raise"):  # a signalling NaN would raise
        assert np.isnan(rounded(x, FORMATS["float8_e4m3"]) / 2.0).all()


@pytest.mark.parametrize("dtype", CARRIERS)
def test_float16_is_numpys_to_the_bit(dtype):
    rng = np.random.default_rng(1)
    scales = 2.0 ** rng.integers(-28, 18, 20_000)
    x = np.concatenate([random_bits(dtype, 20_000), (rng.normal(size=20_000) * scales).astype(dtype)])
    with np.errstate(all="ignore"):
        numpys = x.astype(np.float16).astype(dtype)
    assert same(rounded(x, FORMATS["float16"]), numpys).all()


def test_float32_within_float64_is_numpys_to_the_bit():
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [random_bits(np.float64, 20_000), rng.normal(size=20_000) * 2.0 ** rng.integers(-155, 130, 20_000)]
    )
    with np.errstate(all="ignore"):
        assert same(rounded(x, FORMATS["float32"]), x.astype(np.float32).astype(np.float64)).all()


@pytest.mark.reference
@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "float8_e4m3"])
def test_narrow_formats_are_those_of_ml_dtypes_to_the_bit(name):
    import ml_dtypes

    other = {"bfloat16": "bfloat16", "float8_e5m2": "float8_e5m2", "float8_e4m3": "float8_e4m3fn"}[name]
    rng = np.random.default_rng(3)
    x = random_bits(np.float32, 300_000)
    near = (rng.normal(size=300_000) * 2.0 ** rng.integers(-30, 18, 300_000)).astype(np.float32)
    with np.errstate(all="ignore"):
        for values in (x, near):  # from float32: from float64, ml_dtypes rounds twice
            theirs = values.astype(getattr(ml_dtypes, other)).astype(np.float32)
            assert same(rounded(values, FORMATS[name]), theirs).all()


@pytest.mark.parametrize("dtype", CARRIERS)
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("value", [1.003, -0.7313, 3e-6, 2.6e-8, 5e-5])
def test_stochastic_rounding_takes_a_neighbour_with_the_right_mean(dtype, name, value):
    format, n = FORMATS[name], 40_000
    x = np.full(n, value, dtype)
    y = rounded(x, format, RandomStream(0, "test"))
    step = float(ulp(x[:1], format)[0])
    assert len(set(y.tolist())) == 2
    assert set(y.tolist()) == {
        float(dtype(np.floor(x[0] / step) * step)), float(dtype(np.ceil(x[0] / step) * step))
    }  # fmt: skip
    standard_error = 0.5 * step / np.sqrt(n)
    assert abs(y.astype(np.float64).mean() - float(x[0])) < 4 * standard_error


def test_stochastic_rounding_leaves_what_fits_and_is_a_function_of_the_stream():
    x = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    format = FORMATS["bfloat16"]
    fits = rounded(x, format)
    assert same(rounded(fits, format, RandomStream(0, "a")), fits).all()
    first, again, other = (rounded(x, format, RandomStream(0, "a", step)) for step in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    assert same(rounded(special, format, RandomStream(0, "a")), special).all()


def test_stochastic_rounding_of_next_to_nothing_is_nearly_always_nothing():
    smallest = FORMATS["float16"].smallest
    x = np.full(100_000, smallest / 1000)
    y = rounded(x, FORMATS["float16"], RandomStream(0, "tiny"))
    assert set(y.tolist()) == {0.0, smallest}
    assert 50 < np.count_nonzero(y) < 160


@pytest.mark.parametrize("dtype", CARRIERS)
def test_shapes_layouts_and_the_input_stay_as_they_are(dtype):
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(dtype)
    turned = x.swapaxes(0, 2)
    kept = turned.copy()
    y = rounded(turned, FORMATS["float16"])
    assert y.shape == turned.shape
    assert y.dtype == dtype
    assert (turned == kept).all()
    assert (y == rounded(np.ascontiguousarray(turned), FORMATS["float16"])).all()
    assert rounded(np.array(1.0 + 2.0**-20, dtype), FORMATS["bfloat16"]).shape == ()
    assert rounded(np.array(1e-9, dtype), FORMATS["float16"])[()] == 0
    assert rounded(np.empty((0, 3), dtype), FORMATS["float16"]).shape == (0, 3)


def test_a_format_that_holds_everything_changes_nothing():
    x = np.random.default_rng(0).normal(size=5)
    assert rounded(x, FORMATS["float64"]) is x
    narrow = x.astype(np.float32)
    assert rounded(narrow, FORMATS["float32"]) is narrow
    assert rounded(narrow, FORMATS["float64"]) is narrow


def test_refusals():
    with pytest.raises(InvalidInputError, match="float32 or float64"):
        rounded(np.zeros(3, np.float16), FORMATS["bfloat16"])
    with pytest.raises(InvalidInputError, match="can hold"):
        rounded(np.zeros(3, np.float32), Format("wide", 11, 10))
    with pytest.raises(InvalidInputError, match="Did you mean 'bfloat16'"):
        lookup("bfloat")


@pytest.mark.parametrize("name", NARROW)
def test_an_ulp_is_the_distance_to_the_next_number(name):
    format = FORMATS[name]
    x = np.array([1.0, 1.5, 3.9, 0.1, -2.0, format.smallest_normal, format.smallest_normal / 3, 0.0, format.largest])
    fits = rounded(x, format)
    steps = ulp(fits, format)
    assert (ulp(np.abs(x[:4]) * 0.99, format) <= steps[:4]).all()
    for value, step in zip(fits[:-1], np.copysign(steps, fits), strict=False):  # away from zero
        assert rounded(np.array([value + step]), format)[0] == value + step
        assert rounded(np.array([value + step / 2.1]), format)[0] == value
    assert steps[0] == format.epsilon
    assert steps[7] == format.smallest
    assert steps[4] == 2 * format.epsilon


def test_what_was_lost_is_counted():
    x = np.array([1e6, -1e6, np.inf, np.nan, 1e-9, -1e-9, 0.0, 1e-6, 1.0, 65504.0])
    float16 = FORMATS["float16"]
    assert damage(x, rounded(x, float16), float16) == Damage(10, overflow=2, underflow=2, subnormal=1)
    e4m3 = FORMATS["float8_e4m3"]
    assert damage(x, rounded(x, e4m3), e4m3).overflow == 3  # NaN counts; what was infinite before does not


def test_relative_error():
    x = np.array([3.0, 4.0])
    assert relative_error(np.array([3.0, 4.5]), x) == 0.1
    assert relative_error(np.zeros(2), np.zeros(2)) == 0.0
    assert relative_error(np.array([np.inf, 0.0]), x) == np.inf
