"""Is a probe what scikit-learn and the definition say, and do its controls control?"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mini_bert.errors import InvalidInputError, MissingExtraError, NonFiniteError
from mini_bert.metrics.proportions import clustered_wilson_interval
from mini_bert.probing.base import (
    Items,
    control_labels,
    difference,
    fit_linear_probe,
    majority_labels,
    score,
)

RNG = np.random.default_rng(5)
CENTRES = RNG.normal(size=(4, 6))


def made(n: int, spread: float = 1.2) -> Items:
    """Four clouds on very different scales, and a feature that never changes."""
    labels = RNG.integers(0, 4, n)
    features = (CENTRES[labels] + spread * RNG.normal(size=(n, 6))) * [1, 100, 1e-3, 1, 1, 1] + [0, 5, 0, 0, -3, 0]
    features[:, 5] = 0.7
    return Items(features, labels)


def test_a_probe_is_logistic_regression_on_standardised_features() -> None:
    items, others = made(300), made(200)
    probe = fit_linear_probe(items, [0.1])
    scaler = StandardScaler().fit(items.features)
    reference = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(scaler.transform(items.features), items.labels)
    np.testing.assert_allclose(probe.scale[:5], scaler.scale_[:5], rtol=1e-12)
    assert probe.scale[5] == 1
    np.testing.assert_allclose(probe.regression.coef_[:, :5], reference.coef_[:, :5], atol=5e-3)
    agree = np.mean(probe.predict(others.features) == reference.predict(scaler.transform(others.features)))
    assert agree >= 0.99
    assert probe.converged


def test_it_is_the_minimum_of_its_equation() -> None:
    """The gradient of (PR.3) at what was found, by the definition."""
    items = made(120)
    strength = 0.3
    probe = fit_linear_probe(items, [strength])
    z = (items.features - probe.mean) / probe.scale
    scores = z @ probe.regression.coef_.T + probe.regression.intercept_
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    gradient = probe.regression.coef_ + strength * (p - np.eye(4)[items.labels]).T @ z
    assert np.abs(gradient).max() / (strength * len(z)) < 2e-4
    assert np.abs(z[:, 5]).max() < 1e-12
    assert np.abs(z.mean(axis=0)).max() < 1e-12


def test_the_strength_is_that_which_is_best_on_dev() -> None:
    train, dev = made(60, 2.0), made(400, 2.0)
    strengths = (1e-6, 1e-2, 10.0)
    alone = [fit_linear_probe(train, [c]) for c in strengths]
    scores = [np.mean(probe.predict(dev.features) == dev.labels) for probe in alone]
    chosen = fit_linear_probe(train, strengths[::-1], dev)
    assert scores[0] < max(scores)
    assert chosen.strength == strengths[int(np.argmax(scores))]


def test_float32_stays_float32_and_gives_the_same() -> None:
    items = made(300)
    single = Items(items.features.astype(np.float32), items.labels)
    probe = fit_linear_probe(single, [0.1])
    assert probe.mean.dtype == probe.regression.coef_.dtype == np.float32
    same = probe.predict(single.features) == fit_linear_probe(items, [0.1]).predict(items.features)
    assert same.mean() > 0.98


def test_a_probe_that_did_not_get_to_its_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mini_bert.probing.base._UPDATES", 2)
    assert not fit_linear_probe(made(100), [10.0]).converged


@pytest.mark.parametrize(
    ("items", "strengths", "message"),
    [
        (Items(np.ones((3, 2)), np.array([1, 1, 1])), [1.0], "1 class in 3 items"),
        (Items(np.ones((3, 2)), np.array([1, 2])), [1.0], r"\[3, 2\] and labels \[2\]"),
        (made(9), [], "positive numbers"),
        (made(9), [1.0, 2.0], "`dev` to choose by"),
        (made(9), [0.0], "positive numbers"),
    ],
)
def test_what_cannot_be_fitted_is_refused(items: Items, strengths: list[float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_linear_probe(items, strengths)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match="probes"):
        fit_linear_probe(made(9), [1.0])


def test_nan_is_refused() -> None:
    items = made(9)
    items.features[3, 2] = np.nan
    with pytest.raises(NonFiniteError, match="features"):
        fit_linear_probe(items, [1.0])


def test_accuracy_is_clustered_by_sentence_whatever_the_numbers_of_sentences() -> None:
    hits = np.array([1, 1, 0, 0, 0, 1, 1, 1, 0], bool)
    sentences = np.array([7, 7, 7, 2, 2, 40, 40, 40, 41])
    assert score(hits, sentences) == {
        "accuracy": 5 / 9,
        "interval": list(clustered_wilson_interval([2, 0, 3, 0], [3, 2, 3, 1])),
        "n": 9,
    }
    assert score(hits[:0], sentences[:0]) == {"accuracy": None, "interval": None, "n": 0}
    found = difference(hits, ~hits, sentences)
    assert found["difference"] == pytest.approx(1 / 9)
    assert found["interval"][0] < 1 / 9 < found["interval"][1]
    assert difference(hits[:3], hits[:3], sentences[:3])["interval"] == [None, None]
    with pytest.raises(InvalidInputError, match=r"\[4\] and clusters \[9\]"):
        score(hits[:4], sentences)


def test_the_control_task_knows_types_and_frequencies_alone() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    label = control_labels(labels, seed=3)
    types = [f"word{i}" for i in range(4000)]
    drawn = label(types)
    assert np.array_equal(label(types[::-1])[::-1], drawn)
    assert np.array_equal(control_labels(labels, seed=3)(types), drawn)
    assert not np.array_equal(control_labels(labels, seed=4)(types), drawn)
    counts = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.6, 0.3, 0.1], atol=4 * np.sqrt(0.25 / 4000))


def test_majority_by_a_loop() -> None:
    words = [f"w{i}" for i in RNG.integers(0, 30, 400)]
    labels = RNG.integers(0, 5, 400)
    found = majority_labels(words, labels)
    for word in set(words):
        counts = Counter(label for w, label in zip(words, labels.tolist(), strict=True) if w == word)
        most = max(counts.values())
        assert found.by_word[word] == min(label for label, n in counts.items() if n == most)
    assert found.predict(["w3", "never seen"]).tolist() == [found.by_word["w3"], found.of_all]
    with pytest.raises(InvalidInputError, match="one label a word"):
        majority_labels([], labels[:0])
