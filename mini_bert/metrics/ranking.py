"""How well does a score tell two groups apart?

The area under the ROC curve is the share of pairs (one of each group) in which the first group's scores higher; equal
scores count a half. With P positives, N negatives and each one's own share against the other group (its placement):

    u_i  = share of negatives that positive i beats          v_j = share of positives that beat negative j
    area = Σ u_i / P = Σ v_j / N                                                                           (AREA.2)
    se²  = var(u) / P + var(v) / N                            variances with P − 1 and N − 1               (AREA.3)

Where the spread is unknown, because all placements are alike (a score that tells nothing, or everything) or a group has
one member, the interval is Wilson's for min(P, N) independent trials. Derivation: docs/derivations/area_under_curve.md.
Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44, 837-845.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import CONFIDENCE, Interval, normal_quantile
from mini_bert.metrics.proportions import wilson_interval


class Area(NamedTuple):
    """An area under the ROC curve: 0.5 tells nothing, 1 tells all."""

    value: float
    interval: Interval
    positives: int
    negatives: int


def area_under_curve(positives: ArrayLike, negatives: ArrayLike, confidence: float = CONFIDENCE) -> Area:
    """The share of pairs in which one of the scores `positives` [P] is above one of `negatives` [N]; of equals half.

    Raises:
        InvalidInputError: a group is empty, or a score is not finite.
    """
    p, n = np.asarray(positives, np.float64).ravel(), np.asarray(negatives, np.float64).ravel()
    if not p.size or not n.size:
        raise InvalidInputError("positives", got=f"{p.size} and {n.size} negatives", expected="at least one of each")
    if not (np.isfinite(p).all() and np.isfinite(n).all()):
        raise InvalidInputError("positives", got="a score that is not finite", expected="finite numbers")
    u = _share_below(p, np.sort(n))
    v = 1 - _share_below(n, np.sort(p))
    area = float(u.mean())
    spread = [x.var(ddof=1) / x.size if x.size > 1 else math.inf for x in (u, v)]
    error = math.sqrt(sum(spread))
    if error == 0 or math.isinf(error):
        trials = min(p.size, n.size)
        return Area(area, wilson_interval(area * trials, trials, confidence), p.size, n.size)
    reach = normal_quantile(confidence) * error
    return Area(area, Interval(max(0.0, area - reach), min(1.0, area + reach)), p.size, n.size)


def _share_below(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Of the ascending `ordered` [n], the share below each of `values` [m], [m]; equal ones count a half."""
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(below / (2 * ordered.size))
