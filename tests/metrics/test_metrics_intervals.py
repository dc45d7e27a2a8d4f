"""Intervals: worked examples, SciPy, a bootstrap, and their coverage of a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.clustered_means import clustered_difference, clustered_mean, sums_by_cluster
from mini_bert.metrics.interval import OF_A_DIFFERENCE_OF_SHARES, OF_A_LOSS, UNKNOWN, Interval, normal_quantile
from mini_bert.metrics.proportions import clustered_wilson_interval, wilson_interval


def test_quantile():
    assert normal_quantile(0.95) == pytest.approx(1.959963984540054, rel=1e-12)
    for bad in (0, 1, -1, 95, math.nan):
        with pytest.raises(InvalidInputError, match="confidence"):
            normal_quantile(bad)


def test_wilson_of_newcombe_1998():
    """Newcombe 1998, Stat. Med. 17, 857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (hits, n), ends in published.items():
        assert wilson_interval(hits, n) == pytest.approx(ends, abs=5e-5)


def test_wilson_ends_solve_the_score_equation():
    """Each end is the p at which the observed share is exactly z standard errors away."""
    z, n, hits = normal_quantile(0.9), 40, 31
    for p in wilson_interval(hits, n, 0.9):
        assert abs(hits / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), rel=1e-12)


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_stays_inside(n, share, confidence):
    hits = round(share * n)
    low, high = wilson_interval(hits, n, confidence)
    assert 0 <= low <= hits / n <= high <= 1
    mirrored = wilson_interval(n - hits, n, confidence)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.reference
@pytest.mark.parametrize(("hits", "n", "confidence"), [(0, 5, 0.95), (3, 7, 0.95), (500, 9000, 0.99), (7, 7, 0.9)])
def test_wilson_is_scipys(hits, n, confidence):
    from scipy.stats import binomtest

    theirs = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(hits, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 4), (5, 4), (math.nan, 4), (1, math.nan)])
def test_wilson_refuses(hits, n):
    with pytest.raises(InvalidInputError):
        wilson_interval(hits, n)


def test_rows_of_one_token_give_the_textbook_standard_error():
    x = np.array([1.0, 2.0, 4.0, 9.0])
    mean, error, interval, tokens, rows = clustered_mean(x, np.ones(4))
    assert (mean, tokens, rows) == (4.0, 4, 4)
    assert error == pytest.approx(x.std(ddof=1) / 2, rel=1e-12)
    t = 3.182446305284263  # Student's, 3 degrees of freedom, out of a table
    assert interval == pytest.approx((4 - t * error, 4 + t * error), rel=1e-12)


def test_clustered_mean_by_hand():
    """Rows (sum 6 of 3 tokens) and (sum 2 of 1): mean 2, residuals 0 and 0. With 8 of 3: mean 2.5, residuals ±0.5."""
    assert clustered_mean([6, 2], [3, 1])[:2] == (2.0, 0.0)
    mean, error, *_ = clustered_mean([8, 2], [3, 1])
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(2 * (0.25 + 0.25)) / 4, rel=1e-12)


def test_rows_without_tokens_count_not():
    assert clustered_mean([6, 0, 3], [3, 0, 1]) == clustered_mean([6, 3], [3, 1])


def test_one_row_says_nothing_about_spread():
    result = clustered_mean([6], [3])
    assert result.mean == 2
    assert result.standard_error == math.inf
    assert result.interval == UNKNOWN


def test_an_interval_ends_where_no_value_can_be():
    """Two rows, all right and all wrong: 0.5 ± 12.7 · 0.5 without bounds."""
    assert clustered_mean([4, 0], [4, 4]).interval == pytest.approx((0.5 - 6.353102, 0.5 + 6.353102), rel=1e-6)
    assert clustered_mean([4, 0], [4, 4], bounds=Interval(0, 1)).interval == (0, 1)
    low, high = clustered_mean([4, 0], [4, 4], bounds=OF_A_LOSS).interval
    assert (low, high) == (0, pytest.approx(6.853102, rel=1e-6))
    difference = clustered_difference([4, 4], [4, 0], [4, 4], bounds=OF_A_DIFFERENCE_OF_SHARES)
    assert (difference.mean, difference.interval) == (0.5, (-1, 1))


