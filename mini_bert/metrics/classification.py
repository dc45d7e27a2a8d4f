"""How often is the class right, and which is taken for which?

Everything is read off the confusion matrix n_ij, the number of items of class i that were called j, with row sums t,
column sums p and the sum n:

    accuracy    = Σ_i n_ii / n
    F1 of i     = 2 n_ii / (t_i + p_i)
    Matthews    = (n Σ_i n_ii − Σ_i t_i p_i) / √((n² − Σ p_i²)(n² − Σ t_i²))

(Matthews 1975, Biochim. Biophys. Acta 405, 442-451; for more than two classes Gorodkin 2004, Comput. Biol. Chem. 28,
367-374). What is not defined is 0, as in scikit-learn: F1 of a class that neither occurs nor is named, Matthews where
all items are of one class or are called so.

Intervals take the items as independent. That of accuracy is Wilson's. F1 = 2J / (1 + J) rises with J, the share of
the right ones among the items that are i or called i, and of m such items a binomial number is right: so its ends are
those of Wilson's interval of J. Matthews' is symmetric on the scale of Fisher's z, its standard error by the delta
method for multinomial counts (Bishop, Fienberg and Holland 1975, Discrete Multivariate Analysis, chapter 14): with
shares P_ij and the derivatives g_ij of the correlation by them,

    se² = (Σ P_ij g_ij² − (Σ P_ij g_ij)²) / n

Where all is right that is 0, and the lower end is 2w − 1 instead, with w that of the accuracy (equal classes have
Matthews = 2 accuracy − 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import CONFIDENCE, Interval, normal_quantile
from mini_bert.metrics.proportions import wilson_interval


class Score(NamedTuple):
    """A score and its interval."""

    value: float
    interval: Interval


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """How many items of class i were called j [C, C], from the classes [n] and what they were called [n].

    Raises:
        InvalidInputError: no items, shapes that differ, or a class that is not one of 0 to C − 1: labels of −1 or −100
            mean "unknown" in published files, and cannot be scored.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2)
    array([[1, 1],
           [0, 1]])
    """
    true, called = np.asarray(labels), np.asarray(predictions)
    if true.ndim != 1 or true.shape != called.shape or not true.size:
        got = f"{list(true.shape)} and predictions {list(called.shape)}"
        raise InvalidInputError("labels", got=got, expected="two vectors [n] of one item or more")
    for name, values in (("labels", true), ("predictions", called)):
        if values.dtype.kind not in "iub":
            raise InvalidInputError(name, got=values.dtype, expected="integers")
        if values.min() < 0 or values.max() >= classes:
            worst = int(values.min()) if values.min() < 0 else int(values.max())
            raise InvalidInputError(name, got=worst, expected=f"0 to {classes - 1}")
    pairs = true.astype(np.int64) * classes + called
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: ArrayLike, confidence: float = CONFIDENCE) -> Score:
    """The share of the items whose class is right, from a confusion matrix [C, C].

    Raises:
        InvalidInputError: it is not a square of numbers of items, or has none.
    """
    n_CC = _checked(confusion)
    right, n = float(np.trace(n_CC)), float(n_CC.sum())
    return Score(right / n, wilson_interval(right, n, confidence))


def f1(confusion: ArrayLike, positive: int = 1, confidence: float = CONFIDENCE) -> Score:
    """F1 of one class, the harmonic mean of its precision and recall, from a confusion matrix [C, C].

    Raises:
        InvalidInputError: as `accuracy`, or there is no such class.
    """
    n_CC = _checked(confusion)
    if not 0 <= positive < len(n_CC):
        raise InvalidInputError("positive", got=positive, expected=f"a class from 0 to {len(n_CC) - 1}")
    right = float(n_CC[positive, positive])
    either = float(n_CC[positive].sum() + n_CC[:, positive].sum()) - right
    if not either:
        return Score(0.0, Interval(0.0, 1.0))
    low, high = wilson_interval(right, either, confidence)
    return Score(2 * right / (right + either), Interval(2 * low / (1 + low), 2 * high / (1 + high)))


class PerClass(NamedTuple):
    """What each class [C] has; 0 where it is not defined."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def per_class(confusion: ArrayLike) -> PerClass:
    """Precision, recall and F1 of every class, from a confusion matrix [C, C]; the mean of F1 is "macro F1".

    Raises:
        InvalidInputError: as `accuracy`.
    """
    n_CC = _checked(confusion)
    right, true, called = np.diag(n_CC), n_CC.sum(axis=1), n_CC.sum(axis=0)
    return PerClass(
        right / np.maximum(called, 1), right / np.maximum(true, 1), 2 * right / np.maximum(true + called, 1)
    )


def matthews(confusion: ArrayLike, confidence: float = CONFIDENCE) -> Score:
    """Matthews' correlation of classes and predictions, from a confusion matrix [C, C]: 0 is chance, 1 is perfect.

    Raises:
        InvalidInputError: as `accuracy`.
    """
    n_CC = _checked(confusion)
    n = float(n_CC.sum())
    P = n_CC / n
    t, p = P.sum(axis=1), P.sum(axis=0)
    spread_t, spread_p = 1 - float(t @ t), 1 - float(p @ p)
    if max(n_CC.sum(axis=1)) == n or max(n_CC.sum(axis=0)) == n:
        return Score(0.0, Interval(-1.0, 1.0))
    scale = math.sqrt(spread_t * spread_p)
    value = (float(np.trace(P)) - float(t @ p)) / scale
    if 1 - abs(value) < 1e-12:
        value = math.copysign(1.0, value)
        reach = 2 - 2 * wilson_interval(n, n, confidence).low
        return Score(value, Interval(1 - reach, 1.0) if value > 0 else Interval(-1.0, reach - 1))
    g = (np.eye(len(P)) - t[None, :] - p[:, None]) / scale + value * (p[None, :] / spread_p + t[:, None] / spread_t)
    variance = max(0.0, float((P * g * g).sum()) - float((P * g).sum()) ** 2) / n
    middle = math.atanh(value)
    reach = normal_quantile(confidence) * math.sqrt(variance) / (1 - value * value)
    return Score(value, Interval(math.tanh(middle - reach), math.tanh(middle + reach)))


def _checked(confusion: ArrayLike) -> NDArray[np.float64]:
    n_CC = np.asarray(confusion, np.float64)
    if n_CC.ndim != 2 or n_CC.shape[0] != n_CC.shape[1] or not n_CC.size:
        raise InvalidInputError("confusion", got=f"shape {list(n_CC.shape)}", expected="a square [C, C]")
    if not (np.isfinite(n_CC).all() and (n_CC >= 0).all() and n_CC.any()):
        raise InvalidInputError("confusion", got="a negative number, NaN, or nothing", expected="numbers of items")
    return n_CC
