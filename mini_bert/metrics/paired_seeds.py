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
from mini_bert.metrics.interval import CONFIDENCE, UNKNOWN, Interval, t_quantile


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


def _differences(first: Sequence[float], second: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise InvalidInputError("first", got=f"{list(one.shape)} and {list(other.shape)}", expected="two vectors [n]")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise InvalidInputError("first", got="a result that is not finite", expected="finite numbers")
    return one - other
