"""What is chosen together, or sooner than the rest: one function for each `masking.kind`.

    token        tokens in random order (Devlin et al. 2019)
    whole_word   words in random order (google-research/bert, May 2019)
    span         from a random word on, ℓ words with P(ℓ) ∝ p (1 − p)^(ℓ−1), ℓ ≤ span_max                   (MA.2)
    ngram        from a random word on, ℓ words with P(ℓ) ∝ 1/ℓ, ℓ ≤ ngram_max                              (MA.3)
    frequency    tokens one by one, each in proportion to f(w)^(−power) of those that are left              (MA.4)
    pmi          collocations and other words in random order                                               (MA.5)
    pattern      words one by one, each in proportion to its weight of those that are left                  (MA.6)

Each takes the number of tokens that `masking.py` has drawn for the row: exactly that many with `token` and `frequency`;
with the others, which take whole words, no more than that, see `masking_units.py`. `span` and `pmi` share one fate
([MASK], a random piece, unchanged) within a unit, as their papers do; with the others each token has its own.

Source: Joshi et al. 2020 (SpanBERT), section 3.1; Lan et al. 2020 (ALBERT), section 4.1; Levine et al. 2021
(PMI-Masking), sections 3 and 4. Differs from source: a span ends before a word that is hidden already, where SpanBERT
lets it run over that word and ALBERT drops it; SpanBERT cuts the last span within a word, here it ends with one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.masking_facts import MaskingFacts
from mini_bert.data.masking_units import NEVER, Choice, Rows, Words, chosen_words, exponential, grouped, take, words_of

if TYPE_CHECKING:
    from mini_bert.config.schema import MaskingConfig

Floats = NDArray[np.float64]


def tokens(rows: Rows) -> Choice:
    """The wanted number of tokens, every set of them as likely as any other."""
    return Choice(_smallest(rows.keys(), rows.ordinary, rows.wanted))


def _token(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    return tokens(rows)


def _frequency(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    keys = np.where(rows.ordinary, exponential(rows.words("choice")) / facts.weights[rows.ids], np.inf)  # (MA.4)
    return Choice(_smallest(keys, rows.ordinary, rows.wanted))


def _whole_word(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    words = words_of(rows.ids, rows.ordinary, rows.pieces)
    taken = take(words, _random_order(rows, words), np.ones_like(words.lengths), rows.wanted)
    return chosen_words(rows, words, taken, one_fate=False)


def _span(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    return _runs(rows, geometric(masking.span_p, masking.span_max), one_fate=True)


def _ngram(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    return _runs(rows, harmonic(masking.ngram_max), one_fate=False)


def _pmi(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    words = words_of(rows.ids, rows.ordinary, rows.pieces)
    first = facts.collocations.units(rows, words)
    units = grouped(words, first, rows.ordinary)
    taken = take(units, _random_order(rows, units), np.ones_like(units.lengths), rows.wanted)
    return chosen_words(rows, units, taken, one_fate=True)


def _pattern(rows: Rows, masking: MaskingConfig, facts: MaskingFacts) -> Choice:
    words = words_of(rows.ids, rows.ordinary, rows.pieces)
    weights = np.where(facts.preferred.among(rows.ids, words), masking.pattern_weight, 1.0)
    draws = np.asarray(words.at_begins(exponential(rows.words("choice")), np.inf))
    taken = take(words, draws / weights, np.ones_like(words.lengths), rows.wanted)  # (MA.6)
    return chosen_words(rows, words, taken, one_fate=False)


KINDS: dict[str, Callable[[Rows, MaskingConfig, MaskingFacts], Choice]] = {
    "token": _token,
    "whole_word": _whole_word,
    "span": _span,
    "ngram": _ngram,
    "frequency": _frequency,
    "pmi": _pmi,
    "pattern": _pattern,
}


def geometric(p: float, longest: int) -> Floats:
    """P(ℓ), ℓ = 1 … longest, of (MA.2): a geometric distribution without what is longer; mean 3.8 for 0.2 and 10."""
    weights = p * (1.0 - p) ** np.arange(longest)
    return np.asarray(weights / weights.sum())


def harmonic(longest: int) -> Floats:
    """P(ℓ), ℓ = 1 … longest, of (MA.3): 6/11, 3/11, 2/11 for 3."""
    weights = 1.0 / np.arange(1, longest + 1)
    return np.asarray(weights / weights.sum())


def _runs(rows: Rows, probabilities: Floats, *, one_fate: bool) -> Choice:
    words = words_of(rows.ids, rows.ordinary, rows.pieces)
    draws = (rows.words("length") >> np.uint64(11)).astype(np.float64) * 2.0**-53
    drawn = 1 + np.searchsorted(np.cumsum(probabilities)[:-1], draws, side="right")
    taken = take(words, _random_order(rows, words), np.asarray(words.at_begins(drawn, 1)), rows.wanted)
    return chosen_words(rows, words, taken, one_fate=one_fate)


def _random_order(rows: Rows, words: Words) -> NDArray[np.uint64]:
    return np.asarray(words.at_begins(rows.keys(), NEVER))


def _smallest(
    keys: NDArray[np.uint64] | Floats, ordinary: NDArray[np.bool_], wanted: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """True at the `wanted` smallest keys of each row, among ordinary tokens."""
    if not keys.size:
        return ordinary
    last = np.sort(keys, axis=1)[np.arange(len(keys)), np.maximum(wanted, 1) - 1]
    return np.asarray(ordinary & (keys <= last[:, None]))
