"""Correlations: against scipy, against ranks by a loop, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.correlations import mean_ranks, pearson, spearman


def _ranks_by_definition(values: np.ndarray) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


@pytest.mark.parametrize("seed", range(4))
def test_ties_share_the_mean_of_their_ranks(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 6, 30)
    np.testing.assert_array_equal(mean_ranks(values), _ranks_by_definition(values))


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(seed)
    x = rng.integers(0, 8, 60).astype(float)
    y = x + rng.normal(0, 3, 60)
    assert pearson(x, y).value == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert pearson(x, y).interval == pytest.approx(tuple(stats.pearsonr(x, y).confidence_interval()), abs=1e-10)
    assert spearman(x, np.round(y)).value == pytest.approx(stats.spearmanr(x, np.round(y)).statistic, abs=1e-12)
    np.testing.assert_array_equal(mean_ranks(x), stats.rankdata(x))


def test_the_interval_by_hand() -> None:
    """r = 0.5 of 28 pairs: artanh 0.5 ± 1.96 / 5."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 28))
    noise -= noise.mean() + (x - x.mean()) * ((noise - noise.mean()) @ (x - x.mean())) / ((x - x.mean()) ** 2).sum()
    y = (x - x.mean()) / np.linalg.norm(x - x.mean()) + np.sqrt(3) * noise / np.linalg.norm(noise)
    found = pearson(x, y)
    assert found.value == pytest.approx(0.5, abs=1e-12)
    assert found.interval == pytest.approx((0.1560, 0.7358), abs=1e-4)


@pytest.mark.parametrize("score", [pearson, spearman])
def test_the_interval_holds_the_truth_95_times_in_100(score) -> None:
    rng = np.random.default_rng(3)
    truth = 0.6 if score is pearson else 6 / np.pi * np.arcsin(0.3)
    held = 0
    for _ in range(1000):
        x, noise = rng.normal(size=(2, 50))
        low, high = score(x, 0.6 * x + 0.8 * noise).interval
        held += low <= truth <= high
    assert 930 <= held <= 970


def test_a_constant_says_nothing() -> None:
    for score in (pearson, spearman):
        assert score([1, 2, 3, 4, 5], [0.1] * 5) == (0.0, (-1.0, 1.0), 5)
        assert score([1, 2], [1, 2]).interval == (-1.0, 1.0)


def test_scale_and_size_change_nothing() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    for scale in (1e-200, 1e200, 1e307):
        assert pearson(scale * x, y).value == pytest.approx(pearson(x, y).value)
    assert pearson(x, -x).value == -1.0
    assert spearman(x, x**3).value == 1.0


def test_what_cannot_be_correlated_is_refused() -> None:
    for x, y in (([1], [1]), ([1, 2], [1, 2, 3]), ([1, float("nan")], [1, 2]), ([[1, 2]], [[1, 2]])):
        for score in (pearson, spearman):
            with pytest.raises(InvalidInputError):
                score(x, y)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_few_pairs_in_perfect_order_prove_little(sign: int) -> None:
    x = np.arange(4.0)
    found = spearman(x, sign * x)
    assert found.value == sign
    low, high = sorted(sign * end for end in found.interval)
    # two neighbours out of place: r_s = 0.8, artanh 0.8 = 1.0986, reach 1.96 · √1.5 with r_s² = 1
    assert (low, high) == (pytest.approx(math.tanh(1.0986123 - 1.959964 * math.sqrt(1.5)), abs=1e-6), 1.0)
    many = spearman(np.arange(1000.0), sign * np.arange(1000.0)).interval
    assert max(many) - min(many) < 1e-6
