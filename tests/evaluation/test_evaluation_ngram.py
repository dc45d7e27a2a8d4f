"""The baselines against counts and formulas done by loops."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation import ngram_counts
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.evaluation.ngram_baselines import (
    AndShown,
    Bigram,
    Neighbours,
    Unigram,
    Weights,
    choose_weights,
    fit_baselines,
)
from mini_bert.evaluation.ngram_counts import count_ngrams

V, MASK = 12, 4
DOCUMENTS = [[5, 6, 7, 5, 6, 8], [6, 5], [9], [], [5, 6, 6, 6, 7]]
WEIGHTS = Weights(theta_left=1.5, theta_right=0.5, gamma=0.8)
ROW = [2, 5, MASK, 7, MASK, MASK, 8, 6, 10, 3]
BATCH = Batch(
    np.array([ROW]), masked_positions=np.array([0, 2, 4, 5, 7, 8, 9]), target_ids=np.array([5, 6, 6, 7, 5, 6, 6])
)


def counts_of(documents=DOCUMENTS, vocab_size=V):
    return count_ngrams([np.array(d, np.uint16) for d in documents], vocab_size).counts


def slow_unigram(documents=DOCUMENTS):
    c = Counter(w for d in documents for w in d)
    return [(c[w] + 1) / (c.total() + V) for w in range(V)]


def slow_bigram(context, theta, side):
    """p(w | context) by loops over the pairs of the text; `side` −1: the context stands to the left."""
    p = slow_unigram()
    pairs = [(d[i], d[i + 1])[::-side] for d in DOCUMENTS for i in range(len(d) - 1)]
    after = Counter(w for c, w in pairs if c == context)
    if not after:
        return p
    prior = theta * len(after)
    return [(after[w] + prior * p[w]) / (after.total() + prior) for w in range(V)]


def slow_neighbours(left, right):
    p, l, r = slow_unigram(), slow_bigram(left, 1.5, -1), slow_bigram(right, 0.5, +1)
    raw = [p[w] * (l[w] / p[w]) ** 0.8 * (r[w] / p[w]) ** 0.8 for w in range(V)]
    return [x / sum(raw) for x in raw]


def beside(position, side):
    place = position + side
    return ROW[place] if 0 <= place < len(ROW) else -1


def test_unigram():
    expected = np.log([slow_unigram()] * 7)
    np.testing.assert_allclose(Unigram(counts_of()).mlm_logits(BATCH), expected, rtol=1e-12)


def test_bigram_reads_the_corrupted_left_neighbour():
    expected = np.log([slow_bigram(beside(t, -1), 1.5, -1) for t in BATCH.masked_positions])
    log_p = Bigram(counts_of(), WEIGHTS).mlm_logits(BATCH)
    np.testing.assert_allclose(log_p, expected, rtol=1e-12)
    unigram = np.log(slow_unigram())
    np.testing.assert_allclose(log_p[0], unigram, rtol=1e-12, err_msg="nothing to the left")
    np.testing.assert_allclose(log_p[3], unigram, rtol=1e-12, err_msg="[MASK] to the left")
    assert abs(log_p[1] - unigram).max() > 0.5


def test_neighbours():
    expected = np.log([slow_neighbours(beside(t, -1), beside(t, +1)) for t in BATCH.masked_positions])
    np.testing.assert_allclose(Neighbours(counts_of(), WEIGHTS).mlm_logits(BATCH), expected, rtol=1e-11)


def test_shown_piece_is_bayes_rule():
    """P(answer w, shown x) from the masking's own definition: 80 % hidden, 10 % kept, 10 % one of 7 others."""
    baseline = AndShown(Unigram(counts_of()), mask_id=MASK, kept_share=0.1, random_share=0.1, n_random=7)
    log_p = baseline.mlm_logits(BATCH)
    p = slow_unigram()
    for row, t in zip(log_p, BATCH.masked_positions, strict=True):
        x = ROW[t]
        if x == MASK:
            expected = p
        else:
            joint = [p[w] * (0.1 * (w == x) + 0.1 / 7) for w in range(V)]
            expected = [j / sum(joint) for j in joint]
        np.testing.assert_allclose(row, np.log(expected), rtol=1e-12)


def test_shown_piece_without_random_ones_is_the_answer():
    baseline = AndShown(Unigram(counts_of()), mask_id=MASK, kept_share=0.2, random_share=0.0, n_random=7)
    assert np.exp(baseline.mlm_logits(BATCH)[4])[ROW[7]] == 1


ids = hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, V - 1))


@settings(max_examples=60)
@given(
    st.lists(ids, min_size=1, max_size=6).filter(lambda ds: any(d.size for d in ds)),
    hnp.arrays(np.int64, (2, 5), elements=st.integers(0, V - 1)),
    st.floats(0.1, 20),
    st.floats(0, 1.2),
)
def test_every_baseline_is_a_distribution(documents, rows, theta, gamma):
    counts = count_ngrams(documents, V).counts
    weights = Weights(theta, theta, gamma)
    batch = Batch(rows, masked_positions=np.arange(10), target_ids=rows.reshape(-1))
    neighbours = Neighbours(counts, weights)
    shown = AndShown(neighbours, mask_id=MASK, kept_share=0.1, random_share=0.1, n_random=V - 5)
    for baseline in (Unigram(counts), Bigram(counts, weights), neighbours, shown):
        p = np.exp(baseline.mlm_logits(batch))
        assert p.shape == (10, V)
        assert (p > 0).all()
        np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)


