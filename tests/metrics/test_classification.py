"""Scores of classes: against scikit-learn, against sums by hand, and against a bootstrap."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.classification import accuracy, confusion_matrix, f1, matthews, per_class

_BY_HAND = np.array([[50, 10], [20, 120]])


def _random(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    return true, np.where(rng.random(n) < 0.6, true, rng.integers(0, classes, n))


@pytest.mark.parametrize(("n", "classes"), [(5, 2), (300, 2), (40, 3), (900, 17)])
def test_scores_are_those_of_scikit_learn(n: int, classes: int) -> None:
    from sklearn import metrics

    for seed in range(5):
        true, called = _random(seed, n, classes)
        n_CC, names = confusion_matrix(true, called, classes), list(range(classes))
        np.testing.assert_array_equal(n_CC, metrics.confusion_matrix(true, called, labels=names))
        assert accuracy(n_CC).value == pytest.approx(metrics.accuracy_score(true, called), abs=1e-12)
        assert matthews(n_CC).value == pytest.approx(metrics.matthews_corrcoef(true, called), abs=1e-12)
        options = {"labels": names, "average": None, "zero_division": 0}
        each = per_class(n_CC)
        np.testing.assert_allclose(each.precision, metrics.precision_score(true, called, **options))
        np.testing.assert_allclose(each.recall, metrics.recall_score(true, called, **options))
        np.testing.assert_allclose(each.f1, metrics.f1_score(true, called, **options))
        for name in names:
            assert f1(n_CC, name).value == pytest.approx(each.f1[name])


def test_scores_by_hand() -> None:
    assert accuracy(_BY_HAND).value == 0.85
    assert f1(_BY_HAND, 1).value == pytest.approx(240 / 270)
    assert f1(_BY_HAND, 0).value == pytest.approx(100 / 130)
    assert matthews(_BY_HAND).value == pytest.approx((50 * 120 - 10 * 20) / np.sqrt(60 * 140 * 70 * 130))


def test_intervals_are_those_of_a_bootstrap_over_items() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(_BY_HAND.sum(), (_BY_HAND / _BY_HAND.sum()).ravel(), 4000).reshape(-1, 2, 2)
    for score in (accuracy, f1, matthews):
        low, high = np.quantile([score(n_CC).value for n_CC in drawn], [0.025, 0.975])
        assert score(_BY_HAND).interval == pytest.approx((low, high), abs=0.012)


def test_the_standard_error_of_matthews_for_many_classes_is_that_of_a_bootstrap() -> None:
    true, called = _random(1, 400, 4)
    n_CC = confusion_matrix(true, called, 4)
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(400, (n_CC / 400).ravel(), 4000).reshape(-1, 4, 4)
    low, high = np.quantile([matthews(one).value for one in drawn], [0.025, 0.975])
    assert matthews(n_CC).interval == pytest.approx((low, high), abs=0.012)


@pytest.mark.parametrize("n_CC", [[[7, 0], [3, 0]], [[7, 3], [0, 0]], [[10, 0], [0, 0]]])
def test_naming_the_majority_class_is_worth_nothing_to_matthews(n_CC: list[list[int]]) -> None:
    assert matthews(n_CC) == (0.0, (-1.0, 1.0))
    assert f1(n_CC, 1).value == 0.0


def test_all_right_is_not_certainty() -> None:
    for size in (4, 100):
        score = matthews([[size // 2, 0], [0, size // 2]])
        assert score.value == 1.0
        assert score.interval.high == 1.0
        assert score.interval.low == pytest.approx(2 * accuracy([[size, 0], [0, 0]]).interval.low - 1)
        wrong = matthews([[0, size // 2], [size // 2, 0]])
        assert (wrong.value, *wrong.interval) == pytest.approx((-1.0, -1.0, -score.interval.low))


def test_intervals_hold_the_score_and_shrink_with_n() -> None:
    for score in (accuracy, f1, matthews):
        few, many = score(_BY_HAND), score(100 * _BY_HAND)
        assert few.interval.low < few.value < few.interval.high
        assert (many.interval.high - many.interval.low) * 8 < few.interval.high - few.interval.low


@pytest.mark.parametrize("label", [-1, -100, 2])
def test_labels_that_are_not_classes_are_refused(label: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"labels: got {label}; expected 0 to 1"):
        confusion_matrix([0, 1, label], [0, 1, 1], 2)


def test_what_is_no_confusion_matrix_is_refused() -> None:
    for bad in ([[1, 2]], [[0, 0], [0, 0]], [[1, -1], [0, 1]], [[float("nan"), 1], [0, 1]]):
        for score in (accuracy, f1, matthews, per_class):
            with pytest.raises(InvalidInputError):
                score(bad)
    for labels, predictions in (([], []), ([0, 1], [0]), ([0.0, 1.0], [0, 1])):
        with pytest.raises(InvalidInputError):
            confusion_matrix(labels, predictions, 2)
    with pytest.raises(InvalidInputError, match="positive"):
        f1(_BY_HAND, 2)


def test_no_score_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        per_class([[3, 0, 0], [2, 0, 0], [0, 0, 0]])
