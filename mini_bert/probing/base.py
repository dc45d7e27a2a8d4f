"""What does a linear reader find in a representation, and how much of it did the reader itself learn?

A probe is multinomial logistic regression on features [N, H] that are standardised on what it is trained on:

    z      = (x − mean) / sd                                                                        (PR.1)
    p(k|x) ∝ exp(w_k · z + b_k)                                                                     (PR.2)
    min      ½ Σ_k ‖w_k‖² − C Σ_n log p(y_n | x_n)                                                   (PR.3)

fitted by scikit-learn (L-BFGS in the features' dtype, float32 for a float32 model; from zero, so the same each time).
C, the strength of the data against the penalty, is chosen on the dev part.

A high accuracy alone says little. The **control task** (Hewitt and Liang 2019, "Designing and interpreting probes with
control tasks", EMNLP) gives every word type a label drawn once for all by the frequencies of the real labels: nothing
of language is in it, so what a probe reaches there it has learned by heart.

    selectivity = accuracy − accuracy on the control task                                           (PR.4)
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.errors import InvalidInputError, MissingExtraError, NonFiniteError
from mini_bert.metrics.clustered_means import clustered_difference, sums_by_cluster
from mini_bert.metrics.interval import OF_A_DIFFERENCE_OF_SHARES
from mini_bert.metrics.proportions import clustered_wilson_interval
from mini_bert.random_streams import RandomStream

Floats = NDArray[np.floating]
Classes = NDArray[np.integer]

STRENGTHS = (0.01, 0.1, 1.0)
"""C of (PR.3) that are tried."""

_TOLERANCE = 1e-4
"""Largest element of the gradient of the mean loss at which a fit is done."""

_UPDATES = 1000
_ROWS_AT_ONCE = 8192


class Items(NamedTuple):
    """N things to be classified."""

    features: Floats
    """[N, H]"""
    labels: Classes
    """[N] numbers of classes"""


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe."""

    mean: Floats
    scale: Floats
    regression: Any
    """scikit-learn's `LogisticRegression`."""
    strength: float
    updates: int
    converged: bool
    """False: it was stopped, and its figures are those of a probe that could have become better."""

    def predict(self, features: Floats) -> NDArray[np.int64]:
        """The likeliest class of each row [N, H]."""
        parts = [features[start : start + _ROWS_AT_ONCE] for start in range(0, len(features), _ROWS_AT_ONCE)]
        found = [self.regression.predict((part - self.mean) / self.scale) for part in parts]
        return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)