@settings(max_examples=60)
@given(st.lists(ids, min_size=1, max_size=50).filter(lambda ds: any(d.size for d in ds)), st.integers(1, 6))
def test_counts_do_not_depend_on_how_the_text_is_cut(documents, section):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_counts, "_SECTION", section)
        patch.setattr(ngram_counts, "_TOKENS_AT_ONCE", 2 * section)
        fit = count_ngrams(iter(documents), V)
    pairs = Counter((int(a), int(b)) for d in documents for a, b in pairwise(d))
    unigrams = Counter(int(w) for d in documents for w in d)
    assert fit.counts.unigrams.tolist() == [unigrams[w] for w in range(V)]
    everything = np.arange(V)
    np.testing.assert_array_equal(
        fit.counts.after.rows(everything), [[pairs[a, b] for b in range(V)] for a in range(V)]
    )
    np.testing.assert_array_equal(
        fit.counts.before.rows(everything), [[pairs[a, b] for a in range(V)] for b in range(V)]
    )
    contexts, pieces = np.divmod(np.arange(V * V), V)
    assert fit.counts.after.at(contexts, pieces).tolist() == [pairs[a, b] for a in range(V) for b in range(V)]
    assert fit.counts.after.totals.tolist() == [sum(pairs[a, b] for b in range(V)) for a in range(V)]
    kept = Counter((int(a), int(b)) for s in fit.sections for a, b in pairwise(s))
    rest = fit.without_slice.after.rows(everything)
    np.testing.assert_array_equal(rest, [[pairs[a, b] - kept[a, b] for b in range(V)] for a in range(V)])


def markov_text(rng, documents, length=3000):
    """Text in which the left neighbour says much: piece w is followed by 5 + (3 w mod 7) in three of four cases."""
    for _ in range(documents):
        text = [5]
        for draw, other in zip(rng.random(length), rng.integers(5, V, length), strict=True):
            text.append(5 + 3 * text[-1] % 7 if draw < 0.75 else int(other))
        yield np.array(text, np.uint16)


def test_on_text_of_known_entropy():
    """The bigram reaches the entropy of the source; more context never hurts; weights were chosen on the slice."""
    rng = np.random.default_rng(0)
    baselines = fit_baselines(markov_text(rng, 40), V, mask_id=MASK)
    assert baselines.weights.tuned_on == 2 * 3001
    (text,) = markov_text(rng, 1, 9999)
    rows = text.reshape(100, 100).astype(np.int32)
    positions = np.sort(rng.permutation(10_000)[:1500])
    targets = rows.reshape(-1)[positions].copy()
    rows.reshape(-1)[positions] = MASK
    left_seen = (positions % 100 > 0) & ~np.isin(positions - 1, positions)
    batch = Batch(rows, masked_positions=positions[left_seen], target_ids=targets[left_seen])
    unigram, bigram, both = (evaluate_masked_lm(b, [batch]) for b in baselines[:3])
    entropy = -(0.75 + 0.25 / 7) * np.log(0.75 + 0.25 / 7) - 6 * 0.25 / 7 * np.log(0.25 / 7)
    assert bigram.loss_interval.low < entropy < bigram.loss_interval.high
    assert unigram.loss == pytest.approx(np.log(7), abs=0.02)
    assert both.loss < bigram.loss - 0.2
    assert bigram.top1 == pytest.approx(0.75 + 0.25 / 7, abs=0.04)


def test_weights_of_a_short_text_are_the_defaults():
    assert choose_weights(count_ngrams([np.array([5, 6, 7])], V)) == Weights()


def test_weights_are_the_best_of_their_grids_on_the_slice():
    """Losses on the slice recomputed with the baselines themselves."""
    from mini_bert.evaluation.ngram_baselines import _GAMMAS, _THETAS

    fit = count_ngrams(markov_text(np.random.default_rng(1), 20, 400), V)
    chosen = choose_weights(fit)
    (slice_,) = fit.sections
    middle = Batch(slice_[None], masked_positions=np.arange(1, len(slice_) - 1), target_ids=slice_[1:-1])

    def loss(baseline, batch=middle):
        return evaluate_masked_lm(baseline, [batch]).loss

    right_of_left = middle._replace(masked_positions=np.arange(1, len(slice_)), target_ids=slice_[1:])
    thetas = {t: loss(Bigram(fit.without_slice, Weights(t)), right_of_left) for t in _THETAS}
    assert chosen.theta_left == min(thetas, key=thetas.get)
    # Read from right to left, the text's pairs are those of the reversed text.
    reversed_text = [d[::-1] for d in markov_text(np.random.default_rng(1), 20, 400)]
    assert chosen.theta_right == choose_weights(count_ngrams(reversed_text, V)).theta_left
    gammas = {g: loss(Neighbours(fit.without_slice, chosen._replace(gamma=g))) for g in _GAMMAS}
    assert chosen.gamma == min(gammas, key=gammas.get)


@pytest.mark.parametrize(
    ("documents", "vocab_size", "named"),
    [
        ([[5, 12]], 12, "documents"),
        ([[-1]], 12, "documents"),
        ([[[5]]], 12, "documents"),
        ([[0.5]], 12, "documents"),
        ([[], []], 12, "no token"),
        ([], 12, "no token"),
        ([[1]], 1 << 17, "vocab_size"),
    ],
)
def test_refusals(documents, vocab_size, named):
    with pytest.raises(InvalidInputError, match=named):
        count_ngrams([np.array(d) for d in documents], vocab_size)


def test_a_batch_without_masks_is_refused():
    with pytest.raises(InvalidInputError, match="masked_positions"):
        Unigram(counts_of()).mlm_logits(Batch(np.array([ROW])))
