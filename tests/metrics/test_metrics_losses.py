"""Cross-entropy, perplexity and ranks against numbers worked out in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.metrics.cross_entropy import token_losses
from mini_bert.metrics.perplexity import perplexity
from mini_bert.metrics.top_k import target_ranks, top_k_hits


def test_losses_by_hand():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    np.testing.assert_allclose(token_losses(logits, np.array([0, 2])), [math.log(2), -math.log(0.8)], rtol=1e-14)


def test_losses_are_those_of_exact_sums():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(scale=4, size=(300, 50)), rng.integers(0, 50, 300)
    exact = [math.log(math.fsum(map(math.exp, row))) - row[t] for row, t in zip(logits, targets, strict=True)]
    np.testing.assert_allclose(token_losses(logits, targets), exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_losses_ignore_a_shift_and_never_overflow(shift):
    logits = np.array([[0.0, 1.0, -3000.0]]) + shift
    np.testing.assert_allclose(token_losses(logits, np.array([2])), [3001 + math.log1p(math.exp(-1))], rtol=1e-12)


def test_float32_logits_are_summed_in_float64():
    logits = np.zeros((1, 8192), np.float32)
    assert token_losses(logits, np.array([5]))[0] == pytest.approx(math.log(8192), rel=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_losses_refuse_what_is_not_finite(bad):
    with pytest.raises(NonFiniteError, match="row 1"):
        token_losses(np.array([[0.0, 1.0], [bad, 0.0]]), np.array([0, 1]))


@pytest.mark.parametrize("targets", [[2], [-1], [0, 1], [0.5]])
def test_losses_refuse_bad_targets(targets):
    with pytest.raises(InvalidInputError, match="targets"):
        token_losses(np.zeros((1, 2)), np.array(targets))


@pytest.mark.parametrize("logits", [np.zeros(3), np.zeros((1, 3), int), np.zeros((1, 0))])
def test_losses_refuse_bad_logits(logits):
    with pytest.raises(InvalidInputError, match="logits"):
        token_losses(logits, np.array([0]))


def test_perplexity():
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(24)) == pytest.approx(24, rel=1e-15)
    assert perplexity(710.0) == math.inf
    assert perplexity(math.inf) == math.inf
    assert perplexity(-math.inf) == 0.0
    with pytest.raises(InvalidInputError, match="loss"):
        perplexity(math.nan)


def test_ranks_by_hand():
    scores = np.array([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [1.0, 1.0, 1.0]])
    ranks = target_ranks(scores, np.array([1, 0, 1, 2]))
    assert ranks.tolist() == [1, 3, 2, 3]
    assert top_k_hits(ranks, 1).tolist() == [True, False, False, False]
    assert top_k_hits(ranks, 2).tolist() == [True, False, True, False]
    with pytest.raises(InvalidInputError, match="k: got 0"):
        top_k_hits(ranks, 0)


def test_equal_scores_are_right_about_nothing():
    assert not top_k_hits(target_ranks(np.zeros((4, 9)), np.arange(4)), 5).any()


def test_ranks_refuse_nan():
    with pytest.raises(NonFiniteError, match="NaN"):
        target_ranks(np.array([[0.0, np.nan]]), np.array([0]))


@given(hnp.arrays(np.float64, (3, 7), elements=st.integers(-3, 3).map(float)), st.integers(0, 6))
def test_rank_is_the_place_in_a_sorted_list(scores, target):
    for row, rank in zip(scores, target_ranks(scores, np.full(3, target)), strict=True):
        others = sorted((s for i, s in enumerate(row) if i != target), reverse=True)
        assert rank == 1 + sum(s >= row[target] for s in others)