def fit_linear_probe(items: Items, strengths: Sequence[float] = STRENGTHS, dev: Items | None = None) -> LinearProbe:
    """The probe (PR.1-3) with the strength that gives the best accuracy on `dev`; the weakest of those that are equal.

    Args:
        items: what it is fitted to.
        strengths: C, tried in ascending order, each beginning where the last one ended.
        dev: on which the strength is chosen; not needed where there is only one.

    Raises:
        InvalidInputError: shapes do not fit, all labels are alike, no strength, or several and no `dev`.
        NonFiniteError: a feature is NaN or infinite.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError(
            "scikit-learn", got="not installed", expected="the extra `probes`", advice='pip install "mini-bert[probes]"'
        ) from error
    if not strengths or (len(strengths) > 1 and dev is None) or not all(0 < c < np.inf for c in strengths):
        raise InvalidInputError("strengths", got=list(strengths), expected="positive numbers, and `dev` to choose by")
    _check(items)
    dtype = items.features.dtype
    mean = items.features.mean(axis=0, dtype=np.float64).astype(dtype)
    features = items.features - mean
    scale = np.sqrt(np.square(features).mean(axis=0, dtype=np.float64)).astype(dtype)
    if not np.isfinite(scale).all():
        raise NonFiniteError("features", got="numbers whose squares overflow", expected="smaller ones")
    rounding = 10 * np.finfo(dtype).eps + len(features) * np.finfo(np.float64).eps
    scale[scale <= rounding * np.abs(mean)] = 1  # a constant, but for rounding of its mean
    features /= scale
    best: tuple[float, LinearProbe] | None = None
    coefficients: Any = None
    for strength in sorted(strengths):
        regression = LogisticRegression(C=strength, tol=_TOLERANCE, max_iter=_UPDATES, warm_start=True)
        if coefficients is not None:
            regression.coef_, regression.intercept_, regression.classes_ = coefficients
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            regression.fit(features, items.labels)
        coefficients = (regression.coef_.copy(), regression.intercept_.copy(), regression.classes_)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in told)
        probe = LinearProbe(mean, scale, regression, strength, int(regression.n_iter_[0]), converged)
        score = 0.0 if dev is None else float(np.mean(probe.predict(dev.features) == dev.labels))
        if best is None or score > best[0]:
            best = (score, probe)
    assert best is not None
    return best[1]


def score(hits: ArrayLike, sentences: ArrayLike) -> dict[str, Any]:
    """Accuracy of N items that come in sentences: {"accuracy", "interval" (95 %, clustered by sentence), "n"}.

    Without items accuracy and interval are None.

    Args:
        hits: [N] whether each is right.
        sentences: [N] number of the sentence that each belongs to.

    Raises:
        InvalidInputError: the two are not of one length.
    """
    right, sizes = sums_by_cluster(hits, sentences)
    n = int(sizes.sum())
    if not n:
        return {"accuracy": None, "interval": None, "n": 0}
    return {
        "accuracy": float(right.sum() / n),
        "interval": list(clustered_wilson_interval(right, sizes)),
        "n": n,
    }


def difference(hits: ArrayLike, others: ArrayLike, sentences: ArrayLike) -> dict[str, Any]:
    """Accuracy of one minus that of another on the same items, paired: {"difference", "interval"}.

    Args:
        hits: [N] whether the one is right.
        others: [N] whether the other is.
        sentences: [N] number of the sentence that each item belongs to.

    Raises:
        InvalidInputError: they are not of one length, or there is no item.
    """
    first, sizes = sums_by_cluster(hits, sentences)
    second, _ = sums_by_cluster(others, sentences)
    found = clustered_difference(first, second, sizes, bounds=OF_A_DIFFERENCE_OF_SHARES)
    return {
        "difference": found.mean,
        "interval": found.interval.ends(),
    }


def control_labels(labels: Classes, seed: int = 0) -> Callable[[Sequence[Hashable]], Classes]:
    """The control task: a function from word types [N] to labels [N], the same label for the same type, seen or not.

    Types must be what the model can tell apart: for an uncased one, `The` and `the` are one type. Else the task could
    not be learned even by heart, and selectivity would look too good.

    Args:
        labels: of the training words; a type's label is drawn by how often each occurs there.
        seed: of the draws.
    """
    classes, counts = np.unique(labels, return_counts=True)
    ends = np.cumsum(counts) / counts.sum()
    stream = RandomStream(seed, "probing/control_task")

    @cache
    def label(kind: Hashable) -> int:
        drawn = stream.at(str(kind)).uniform(1)[0, 0]
        return int(classes[np.searchsorted(ends[:-1], drawn, side="right")])

    return lambda types: np.array([label(kind) for kind in types], np.int64)


class MajorityLabels(NamedTuple):
    """The commonest label of each word in the training part, and of all words together."""

    by_word: Mapping[Hashable, int]
    of_all: int

    def predict(self, words: Sequence[Hashable]) -> Classes:
        """The word's commonest label; of a word that was not seen, the commonest of all."""
        return np.array([self.by_word.get(word, self.of_all) for word in words], np.int64)


def majority_labels(words: Sequence[Hashable], labels: Classes) -> MajorityLabels:
    """Count which label each word has; of labels that are equally common the lower number is taken.

    Raises:
        InvalidInputError: no words, or not one label a word.
    """
    if not len(words) or len(words) != len(labels):
        raise InvalidInputError("words", got=f"{len(words)}, with {len(labels)} labels", expected="one label a word")
    counts: dict[Hashable, Counter[int]] = {}
    for word, label in zip(words, labels.tolist(), strict=True):
        counts.setdefault(word, Counter())[label] += 1
    of_all = Counter(labels.tolist())
    return MajorityLabels({word: _commonest(count) for word, count in counts.items()}, _commonest(of_all))


def _commonest(counts: Counter[int]) -> int:
    return min(counts, key=lambda label: (-counts[label], label))


def _check(items: Items) -> None:
    x, y = items
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise InvalidInputError("items", got=f"{list(x.shape)} and labels {list(y.shape)}", expected="[N, H] and [N]")
    if len(np.unique(y)) < 2:
        raise InvalidInputError(
            "labels",
            got=f"{len(np.unique(y))} class in {len(y)} items",
            expected="at least two",
            advice="Take more text.",
        )
    if not np.isfinite(x).all():
        raise NonFiniteError("features", got="NaN or an infinity", expected="finite numbers")
