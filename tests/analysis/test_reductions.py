"""Sums in a narrow format, beside NumPy's own float16, which rounds after every operation too."""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import BATCH, small_bert

from mini_bert.analysis.narrow_pass import Recording, forward, with_rounded_parameters
from mini_bert.analysis.reductions import (
    compare,
    layer_norm_of_large_inputs,
    narrow_layer_norm,
    narrow_linear,
    narrow_softmax,
    narrow_sum,
    narrow_sums_tap,
)
from mini_bert.analysis.rounding import FORMATS, rounded
from mini_bert.ops import layer_norm, softmax

FLOAT16, BFLOAT16 = FORMATS["float16"], FORMATS["bfloat16"]


def halves(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Numbers that float16 holds, in float16."""
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float16)


def test_a_sum_is_that_of_numpys_float16_from_the_left():
    x = halves(7, 50)
    total = np.zeros(7, np.float16)
    for column in x.T:
        total = total + column
    assert np.array_equal(narrow_sum(x.astype(float), FLOAT16)[:, 0], total.astype(float))


def test_a_running_sum_of_ones_stops_at_two_to_the_mantissa():
    ones = np.ones((1, 3000))
    assert narrow_sum(ones, BFLOAT16)[0, 0] == 2**8
    assert narrow_sum(ones, FLOAT16)[0, 0] == 2**11


def test_layer_norm_is_that_of_numpys_float16_step_by_step():
    x, gamma, beta = halves(5, 24, scale=2), 1 + halves(24, seed=1, scale=0.1), halves(24, seed=2)
    assert gamma.dtype == np.float16
    wide = (array.astype(float) for array in (x, gamma, beta))
    narrow = narrow_layer_norm(*wide, eps=1e-5, format=FLOAT16)
    H = np.float16(24)
    mean = np.array([sum(row[1:], row[0]) for row in x], np.float16)[:, None] / H
    centred = x - mean
    squares = centred * centred
    variance = np.array([sum(row[1:], row[0]) for row in squares], np.float16)[:, None] / H
    expected = centred / np.sqrt(variance + np.float16(1e-5)) * gamma + beta
    assert np.array_equal(narrow, expected.astype(float))
    exact, _ = layer_norm.forward(x.astype(float), gamma.astype(float), beta.astype(float), eps=1e-5)
    assert np.abs(narrow - exact).max() < 0.03


def test_softmax_sums_to_about_one_and_is_close():
    scores = halves(4, 6, 30, scale=3).astype(float)
    exact, _ = softmax.forward(scores)
    narrow = narrow_softmax(scores, FLOAT16)
    assert np.abs(narrow.sum(axis=-1) - 1).max() < 0.01
    assert np.abs(narrow - exact).max() < 0.005
    assert np.array_equal(narrow, rounded(narrow, FLOAT16))


def test_softmax_without_its_shift_overflows_float16_from_twelve_on():
    scores = np.array([[1.0, 11.0], [1.0, 12.0]])
    with np.errstate(all="ignore"):
        assert np.isfinite(narrow_softmax(scores, FLOAT16, shifted=False)).tolist() == [[True, True], [True, False]]
        assert np.isfinite(narrow_softmax(scores, BFLOAT16, shifted=False)).all()


def test_a_linear_layer_with_narrow_sums_is_that_of_numpys_float16():
    x, W, b = halves(6, 40), halves(40, 5, seed=1), halves(5, seed=2)
    got = narrow_linear(*(array.astype(float) for array in (x, W, b)), FLOAT16)
    total = np.zeros((6, 5))
    for i in range(40):  # the product is exact, as that of a fused multiply-add
        total = (total + x[:, i : i + 1].astype(float) * W[i].astype(float)).astype(np.float16).astype(float)
    assert np.array_equal(got, (total + b).astype(np.float16).astype(float))


def test_large_inputs_break_narrow_statistics_long_before_wide_ones():
    x = np.random.default_rng(0).normal(size=(50, 192))
    lines = layer_norm_of_large_inputs(x, np.ones(192), np.zeros(192), 1e-12, FLOAT16)
    by_factor = {line.factor: line for line in lines}
    assert by_factor[1.0][1:] == (0, 0)
    assert by_factor[64.0].narrow_sums == 1.0  # 192 squares of about 64² are more than 65,504
    assert by_factor[64.0].wide_sums == 0.0
    assert by_factor[65536.0].wide_sums == 1.0  # the inputs themselves overflow
    assert all(
        line[1:] == (0, 0) for line in layer_norm_of_large_inputs(x, np.ones(192), np.zeros(192), 1e-12, BFLOAT16)
    )


def test_a_constant_row_divides_zero_by_zero_where_epsilon_vanishes():
    row = np.full((1, 8), 3.0)
    with np.errstate(all="ignore"):
        assert np.isnan(narrow_layer_norm(row, np.ones(8), np.zeros(8), 1e-12, FLOAT16)).all()
        assert (narrow_layer_norm(row, np.ones(8), np.zeros(8), 1e-12, BFLOAT16) == 0).all()


@pytest.mark.parametrize(
    "batch", [BATCH, BATCH._replace(input_ids=np.maximum(BATCH.input_ids, 1), attention_mask=None)]
)
def test_the_tap_does_the_model_over_again(batch):
    model = small_bert()
    exact, wide, narrow = Recording(), Recording(narrow_sums_tap(model, FORMATS["float64"])), Recording()
    forward(model, batch, exact)
    forward(model, batch, wide)
    assert list(wide.after) == list(exact.after)
    for name, x in exact.after.items():
        assert np.allclose(wide.after[name], x, rtol=1e-10, atol=1e-12), name
    halved = with_rounded_parameters(model, BFLOAT16)
    narrow = Recording(narrow_sums_tap(halved, BFLOAT16))
    forward(halved, batch, narrow)
    assert all(np.array_equal(rounded(x, BFLOAT16), x) for x in narrow.after.values())
    sums, gamma, beta = (
        narrow.after["layer_1.attention.sum"],
        *(halved.parameters[f"{n}1_1"] for n in ("gamma", "beta")),
    )
    expected = narrow_layer_norm(sums, gamma, beta, 1e-12, BFLOAT16)
    assert np.array_equal(narrow.after["layer_1.attention.output"], expected)


def test_narrow_sums_are_worse_everywhere():
    model, exact = small_bert(), Recording()
    forward(model, BATCH._replace(input_ids=np.maximum(BATCH.input_ids, 1), attention_mask=None), exact)
    lines = {line.operation: line for line in compare(model, exact.after, BFLOAT16)}
    assert list(lines) == ["LayerNorm", "softmax", "softmax without its shift", "linear: W1"]
    for operation, line in lines.items():
        assert 0 < line.wide_sums <= BFLOAT16.epsilon / 2, operation
        assert line.narrow_sums > 1.2 * line.wide_sums, operation
