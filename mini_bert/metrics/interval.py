"""What is an interval here, and how wide is it for a given confidence?"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

from mini_bert.errors import InvalidInputError

CONFIDENCE = 0.95
"""Confidence of every interval that is not asked for otherwise."""

_MOST_DEGREES = 10_000


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float

    def ends(self) -> list[float | None]:
        """Both ends as JSON has them: None where nothing is known.

        >>> Interval(1.5, float("inf")).ends()
        [1.5, None]
        """
        return [float(end) if math.isfinite(end) else None for end in self]


UNKNOWN = Interval(float("-inf"), float("inf"))
"""The interval of a single observation: nothing is known about its spread."""
OF_A_LOSS = Interval(0.0, float("inf"))
"""Between which a cross-entropy in nats can be."""
OF_A_DIFFERENCE_OF_SHARES = Interval(-1.0, 1.0)
"""Between which the difference of two shares can be."""


def normal_quantile(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches to either side: 1.96 for 0.95.

    Raises:
        InvalidInputError: `confidence` is not strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError("confidence", got=confidence, expected="a number strictly between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


@cache
def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors a two-sided interval reaches to either side, by Student's distribution.

    Above 10,000 degrees of freedom it is the normal quantile, which is then right to four figures.

    Raises:
        InvalidInputError: `degrees` below 1, or `confidence` not strictly between 0 and 1.

    >>> round(t_quantile(1), 3), round(t_quantile(2), 3), round(t_quantile(23), 3)
    (12.706, 4.303, 2.069)
    """
    if degrees < 1:
        raise InvalidInputError("degrees", got=degrees, expected="at least 1 degree of freedom")
    normal = normal_quantile(confidence)
    if degrees > _MOST_DEGREES:
        return normal
    low, high = 0.0, 1.0
    while share_within(high, degrees) < confidence:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if share_within(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def share_within(t: float, degrees: int) -> float:
    """P(|T| ≤ t) for Student's T with ν whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    With θ = arctan(t / √ν), for odd ν

        2/π (θ + sin θ (cos θ + 2/3 cos³ θ + … + 2·4…(ν−3) / 3·5…(ν−2) cos^(ν−2) θ)),

    for even ν

        sin θ (1 + 1/2 cos² θ + … + 1·3…(ν−3) / 2·4…(ν−2) cos^(ν−2) θ).
    """
    theta = math.atan(t / math.sqrt(degrees))
    sine, square = math.sin(theta), math.cos(theta) ** 2
    odd = degrees % 2
    term, total = (math.cos(theta) if odd else 1.0), 0.0
    for power in range(2 if odd else 1, degrees, 2):
        total += term
        term *= power / (power + 1) * square
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
