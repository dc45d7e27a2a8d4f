"""How closely do two lists of numbers agree, and how sure is that?

Pearson's correlation of n pairs, and Spearman's, which is Pearson's of the ranks; equal values share the mean of their
ranks:

    r   = Σ (x − x̄)(y − ȳ) / √(Σ (x − x̄)² · Σ (y − ȳ)²)
    r_s = r of the ranks

Their intervals are symmetric on the scale of Fisher's z (Fisher 1921, Metron 1, 3-32), with the spread for ranks of
Bonett and Wright (2000, Psychometrika 65, 23-28), whose coverage is good below |r_s| = 0.95:

    interval = tanh(artanh r ± z · se)
    se       = √(1 / (n − 3))                                                Pearson
    se       = √((1 + r_s² / 2) / (n − 3))                                   Spearman

Pearson's takes the pairs as normal; neither knows that pairs may share a word. A list that is constant says nothing
about the other: its correlation is taken as 0, and its interval as all of [−1, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import CONFIDENCE, Interval, normal_quantile

_ALL = Interval(-1.0, 1.0)


class Correlation(NamedTuple):
    """A correlation of n pairs."""

    value: float
    interval: Interval
    n: int


def pearson(x: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> Correlation:
    """Pearson's correlation of two vectors [n].

    Raises:
        InvalidInputError: fewer than two pairs, shapes that differ, or a number that is not finite.
    """
    a, b = _pairs(x, y)
    r = _correlation(a, b)
    return Correlation(r, fisher_interval(r, len(a), 1.0, confidence) if _vary(a, b) else _ALL, len(a))


def spearman(x: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> Correlation:
    """Spearman's rank correlation of two vectors [n].

    Raises:
        InvalidInputError: as `pearson`.

    >>> spearman([1, 2, 3, 4], [10, 20, 20, 40]).value == pearson([1, 2, 3, 4], [1, 2.5, 2.5, 4]).value
    True
    """
    a, b = _pairs(x, y)
    r = _correlation(mean_ranks(a), mean_ranks(b))
    return Correlation(r, fisher_interval(r, len(a), 1.0 + r * r / 2, confidence) if _vary(a, b) else _ALL, len(a))


def mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """The rank [n] of each of the values [n], from 1; equal values share the mean of their ranks.

    >>> mean_ranks([30, 10, 30, 20])
    array([3.5, 1. , 3.5, 2. ])
    """
    _, which, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[which]


def fisher_interval(r: float, n: int, factor: float = 1.0, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a correlation r of n pairs; `factor` is (n − 3) times the variance of artanh r.

    artanh 1 is infinite. An order without a fault counts as one in which two neighbours have changed places,
    12 / (n³ − n) less than 1: few pairs in the right order prove little. Of three pairs or fewer it is all of [−1, 1].
    """
    if n <= 3:
        return _ALL
    near_one = 1 - 12 / (n * (n * n - 1))
    middle = math.atanh(max(-near_one, min(near_one, r)))
    reach = normal_quantile(confidence) * math.sqrt(factor / (n - 3))
    low, high = math.tanh(middle - reach), math.tanh(middle + reach)
    return Interval(min(low, r), max(high, r))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if not _vary(a, b):
        return 0.0
    a, b = a / np.abs(a).max(), b / np.abs(b).max()  # so that no sum overflows
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return max(-1.0, min(1.0, float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))))


def _vary(*vectors: NDArray[np.float64]) -> bool:
    return all(vector.min() < vector.max() for vector in vectors)


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InvalidInputError("x", got=f"{list(a.shape)} and y {list(b.shape)}", expected="two vectors [n]")
    if len(a) < 2:
        raise InvalidInputError("x", got=f"{len(a)} pairs", expected="at least two")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidInputError("x", got="a number that is not finite", expected="finite numbers")
    return a, b