def _correlated_rows(rng, rows=400):
    sizes = rng.integers(1, 15, rows)
    level = rng.normal(4, 1.5, rows)
    return np.array([rng.normal(m, 1, n).sum() for m, n in zip(level, sizes, strict=True)]), sizes


def test_clustered_mean_agrees_with_a_bootstrap_over_rows():
    rng = np.random.default_rng(5)
    sums, sizes = _correlated_rows(rng)
    drawn = rng.integers(0, len(sums), (20_000, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    result = clustered_mean(sums, sizes)
    assert result.standard_error == pytest.approx(means.std(), rel=0.03)
    assert result.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(6)
    held = sum(
        r.interval.low <= 4 <= r.interval.high for r in (clustered_mean(*_correlated_rows(rng)) for _ in range(400))
    )
    assert 0.92 <= held / 400 <= 0.98


def test_a_few_rows_are_known_to_be_few():
    """Six relations of a hundred facts, of hits that vary as Beta(2, 2): 90 of 100 normal intervals would hold."""
    rng = np.random.default_rng(8)
    shares = rng.beta(2, 2, (2000, 6))
    hits, sizes = rng.binomial(100, shares), np.full(6, 100)
    found = [clustered_wilson_interval(h, sizes) for h in hits]
    held = np.mean([low <= 0.5 <= high for low, high in found])
    assert 0.935 <= held <= 0.97


def test_paired_difference_is_narrower_than_the_parts():
    sums, sizes = _correlated_rows(np.random.default_rng(7))
    other = sums - 0.3 * sizes
    result = clustered_difference(sums, other, sizes)
    assert result.mean == pytest.approx(0.3, rel=1e-12)
    assert result.standard_error < 1e-12
    with pytest.raises(InvalidInputError, match="other_sums"):
        clustered_difference(sums, other[:-1], sizes)


@pytest.mark.parametrize(("sums", "sizes"), [([1, 2], [1]), ([[1.0]], [[1]]), ([1], [-1]), ([], []), ([0], [0])])
def test_clustered_mean_refuses(sums, sizes):
    with pytest.raises(InvalidInputError):
        clustered_mean(sums, sizes)


def test_sums_by_cluster_whatever_clusters_are_called():
    hits = [True, False, True, True, False]
    for clusters in ([7, 2, 7, 40, 2], ["b", "a", "b", "c", "a"]):
        sums, sizes = sums_by_cluster(hits, clusters)
        assert (sums.tolist(), sizes.tolist()) == ([0, 2, 1], [2, 2, 1])
    assert [part.tolist() for part in sums_by_cluster([], [])] == [[], []]
    for values, clusters in (([1, 2], [1]), ([[1.0]], [[1]])):
        with pytest.raises(InvalidInputError, match="clusters"):
            sums_by_cluster(values, clusters)


def test_clustered_wilson_of_independent_tokens_is_wilsons():
    """Rows of one token: the variance between rows is p (1 − p) n / (n − 1), so the ends nearly agree."""
    hits = np.repeat([1, 0], [300, 700])
    clustered, plain = clustered_wilson_interval(hits, np.ones(1000)), wilson_interval(300, 1000)
    assert clustered == pytest.approx(plain, abs=1e-4)


def test_clustered_wilson_of_copied_tokens_sees_the_copies():
    """Rows of ten equal tokens hold one trial each."""
    hits = np.repeat([10, 0], [30, 70])
    assert clustered_wilson_interval(hits, np.full(100, 10)) == pytest.approx(wilson_interval(30, 100), abs=2e-3)


def test_clustered_wilson_at_the_edges():
    assert clustered_wilson_interval([0, 0], [5, 5]) == wilson_interval(0, 2)
    assert clustered_wilson_interval([5, 5, 9], [5, 5, 9]) == wilson_interval(3, 3)
    assert clustered_wilson_interval([3], [4]) == wilson_interval(0.75, 1)
    with pytest.raises(InvalidInputError, match="hits"):
        clustered_wilson_interval([3, 6], [4, 5])
