"""Numbers that remember what they were made of: are their slopes right, and is no step forgotten?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mini_bert.verification.gradient_check import CENTRAL_DIFFERENCE, operations
from mini_bert.verification.oracles import scalars
from mini_bert.verification.oracles.operations import ORACLES
from mini_bert.verification.oracles.scalars import Scalar

X, Y = 0.7, -1.3
FUNCTIONS: dict[str, tuple[Any, float, float]] = {  # by hand: value's slope in x and in y
    "x + y": (lambda x, y: x + y, 1.0, 1.0),
    "x - y": (lambda x, y: x - y, 1.0, -1.0),
    "x y": (lambda x, y: x * y, Y, X),
    "x / y": (lambda x, y: x / y, 1 / Y, -X / Y**2),
    "3 + x - 2 y": (lambda x, y: 3.0 + x - 2.0 * y, 1.0, -2.0),
    "x + 3 - y / 4": (lambda x, y: x + 3.0 - y / 4.0, 1.0, -0.25),
    "2 - x": (lambda x, y: 2.0 - x, -1.0, 0.0),
    "x - 2": (lambda x, y: x - 2.0, 1.0, 0.0),
    "1 / y": (lambda x, y: 1.0 / y, 0.0, -1 / Y**2),
    "-x": (lambda x, y: -x, -1.0, 0.0),
    "x x": (lambda x, y: x * x, 2 * X, 0.0),
    "exp(x y)": (lambda x, y: scalars.exp(x * y), Y * math.exp(X * Y), X * math.exp(X * Y)),
    "log x": (lambda x, y: scalars.log(x), 1 / X, 0.0),
    "sqrt x": (lambda x, y: scalars.sqrt(x), 0.5 / math.sqrt(X), 0.0),
    "tanh y": (lambda x, y: scalars.tanh(y), 0.0, 1 - math.tanh(Y) ** 2),
    "erfc x": (lambda x, y: scalars.erfc(x), -2 / math.sqrt(math.pi) * math.exp(-X * X), 0.0),
    "sum": (lambda x, y: scalars.total([x, 4.0, y, x]), 2.0, 1.0),
    "dot": (lambda x, y: scalars.dot([x, y, 2.0, y], [y, 3.0, x, 0.5]), Y + 2.0, X + 3.5),
    "dot with itself": (lambda x, y: scalars.dot([x, y], [x, y]), 2 * X, 2 * Y),
    "max": (lambda x, y: max(x, y, 0.0), 1.0, 0.0),
    "min": (lambda x, y: min(x, y, 0.0), 0.0, 1.0),
}


@pytest.mark.parametrize(("function", "dx", "dy"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_slopes_of_known_functions(function: Any, dx: float, dy: float) -> None:
    x, y = Scalar(X), Scalar(Y)
    result = function(x, y)
    assert result.value == pytest.approx(function(X, Y), rel=1e-15)
    assert scalars.gradients(result, [x, y]) == pytest.approx([dx, dy], rel=1e-14)


def test_a_number_that_is_used_on_several_ways_collects_from_all() -> None:
    x = Scalar(0.3)
    once = x * x
    result = scalars.exp(once) * once + x / once
    expected = 2 * 0.3 * math.exp(0.09) * 1.09 - 1 / 0.09
    assert scalars.gradients(result, [[x]]) == [[pytest.approx(expected, rel=1e-13)]]
    assert scalars.gradients(result, x) == pytest.approx(expected, rel=1e-13)  # a second sweep starts from nothing


def test_what_was_not_used_has_no_slope() -> None:
    x, unused = Scalar(2.0), Scalar(5.0)
    unused.gradient = 7.0  # left over from another sweep
    assert scalars.gradients(x * 3.0, [x, unused]) == [3.0, 0.0]


def test_the_mathematics_of_floats_forgets_and_so_refuses() -> None:
    with pytest.raises(TypeError):
        math.exp(Scalar(1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_transcriptions_run_on_both_kinds_of_numbers(name: str) -> None:
    """The same value, and the slope that central differences of the floats find."""
    case = operations()[name].CASES[0]
    rng = np.random.default_rng(3)
    values, constants = case.make(rng)
    constants = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in constants.items()}
    remembered = [scalars.remembered(value.tolist()) for value in values]
    output = np.array(ORACLES[name](*remembered, **constants), dtype=object)
    cotangent = rng.normal(size=output.shape)
    result = scalars.dot(cotangent.ravel().tolist(), output.ravel().tolist())
    direction = [rng.normal(size=value.shape) for value in values]

    def moved(by: float) -> float:
        lists = [(value + by * part).tolist() for value, part in zip(values, direction, strict=True)]
        return float((np.array(ORACLES[name](*lists, **constants)) * cotangent).sum())

    assert result.value == pytest.approx(moved(0.0), rel=1e-13)
    slopes = [np.array(gradient) for gradient in scalars.gradients(result, remembered)]
    along = sum(float((slope * part).sum()) for slope, part in zip(slopes, direction, strict=True))
    assert along == pytest.approx(CENTRAL_DIFFERENCE.derivative(moved), rel=1e-6)
