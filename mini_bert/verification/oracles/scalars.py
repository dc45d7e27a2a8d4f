"""How do the loops know their own slopes? They run on numbers that remember what they were made of.

A `Scalar` is a number with the numbers it was computed from and its derivative with respect to each. Every arithmetic
step of a transcription then leaves a node, and one sweep from the result back to the inputs applies the chain rule
node by node (reverse accumulation: Linnainmaa 1970). No formula of a backward pass is written anywhere: what comes out
is the derivative of the definition itself, exact but for rounding, for all parameters at once.

The functions here take ordinary floats too, and then are those of `math`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import count
from operator import mul
from typing import Any, TypeAlias

_NUMBERS = count()


class Scalar:
    """A number, what it was made of, and its slope with respect to each of these."""

    __slots__ = ("gradient", "number", "parents", "slopes", "value")

    def __init__(self, value: float, parents: tuple[Scalar, ...] = (), slopes: tuple[float, ...] = ()) -> None:
        self.value = value
        self.parents = parents
        self.slopes = slopes
        self.gradient = 0.0
        self.number = next(_NUMBERS)  # nobody is made before its parents, so this is an order to sweep in

    def __repr__(self) -> str:
        return f"Scalar({self.value})"

    def __add__(self, other: Number) -> Scalar:
        if isinstance(other, Scalar):
            return Scalar(self.value + other.value, (self, other), (1.0, 1.0))
        return Scalar(self.value + other, (self,), (1.0,))

    __radd__ = __add__

    def __neg__(self) -> Scalar:
        return Scalar(-self.value, (self,), (-1.0,))

    def __sub__(self, other: Number) -> Scalar:
        if isinstance(other, Scalar):
            return Scalar(self.value - other.value, (self, other), (1.0, -1.0))
        return Scalar(self.value - other, (self,), (1.0,))

    def __rsub__(self, other: float) -> Scalar:
        return Scalar(other - self.value, (self,), (-1.0,))

    def __mul__(self, other: Number) -> Scalar:
        if isinstance(other, Scalar):
            return Scalar(self.value * other.value, (self, other), (other.value, self.value))
        return Scalar(self.value * other, (self,), (other,))

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Scalar:
        if isinstance(other, Scalar):
            ratio = self.value / other.value
            return Scalar(ratio, (self, other), (1.0 / other.value, -ratio / other.value))
        return Scalar(self.value / other, (self,), (1.0 / other,))

    def __rtruediv__(self, other: float) -> Scalar:
        ratio = other / self.value
        return Scalar(ratio, (self,), (-ratio / self.value,))

    def __lt__(self, other: Number) -> bool:
        return self.value < value_of(other)

    def __gt__(self, other: Number) -> bool:
        return self.value > value_of(other)


Number: TypeAlias = Any
"""A float or a Scalar."""


def value_of(x: Number) -> float:
    """The number without its memory."""
    return x.value if isinstance(x, Scalar) else x


def total(terms: Iterable[Number]) -> Number:
    """Σ terms, rounded once."""
    values = list(terms)
    parents = tuple(term for term in values if isinstance(term, Scalar))
    if not parents:
        return math.fsum(values)
    return Scalar(math.fsum(map(value_of, values)), parents, (1.0,) * len(parents))


def dot(xs: Sequence[Number], ys: Sequence[Number]) -> Number:
    """Σ x y; the products are rounded, their sum is rounded once."""
    try:
        x_values, y_values = [x.value for x in xs], [y.value for y in ys]
    except AttributeError:  # floats among them
        return _dot_of_any(xs, ys)
    value = math.fsum(map(mul, x_values, y_values))
    return Scalar(value, (*xs, *ys), (*y_values, *x_values))


def _dot_of_any(xs: Sequence[Number], ys: Sequence[Number]) -> Number:
    x_values, y_values = [value_of(x) for x in xs], [value_of(y) for y in ys]
    value = math.fsum(map(mul, x_values, y_values))
    pairs = [(x, y) for x, y in zip((*xs, *ys), (*y_values, *x_values), strict=True) if isinstance(x, Scalar)]
    if not pairs:
        return value
    parents, slopes = zip(*pairs, strict=True)
    return Scalar(value, parents, slopes)


def exp(x: Number) -> Number:
    """e^x."""
    if not isinstance(x, Scalar):
        return math.exp(x)
    y = math.exp(x.value)
    return Scalar(y, (x,), (y,))


def log(x: Number) -> Number:
    """The natural logarithm."""
    return Scalar(math.log(x.value), (x,), (1.0 / x.value,)) if isinstance(x, Scalar) else math.log(x)


def sqrt(x: Number) -> Number:
    """The square root."""
    if not isinstance(x, Scalar):
        return math.sqrt(x)
    y = math.sqrt(x.value)
    return Scalar(y, (x,), (0.5 / y,))


def tanh(x: Number) -> Number:
    """The hyperbolic tangent."""
    if not isinstance(x, Scalar):
        return math.tanh(x)
    y = math.tanh(x.value)
    return Scalar(y, (x,), (1.0 - y * y,))


def erfc(x: Number) -> Number:
    """1 − erf(x), without its cancellation."""
    if not isinstance(x, Scalar):
        return math.erfc(x)
    return Scalar(math.erfc(x.value), (x,), (-2.0 / math.sqrt(math.pi) * math.exp(-x.value * x.value),))


def remembered(values: Any) -> Any:
    """Nested lists of floats as nested lists of Scalars, to differentiate with respect to."""
    return [remembered(part) for part in values] if isinstance(values, list) else Scalar(float(values))


def gradients(result: Scalar, inputs: Any) -> Any:
    """∂ result / ∂ inputs, nested as `inputs` are; 0 for inputs that `result` was not made of."""
    reached = {result.number: result}
    waiting = [result]
    while waiting:
        for parent in waiting.pop().parents:
            if parent.number not in reached:
                reached[parent.number] = parent
                waiting.append(parent)
    for node in reached.values():
        node.gradient = 0.0
    result.gradient = 1.0
    for number in sorted(reached, reverse=True):
        node = reached[number]
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            parent.gradient += node.gradient * slope

    def collected(values: Any) -> Any:
        if isinstance(values, list):
            return [collected(part) for part in values]
        return values.gradient if values.number in reached else 0.0

    return collected(inputs)
