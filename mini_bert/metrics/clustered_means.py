"""What is the mean over tokens, and how sure is it when the tokens come in rows?

Tokens of one row share their text: they are not independent, and an interval that takes them as such is too narrow.
Rows are drawn, not tokens, so the mean over tokens is a ratio of two sums over R rows (row r has n_r tokens with sum
s_r and residual e_r; N = Σ n_r):

    mean = Σ s_r / N
    e_r  = s_r − mean · n_r
    se²  = R / (R − 1) · Σ e_r² / N²

This is the linearised variance of a ratio, or of a mean with clusters (Cochran 1977, Sampling Techniques, 3rd ed.,
chapters 6 and 9A; Miller 2024, arXiv:2411.00640, for language models), with the quantile of Student's distribution for
R − 1 degrees of freedom. It stands here instead of a bootstrap over rows because it needs no draws and gives the same
ends: a test compares the two. Rows of one document are taken as independent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import CONFIDENCE, UNKNOWN, Interval, t_quantile


class ClusteredMean(NamedTuple):
    """A mean over tokens that come in rows."""

    mean: float
    standard_error: float
    """Infinite where there is only one row."""
    interval: Interval
    tokens: int
    rows: int


def clustered_mean(
    sums: ArrayLike, sizes: ArrayLike, confidence: float = CONFIDENCE, *, bounds: Interval = UNKNOWN
) -> ClusteredMean:
    """Mean over all tokens, from each row's sum [R] and number of tokens [R]; rows without tokens do not count.

    Args:
        sums: of each row's values.
        sizes: how many values each row has.
        confidence: of the interval.
        bounds: between which a value can be. Student's distribution does not know of them, and few rows reach beyond.

    Raises:
        InvalidInputError: the shapes differ, a size is negative, or there is no token at all.
    """
    s, n = _rows(sums, sizes)
    tokens, rows = int(n.sum()), len(n)
    mean = float(s.sum() / tokens)
    if rows == 1:
        return ClusteredMean(mean, math.inf, UNKNOWN, tokens, rows)
    residuals = s - mean * n
    error = math.sqrt(rows / (rows - 1) * float(residuals @ residuals)) / tokens
    reach = t_quantile(rows - 1, confidence) * error
    interval = Interval(max(mean - reach, bounds.low), min(mean + reach, bounds.high))
    return ClusteredMean(mean, error, interval, tokens, rows)


def clustered_difference(
    sums: ArrayLike,
    other_sums: ArrayLike,
    sizes: ArrayLike,
    confidence: float = CONFIDENCE,
    *,
    bounds: Interval = UNKNOWN,
) -> ClusteredMean:
    """Mean of (first − second) over the same tokens: paired, so that what is hard for both cancels.

    Raises:
        InvalidInputError: as `clustered_mean`.
    """
    first, second = np.asarray(sums, np.float64), np.asarray(other_sums, np.float64)
    if first.shape != second.shape:
        raise InvalidInputError("other_sums", got=list(second.shape), expected=f"shape {list(first.shape)}")
    return clustered_mean(first - second, sizes, confidence, bounds=bounds)


def sums_by_cluster(values: ArrayLike, clusters: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The sum [R] of the values [N] of each cluster, and how many they are [R]: what the functions above take.

    Args:
        values: one number an item; truth values count as 0 and 1.
        clusters: [N] which cluster each item belongs to, by number or by name; R of them differ, and they come out in
            ascending order.

    Raises:
        InvalidInputError: `values` is no vector, or there is not one cluster for each.

    >>> sums, sizes = sums_by_cluster([1, 2, 4], ["b", "a", "b"])
    >>> sums.tolist(), sizes.tolist()
    ([2.0, 5.0], [1, 2])
    """
    x, names = np.asarray(values, np.float64), np.asarray(clusters)
    if x.ndim != 1 or x.shape != names.shape:
        raise InvalidInputError(
            "values", got=f"{list(x.shape)} and clusters {list(names.shape)}", expected="two vectors [N]"
        )
    _, number = np.unique(names, return_inverse=True)
    return np.bincount(number, x).astype(np.float64), np.bincount(number)


def _rows(sums: ArrayLike, sizes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    s, n = np.asarray(sums, np.float64), np.asarray(sizes, np.float64)
    if s.ndim != 1 or s.shape != n.shape:
        raise InvalidInputError("sums", got=f"{list(s.shape)} and sizes {list(n.shape)}", expected="two vectors [R]")
    if not (n >= 0).all():
        raise InvalidInputError("sizes", got=float(n.min()), expected="numbers of tokens, none negative")
    if not n.any():
        raise InvalidInputError("sizes", got="no token at all", expected="at least one token")
    return s[n > 0], n[n > 0]
