"""By how much do two ways differ, when each was tried with the same n seeds?

Seeds are drawn, so a difference over them has a spread. With d_s the difference of seed s (Student 1908, Biometrika 6):

    mean = Σ d_s / n
    se²  = Σ (d_s − mean)² / (n (n − 1))
    interval: mean ± t(n − 1) · se,   t the quantile of Student's distribution

Pairing by seed takes out what a seed does to both. With 2 seeds t is 12.7: only large differences stand out.

Many ways P, tried with the same seeds, say more together about how far chance reaches. If a result is way + seed +
noise of one spread σ (randomised blocks; Fisher 1935, The Design of Experiments), with x_ps and its row and column
means,

    σ²   = Σ (x_ps − x_p· − x_·s + x_··)² / ((P − 1)(n − 1))
    interval of a difference of two ways: mean ± t((P − 1)(n − 1)) · σ √(2 / n)

It is much narrower with few seeds, and true only as far as the ways do have one spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import CONFIDENCE, UNKNOWN, Interval

_MOST_DEGREES = 10_000


class PairedMean(NamedTuple):
    """A mean difference over seeds."""

    mean: float
    interval: Interval
    """(−∞, ∞) of a single seed."""
    seeds: int


def paired_mean(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> PairedMean:
    """Mean of first − second [n], of the same seeds in the same order.

    Raises:
        InvalidInputError: there are none, not equally many, or one is not finite.
    """
    d = _differences(first, second)
    mean = float(d.mean())
    if len(d) == 1:
        return PairedMean(mean, UNKNOWN, 1)
    reach = t_quantile(len(d) - 1, confidence) * float(d.std(ddof=1)) / math.sqrt(len(d))
    return PairedMean(mean, Interval(mean - reach, mean + reach), len(d))


def reach_of_blocks(results: ArrayLike, confidence: float = CONFIDENCE) -> float:
    """How far the interval of a difference between two of P ways [P, n] reaches to either side; one spread is assumed.

    Raises:
        InvalidInputError: fewer than two ways or two seeds, or a result is not finite.
    """
    x = np.asarray(results, np.float64)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise InvalidInputError("results", got=f"shape {list(x.shape)}", expected="finite [P, n], both at least 2")
    residuals = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0) + x.mean()
    degrees = (x.shape[0] - 1) * (x.shape[1] - 1)
    sigma = math.sqrt(float((residuals * residuals).sum()) / degrees)
    return t_quantile(degrees, confidence) * sigma * math.sqrt(2 / x.shape[1])


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors a two-sided interval reaches to either side, by Student's distribution.

    Raises:
        InvalidInputError: `degrees` below 1 or above 10,000, or `confidence` not strictly between 0 and 1.

    >>> round(t_quantile(1), 3), round(t_quantile(2), 3), round(t_quantile(23), 3)
    (12.706, 4.303, 2.069)
    """
    if not 1 <= degrees <= _MOST_DEGREES:
        raise InvalidInputError("degrees", got=degrees, expected=f"1 to {_MOST_DEGREES:,} degrees of freedom")
    if not 0 < confidence < 1:
        raise InvalidInputError("confidence", got=confidence, expected="a number strictly between 0 and 1")
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


def _differences(first: Sequence[float], second: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise InvalidInputError("first", got=f"{list(one.shape)} and {list(other.shape)}", expected="two vectors [n]")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise InvalidInputError("first", got="a result that is not finite", expected="finite numbers")
    return one - other
