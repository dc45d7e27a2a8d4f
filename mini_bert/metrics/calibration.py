"""Does a model that says "70 %" turn out right seven times in ten?

N answers with confidences c_i (the probability given to the answer) and hits h_i in {0, 1} are sorted by confidence and
cut into K bins of equal numbers, whatever the confidences (Nguyen and O'Connor 2015, EMNLP; with bins of equal width,
as in Guo et al. 2017, most of a language model's answers share a bin or two). Bin b has n_b answers with the mean
confidence conf_b and the share of hits acc_b:

    ECE   = Σ_b n_b / N · |acc_b − conf_b|                                                          (CAL.1)
    floor = Σ_b n_b / N · √(2 / π) · s_b                                                            (CAL.2)
    s_b²  = Σ_c m_bc² / N_c · c (1 − c) / n_b²                                                      (CAL.3)

(CAL.2) is the expected ECE of a model whose confidences are exactly right: acc_b is then nearly normal around conf_b
with the standard deviation s_b. An error of that size says nothing. All N_c answers of the same confidence c share
their hits evenly, wherever they lie, m_bc of them in bin b: so the order in which they come changes nothing.
Derivation: docs/derivations/calibration.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import Interval
from mini_bert.metrics.proportions import wilson_interval

BINS = 15


class CalibrationBin(NamedTuple):
    """Answers of similar confidence."""

    n: int
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """The share that is right."""
    interval: Interval
    """Of the accuracy; answers are taken as independent."""


class Calibration(NamedTuple):
    """How far confidence and accuracy are apart."""

    error: float
    """(CAL.1)"""
    floor: float
    """(CAL.2)"""
    bins: tuple[CalibrationBin, ...]
    """From the least to the most confident."""


def calibration(confidences: ArrayLike, hits: ArrayLike, bins: int = BINS) -> Calibration:
    """Expected calibration error of answers with `confidences` [N] in [0, 1] that were right or not, `hits` [N].

    Raises:
        InvalidInputError: no answers, shapes that differ, a confidence or a hit outside [0, 1], or no bin.

    >>> round(calibration([0.6, 0.6, 0.9, 0.9], [0, 1, 1, 1], bins=2).error, 12)
    0.1
    """
    c, h = np.asarray(confidences, np.float64), np.asarray(hits, np.float64)
    if c.ndim != 1 or c.shape != h.shape or not c.size:
        raise InvalidInputError(
            "confidences", got=f"{list(c.shape)} and hits {list(h.shape)}", expected="two vectors [N], N at least 1"
        )
    for name, values in (("confidences", c), ("hits", h)):
        if not ((values >= 0) & (values <= 1)).all():
            worst = values[~((values >= 0) & (values <= 1))][0]
            raise InvalidInputError(name, got=worst, expected="numbers from 0 to 1")
    if bins < 1:
        raise InvalidInputError("bins", got=bins, expected="at least 1")
    levels, level = np.unique(c, return_inverse=True)
    alike = np.bincount(level)
    shared, spread = np.bincount(level, h) / alike, levels * (1 - levels) / alike
    level = np.sort(level)
    c, h = levels[level], shared[level]
    edges = len(c) * np.arange(bins + 1) // bins
    found = []
    error = floor = 0.0
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if n := stop - start:
            here, right = c[start:stop], float(h[start:stop].sum())
            found.append(CalibrationBin(n, float(here.mean()), right / n, wilson_interval(min(right, n), n)))
            error += abs(right - float(here.sum())) / len(c)
            present, m = np.unique(level[start:stop], return_counts=True)
            floor += math.sqrt(2 / math.pi * float((m * m * spread[present]).sum())) / len(c)
    return Calibration(error, floor, tuple(found))
