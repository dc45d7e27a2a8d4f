"""How far does one get by counting neighbours? The yardsticks that a masked language model has to beat.

    unigram     p(w)        = (c(w) + α) / (N + α V)                                            (NG.1)
    bigram      p(w | l)    = (c(l w) + θ k(l) p(w)) / (c(l) + θ k(l))                          (NG.2)
    neighbours  p(w | l, r) ∝ p(w) (p(w | l) / p(w))^γ (p(w | r) / p(w))^γ                      (NG.3)
    and shown   p(w | l, r, x) ∝ p(w | l, r) (kept [w = x] + random / V')                       (NG.4)

c counts the training text, k(l) is the number of different pieces seen after l, N the number of tokens; p(w | r) is
(NG.2) read from right to left. (NG.2) interpolates with weight c(l) / (c(l) + θ k(l)) (Witten and Bell 1991, IEEE
Trans. Inf. Theory 37, method C, with a factor θ): the more often l was seen, and the fewer pieces follow it, the more
the pair is trusted. (NG.3) is a log-linear interpolation (Klakow 1998, ICSLP): γ = 1 takes the neighbours as
independent given w, γ = 1/2 is the geometric mean. θ and γ are chosen on a slice of the training text.

A baseline sees the corrupted row that the model sees. [MASK], [CLS], [SEP] and padding were never counted, so beside
them the bigram is the unigram. (NG.4) reads also what stands at the position itself: [MASK] says nothing, another piece
x is either the answer, left unchanged, or a random one; Bayes' rule with the shares of the masking. A model learns that
within minutes, and it is worth about half a nat: what attention has learned is the distance to this last one.

A further baseline is a class with `mlm_logits(batch)`, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.ngram_counts import Fit, Ids, NgramCounts, PairCounts, count_ngrams

Floats = NDArray[np.float64]

ALPHA = 1.0
_THETAS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
_GAMMAS = tuple(i / 20 for i in range(4, 23))
_GAMMA_POSITIONS = 1500


class Weights(NamedTuple):
    """What was chosen on the slice; the defaults stand where the text is too short to have one (45,000 tokens)."""

    theta_left: float = 2.0
    theta_right: float = 2.0
    gamma: float = 0.8
    tuned_on: int = 0
    """Tokens of the slice."""


class Baseline(Protocol):
    """A scorer that knows its probabilities: `mlm_logits` returns log p, float64 [M, V]."""

    def mlm_logits(self, batch: Batch) -> Floats:
        """Log-probabilities [M, V] of every piece at `batch.masked_positions`."""
        ...


class Unigram:
    """(NG.1): how often a piece occurs."""

    def __init__(self, counts: NgramCounts) -> None:
        self._log_p = np.log(_unigram(counts))

    def mlm_logits(self, batch: Batch) -> Floats:
        """The same row at every position."""
        M = len(_positions(batch))
        return np.repeat(self._log_p[None], M, axis=0)


class Bigram:
    """(NG.2): the piece given its left neighbour."""

    def __init__(self, counts: NgramCounts, weights: Weights) -> None:
        self._p = _unigram(counts)
        self._counts, self._weights = counts, weights

    def mlm_logits(self, batch: Batch) -> Floats:
        """log p(w | left neighbour)."""
        return np.log(_conditional(self._counts.after, _neighbour(batch, -1), self._p, self._weights.theta_left))


class Neighbours:
    """(NG.3): the piece given its left and its right neighbour."""

    def __init__(self, counts: NgramCounts, weights: Weights) -> None:
        self._p = _unigram(counts)
        self._counts, self._weights = counts, weights

    def mlm_logits(self, batch: Batch) -> Floats:
        """log p(w | left neighbour, right neighbour)."""
        return self.log_p(_neighbour(batch, -1), _neighbour(batch, +1))

    def log_p(self, left: Ids, right: Ids) -> Floats:
        """log p(w | l, r), [M, V], for neighbours [M]; −1 where there is none."""
        gains = _log_gains(self._counts, self._weights, self._p, left, right)
        return _normalised(np.log(self._p) + self._weights.gamma * gains)


class AndShown:
    """(NG.4): another baseline, told what stands at the masked position."""

    def __init__(
        self, baseline: Baseline, *, mask_id: int, kept_share: float, random_share: float, n_random: int
    ) -> None:
        self._baseline, self._mask_id = baseline, mask_id
        with np.errstate(divide="ignore"):
            self._log_other = np.log(np.float64(random_share / n_random))
            self._log_same = np.log(np.float64(kept_share + random_share / n_random))

    def mlm_logits(self, batch: Batch) -> Floats:
        """log p(w | what the baseline sees, the piece shown)."""
        log_p = self._baseline.mlm_logits(batch)
        x = _flat_ids(batch)[_positions(batch)]
        seen = np.flatnonzero(x != self._mask_id)
        if seen.size:
            posterior = log_p[seen] + self._log_other
            posterior[np.arange(len(seen)), x[seen]] = log_p[seen, x[seen]] + self._log_same
            log_p[seen] = _normalised(posterior)
        return log_p


class Baselines(NamedTuple):
    """All of them, fitted."""

    unigram: Unigram
    bigram: Bigram
    neighbours: Neighbours
    neighbours_and_shown: AndShown
    weights: Weights
    n_tokens: int
    """Tokens of training text counted."""


def fit_baselines(
    documents: Iterable[NDArray[np.integer]],
    vocab_size: int,
    *,
    mask_id: int,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    n_special: int = 5,
) -> Baselines:
    """Fit every baseline on the training text: vectors of ids [n] in which neighbours are neighbours in the text.

    `mask_share` and `random_share` are those of the held-out masks, `n_special` the pieces that never replace one.
    One pass; 20 million tokens take seconds.

    Raises:
        InvalidInputError: as `count_ngrams`.
    """
    fit = count_ngrams(documents, vocab_size)
    weights = choose_weights(fit)
    neighbours = Neighbours(fit.counts, weights)
    shown = AndShown(
        neighbours,
        mask_id=mask_id,
        kept_share=1 - mask_share - random_share,
        random_share=random_share,
        n_random=vocab_size - n_special,
    )
    return Baselines(Unigram(fit.counts), Bigram(fit.counts, weights), neighbours, shown, weights, fit.counts.tokens)


def choose_weights(fit: Fit) -> Weights:
    """The θ and γ under which the slice is most likely, given the counts of the rest."""
    counts = fit.without_slice
    sections = [s for s in fit.sections if len(s) > 2]
    if not sections or not counts.tokens:
        return Weights()
    p = _unigram(counts)
    left, right = (np.concatenate(part) for part in zip(*((s[:-1], s[1:]) for s in sections), strict=True))
    theta_left = min(_THETAS, key=lambda theta: _pair_loss(counts.after, left, right, p, theta))
    theta_right = min(_THETAS, key=lambda theta: _pair_loss(counts.before, right, left, p, theta))
    weights = Weights(theta_left, theta_right, tuned_on=sum(map(len, sections)))

    l, w, r = (np.concatenate(part) for part in zip(*((s[:-2], s[1:-1], s[2:]) for s in sections), strict=True))
    some = np.linspace(0, len(w) - 1, min(_GAMMA_POSITIONS, len(w))).astype(np.int64)
    losses = np.zeros(len(_GAMMAS))
    for part in np.array_split(some, -(-len(some) // 256)):
        gains = _log_gains(counts, weights, p, l[part], r[part])
        for i, gamma in enumerate(_GAMMAS):
            losses[i] -= _normalised(np.log(p) + gamma * gains)[np.arange(len(part)), w[part]].sum()
    return weights._replace(gamma=_GAMMAS[int(losses.argmin())])


def _unigram(counts: NgramCounts) -> Floats:
    return (counts.unigrams + ALPHA) / (counts.tokens + ALPHA * counts.vocab_size)  # (NG.1)


def _conditional(pairs: PairCounts, contexts: Ids, p: Floats, theta: float) -> Floats:
    """(NG.2) for contexts [M], as probabilities [M, V]; the unigram where a context is −1 or was never seen."""
    known = np.flatnonzero((contexts >= 0) & (pairs.totals[contexts] > 0))
    result = np.repeat(p[None], len(contexts), axis=0)
    seen = contexts[known]
    prior = theta * pairs.kinds[seen]
    rows = pairs.rows(seen)
    rows += prior[:, None] * p
    rows /= (pairs.totals[seen] + prior)[:, None]
    result[known] = rows
    return result


def _pair_loss(pairs: PairCounts, contexts: Ids, pieces: Ids, p: Floats, theta: float) -> float:
    """Cross-entropy of (NG.2) on pairs, in nats: that of `_conditional`, without its [M, V]."""
    total, prior = pairs.totals[contexts], theta * pairs.kinds[contexts]
    smoothed = (pairs.at(contexts, pieces) + prior * p[pieces]) / np.maximum(total + prior, 1)
    return float(-np.log(np.where(total > 0, smoothed, p[pieces])).mean())


def _log_gains(counts: NgramCounts, weights: Weights, p: Floats, left: Ids, right: Ids) -> Floats:
    """log p(w | l) / p(w) + log p(w | r) / p(w), [M, V]: what (NG.3) adds for γ = 1."""
    both = _conditional(counts.after, left, p, weights.theta_left)
    both *= _conditional(counts.before, right, p, weights.theta_right)
    both /= p * p
    return np.log(both, out=both)


def _normalised(scores: Floats) -> Floats:
    """Scores [M, V] less the logarithm of the sum of their exponentials; overwrites them."""
    scores -= scores.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores


def _positions(batch: Batch) -> Ids:
    if batch.masked_positions is None:
        raise InvalidInputError("batch", got="no masked_positions", expected="positions to predict")
    return batch.masked_positions


def _flat_ids(batch: Batch) -> Ids:
    return batch.input_ids.reshape(-1).astype(np.int64)


def _neighbour(batch: Batch, side: int) -> Ids:
    """Ids [M] beside the masked positions, in the corrupted row; −1 beyond its ends."""
    positions = _positions(batch)
    T = batch.input_ids.shape[1]
    t = positions % T + side
    inside = (t >= 0) & (t < T)
    return np.where(inside, _flat_ids(batch)[np.where(inside, positions + side, positions)], -1)
