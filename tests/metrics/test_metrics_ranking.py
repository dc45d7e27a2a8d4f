"""The area under the ROC curve beside scikit-learn's, and its spread beside the definition in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.ranking import area_under_curve


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_area_of_scikit_learn_with_ties(seed):
    rng = np.random.default_rng(seed)
    positives, negatives = rng.integers(0, 12, 30) / 4.0, rng.integers(-4, 9, 45) / 4.0
    found = area_under_curve(positives, negatives)
    labels = [1] * 30 + [0] * 45
    assert found.value == pytest.approx(roc_auc_score(labels, [*positives, *negatives]), abs=1e-12)
    wins = [[(p > n) + 0.5 * (p == n) for n in negatives] for p in positives]
    u = [sum(row) / 45 for row in wins]
    v = [sum(row[j] for row in wins) / 30 for j in range(45)]
    error = math.sqrt(np.var(u, ddof=1) / 30 + np.var(v, ddof=1) / 45)
    assert found.interval.high - found.value == pytest.approx(1.959964 * error, abs=1e-6)
    assert (found.positives, found.negatives) == (30, 45)


def test_the_interval_holds_the_true_area_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    true = 0.5 * (1 + math.erf(1 / 2))  # of normals one deviation apart
    held = [
        low <= true <= high
        for low, high in (area_under_curve(1 + rng.normal(size=40), rng.normal(size=60)).interval for _ in range(400))
    ]
    assert 0.91 < np.mean(held) < 0.98


def test_where_there_is_no_spread_the_interval_still_has_a_width():
    all_apart, all_equal = area_under_curve([2, 3], [0, 1]), area_under_curve([1, 1], [1, 1, 1])
    assert (all_apart.value, all_equal.value) == (1, 0.5)
    assert all_apart.interval.low < 0.5
    assert all_equal.interval.low < 0.5 < all_equal.interval.high
    assert area_under_curve([1], [0]).interval.low < 1


def test_no_scores_are_refused():
    for groups in (([], [1]), ([1], []), ([1, math.nan], [1])):
        with pytest.raises(InvalidInputError):
            area_under_curve(*groups)
