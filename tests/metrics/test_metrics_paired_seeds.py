"""Student's t by hand, by tables and by scipy; paired differences and randomised blocks by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import share_within, t_quantile
from mini_bert.metrics.paired_seeds import paired_mean, reach_of_blocks


def test_a_hand_computation():
    mean, (low, high), seeds = paired_mean([4.10, 4.30, 4.20], [4.20, 4.35, 4.35])
    assert (round(mean, 12), seeds) == (-0.1, 3)
    # differences −0.10, −0.05, −0.15: standard deviation 0.05, its error 0.05 / √3, t(2) = 4.302653
    assert high - mean == pytest.approx(4.30265272974946 * 0.05 / math.sqrt(3), rel=1e-12)
    assert mean - low == pytest.approx(high - mean)


def test_one_seed_says_nothing_of_the_spread():
    mean, (low, high), seeds = paired_mean([1.0], [1.5])
    assert (mean, low, high, seeds) == (-0.5, -math.inf, math.inf, 1)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_one_and_two_degrees_in_closed_form(confidence):
    assert t_quantile(1, confidence) == pytest.approx(math.tan(math.pi * confidence / 2), rel=1e-12)
    closed = math.sqrt(2 * confidence**2 / (1 - confidence**2))
    assert t_quantile(2, confidence) == pytest.approx(closed, rel=1e-12)


def test_many_degrees_are_the_normal_distribution():
    assert t_quantile(10_000) == pytest.approx(1.9602012, abs=1e-6)
    assert t_quantile(1_000_000) == pytest.approx(1.9599664, abs=3e-6)
    assert share_within(1.0, 9_999) == pytest.approx(math.erf(math.sqrt(0.5)), abs=1e-4)


def test_blocks_by_loops():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 3)) + np.arange(4)[:, None] * 10 + np.arange(3) * 100
    squares = 0.0
    for p in range(4):
        for s in range(3):
            row, column = sum(x[p]) / 3, sum(x[:, s]) / 4
            squares += (x[p, s] - row - column + sum(map(sum, x)) / 12) ** 2
    expected = t_quantile(6) * math.sqrt(squares / 6) * math.sqrt(2 / 3)
    assert reach_of_blocks(x) == pytest.approx(expected, rel=1e-12)


def test_two_ways_in_blocks_are_a_paired_test():
    x = np.random.default_rng(4).normal(size=(2, 5))
    _, (low, high), _ = paired_mean(x[0], x[1])
    assert (high - low) / 2 == pytest.approx(reach_of_blocks(x), rel=1e-12)


@pytest.mark.slow
def test_blocks_hold_what_they_promise():
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(4000):
        x = rng.normal(size=(6, 2)) + rng.normal(size=2)
        inside += abs(float(x[1].mean() - x[0].mean())) <= reach_of_blocks(x)
    assert 0.935 < inside / 4000 < 0.965


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_mean([], []),
        lambda: paired_mean([1.0], [1.0, 2.0]),
        lambda: paired_mean([math.nan], [1.0]),
        lambda: reach_of_blocks([[1.0, 2.0]]),
        lambda: reach_of_blocks([[1.0], [2.0]]),
        lambda: t_quantile(0),
        lambda: t_quantile(3, 1.0),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()


@pytest.mark.reference
def test_against_scipy():
    from scipy import stats

    for degrees in [1, 2, 3, 4, 5, 9, 23, 46, 100, 501]:
        for confidence in (0.5, 0.9, 0.95, 0.99):
            assert t_quantile(degrees, confidence) == pytest.approx(
                stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9
            )
    rng = np.random.default_rng(6)
    for n in (2, 3, 8):
        one, other = rng.normal(size=n), rng.normal(size=n)
        interval = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert paired_mean(one, other).interval == pytest.approx((interval.low, interval.high), rel=1e-9)
