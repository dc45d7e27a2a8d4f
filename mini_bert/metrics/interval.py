"""What is an interval here, and how wide is it for a given confidence?"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

from mini_bert.errors import InvalidInputError

CONFIDENCE = 0.95
"""Confidence of every interval that is not asked for otherwise."""


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


UNKNOWN = Interval(float("-inf"), float("inf"))
"""The interval of a single observation: nothing is known about its spread."""


def normal_quantile(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches to either side: 1.96 for 0.95.

    Raises:
        InvalidInputError: `confidence` is not strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError("confidence", got=confidence, expected="a number strictly between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)
