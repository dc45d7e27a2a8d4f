"""Which of two sentences does a model hold likelier, the grammatical one or its twin?

A pair counts 1 where the good sentence has the higher score, 1/2 where both have the same, else 0. So what knows
nothing gets 1/2, also where it always sees the same: two words that are both [UNK], the same words in another order.
Sums are rounded once (`math.fsum`), so that the order of the summands makes no difference where there is none.

A masked language model scores by pseudo-likelihood (inference/pseudo_likelihood.py): plain, within words from left to
right, a piece on average, or of the changed words alone, each given the rest of its sentence. Beside it stands what
needs no understanding: the sentence with fewer pieces, the one with the more frequent pieces, and a 5-gram.

Sources: Warstadt et al. 2020, "BLiMP"; Salazar et al. 2020; Kauf and Ivanova 2023; Goldberg 2019, "Assessing BERT's
syntactic abilities", for the changed words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import first_of_each_part
from mini_bert.data.task_sets.minimal_pairs import MinimalPair, published_pairs
from mini_bert.errors import InvalidInputError
from mini_bert.inference.kneser_ney import KneserNey, fit_kneser_ney
from mini_bert.inference.pseudo_likelihood import Scored, pseudo_log_likelihoods
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.metrics.clustered_means import clustered_difference, sums_by_cluster
from mini_bert.metrics.interval import OF_A_DIFFERENCE_OF_SHARES
from mini_bert.metrics.proportions import clustered_wilson_interval

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

LABELS = {
    "pll": "Mini-BERT",
    "pll_within_word": "within words left to right",
    "pll_mean": "mean of a piece",
    "changed": "the changed words alone",
    "shorter": "fewer pieces",
    "unigram": "more frequent pieces",
    "kneser_ney": "5-gram, Kneser-Ney",
}
"""Ways to choose, in the order of the tables; the first is the model's score, and the last three know no grammar."""

BASELINES = ("shorter", "unigram", "kneser_ney")

QUICK_PAIRS = 20
"""Of each paradigm."""
COUNTED_TOKENS = 24_000_000
"""Of a longer training text, an evenly spread part is counted; counting takes some 80 bytes a token."""
QUICK_COUNTED_TOKENS = 2_000_000

Floats = NDArray[np.float64]


def probe_minimal_pairs(
    model: MiniBERT,
    sets: Mapping[str, Sequence[MinimalPair]],
    *,
    ngrams: KneserNey | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy in each set, phenomenon and paradigm, by every way to choose, with 95 % intervals.

    Args:
        model: with tokenizer and MLM head.
        sets: pairs by the name of their set.
        ngrams: fitted on sentences of the model's pieces (`sentence_ngrams`); None: without the two baselines of it.
        threads: worker threads; they change the time, never the result.
        progress: told how far it is.

    Returns:
        Plain values for JSON, of kind `minimal_pairs`; `mini_bert.reports.minimal_pairs` draws them.

    Raises:
        InvalidInputError: the model has no tokenizer or no MLM head, or there is no pair.
        NonFiniteError: an activation overflows.
    """
    begin = time.perf_counter()
    tokenizer = tokenizer_of(model)
    pairs = [pair for pairs in sets.values() for pair in pairs]
    if not all(sets.values()) or not pairs:
        raise InvalidInputError("sets", got="no pair", expected="at least one in each set")
    pieces = [(tokenizer.encode_ids(pair.good), tokenizer.encode_ids(pair.bad)) for pair in pairs]
    outcomes = _outcomes(model, pieces, ngrams, threads, progress)
    found, start = [], 0
    for name, members in sets.items():
        part = slice(start, start + len(members))
        of_set = {way: values[part] for way, values in outcomes.items()}
        found.append(_of_set(name, members, of_set) | _facts(model, pieces[part]))
        start = part.stop
    return {
        "kind": "minimal_pairs",
        "chance": 0.5,
        "sets": found,
        "ngrams": ngrams and {"order": ngrams.order, "tokens": int(ngrams.unigrams.sum()), "n_grams": ngrams.n_grams},
        "seconds": time.perf_counter() - begin,
    }


def probe_syntactic_knowledge(
    model: MiniBERT,
    *,
    pairs_per_paradigm: int | None = None,
    ngrams: KneserNey | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Subject-verb agreement: `probe_minimal_pairs` on the sets of Linzen et al. and Gulordava et al.

    Args:
        model: with tokenizer and MLM head.
        pairs_per_paradigm: at most so many on average; None: all.
        ngrams: as in `probe_minimal_pairs`.
        threads: worker threads; they change the time, never the result.
        progress: told how far it is.

    Raises:
        InvalidInputError, NonFiniteError: as `probe_minimal_pairs` and `sample_of`.
        DataError: the published sets are not there and cannot be fetched.
    """
    sets = {name: sample_of(published_pairs(name), pairs_per_paradigm) for name in ("linzen", "gulordava")}
    return probe_minimal_pairs(model, sets, ngrams=ngrams, threads=threads, progress=progress)


def sample_of(pairs: Sequence[MinimalPair], pairs_per_paradigm: int | None) -> list[MinimalPair]:
    """So many pairs of each paradigm on average, in their order; each paradigm keeps its share of the set.

    The pairs are spread evenly over each paradigm, so that a figure of the sample is one of the whole set, also where
    paradigms are of different sizes. A paradigm has one pair at least.

    Args:
        pairs: of the whole set.
        pairs_per_paradigm: None: all.

    Raises:
        InvalidInputError: none are asked for.
    """
    if pairs_per_paradigm is None:
        return list(pairs)
    if pairs_per_paradigm < 1:
        raise InvalidInputError("pairs_per_paradigm", got=pairs_per_paradigm, expected="a positive number")
    numbers: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        numbers.setdefault(pair.paradigm, []).append(number)
    share = min(1.0, pairs_per_paradigm * len(numbers) / max(len(pairs), 1))
    parts = (first_of_each_part(own, max(1, round(share * len(own)))) for own in numbers.values())
    return [pairs[number] for number in sorted(number for part in parts for number in part)]


def sentence_ngrams(token_set: TokenSet, vocab_size: int, tokens: int = COUNTED_TOKENS) -> KneserNey:
    """A 5-gram of the sentences of a text, counted on about `tokens` tokens at most."""
    return fit_kneser_ney(chain.from_iterable(token_set.sentences(tokens)), vocab_size)


Pieces = tuple[list[int], list[int]]


def _outcomes(
    model: MiniBERT, pieces: Sequence[Pieces], ngrams: KneserNey | None, threads: int | None, progress: Progress | None
) -> dict[str, Floats]:
    """For each way 1, 1/2 or 0 a pair; NaN where it has no answer."""
    texts = [Scored(ids, within_word=within) for pair in pieces for ids in pair for within in (False, True)]
    log_p = pseudo_log_likelihoods(model, texts, threads=threads, progress=progress)
    plain, within = log_p[::2], log_p[1::2]
    sentences = [ids for pair in pieces for ids in pair]
    continuation = tokenizer_of(model).continuation
    changed = [places for pair in pieces for places in changed_words(*pair, continuation)]
    scores: dict[str, list[float]] = {
        "pll": [math.fsum(values) for values in plain],
        "pll_within_word": [math.fsum(values) for values in within],
        "pll_mean": [math.fsum(values) / max(len(values), 1) for values in plain],
        "changed": [
            math.fsum(values[places]) if places else math.nan for values, places in zip(within, changed, strict=True)
        ],
        "shorter": [-float(len(ids)) for ids in sentences],
    }
    if ngrams is not None:
        counts = ngrams.unigrams
        log_unigram = np.log((counts + 1) / (counts.sum() + len(counts)))
        scores["unigram"] = [math.fsum(log_unigram[ids]) for ids in sentences]
        scores["kneser_ney"] = [math.fsum(ngrams.log_p(ids)) for ids in sentences]
    return {way: _outcome(np.array(values).reshape(-1, 2)) for way, values in scores.items()}


def _outcome(scores: Floats) -> Floats:
    """From scores [N, 2] of the good and the bad sentence."""
    good, bad = scores.T
    outcome = (good > bad) + 0.5 * (good == bad)
    return np.where(np.isnan(good) | np.isnan(bad), np.nan, outcome)


def changed_words(
    good: Sequence[int], bad: Sequence[int], continuation: NDArray[np.bool_]
) -> tuple[list[int], list[int]]:
    """Where two rows differ: the places, in each, of the words that the other does not share in the same order.

    Words are aligned as `difflib` does, between those with which both begin and both end.

    Args:
        good: ids of one sentence.
        bad: ids of the other.
        continuation: [V] whether a piece goes on with a word.
    """
    places_of_good, places_of_bad = (_words(ids, continuation) for ids in (good, bad))
    first = [tuple(good[place] for place in word) for word in places_of_good]
    second = [tuple(bad[place] for place in word) for word in places_of_bad]
    shorter = min(len(first), len(second))
    start = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    end = next((i for i in range(shorter - start) if first[-1 - i] != second[-1 - i]), shorter - start)
    between = (row[start : len(row) - end] for row in (first, second))
    of_good: list[int] = []
    of_bad: list[int] = []
    for what, i, j, k, m in SequenceMatcher(None, *between, autojunk=False).get_opcodes():
        if what != "equal":
            of_good += chain.from_iterable(places_of_good[start + i : start + j])
            of_bad += chain.from_iterable(places_of_bad[start + k : start + m])
    return of_good, of_bad


def _words(ids: Sequence[int], continuation: NDArray[np.bool_]) -> list[list[int]]:
    """The places of each word's pieces; a row that begins within a word begins with the rest of it."""
    words: list[list[int]] = []
    for place, piece in enumerate(ids):
        if words and continuation[piece]:
            words[-1].append(place)
        else:
            words.append([place])
    return words


def _of_set(name: str, pairs: Sequence[MinimalPair], outcomes: Mapping[str, Floats]) -> dict[str, Any]:
    clusters = _numbered(pair.group or f"pair {number}" for number, pair in enumerate(pairs))
    paradigm, phenomenon = (_numbered(key) for key in ([p.paradigm for p in pairs], [p.phenomenon for p in pairs]))
    everything = np.ones(len(pairs), bool)
    total = {way: _score(values, clusters, everything) for way, values in outcomes.items()}
    if paradigm.max() > 0:
        for way, score in total.items():
            if score is not None:
                known = ~np.isnan(outcomes[way])
                score["interval_over_paradigms"] = _interval(outcomes[way][known], paradigm[known])
    return {
        "name": name,
        "n": len(pairs),
        "total": total,
        "same_length": {
            way: _score(outcomes[way], clusters, outcomes["shorter"] == 0.5) for way in outcomes if way != "shorter"
        },
        "differences": [_difference(way, outcomes, clusters) for way in BASELINES if way in outcomes],
        "phenomena": _by(phenomenon, [{"phenomenon": p.phenomenon} for p in pairs], outcomes, clusters),
        "paradigms": _by(
            paradigm, [{"paradigm": p.paradigm, "phenomenon": p.phenomenon} for p in pairs], outcomes, clusters
        ),
    }


def _facts(model: MiniBERT, pieces: Sequence[Pieces]) -> dict[str, Any]:
    """What the pairs are to this tokenizer."""
    body, unknown = model.config.max_position_embeddings - 2, tokenizer_of(model).unk_id
    sentences = [ids for pair in pieces for ids in pair]
    n = sum(map(len, sentences))
    return {
        "pieces": n,
        "unknown_share": sum(ids.count(unknown) for ids in sentences) / max(n, 1),
        "identical": sum(good == bad for good, bad in pieces),
        "longer_than_a_row": sum(max(len(good), len(bad)) > body for good, bad in pieces),
    }


def _by(
    key: NDArray[np.int64], names: Sequence[dict[str, str]], outcomes: Mapping[str, Floats], clusters: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """One entry for each value of `key`, in the order in which they come first."""
    _, first = np.unique(key, return_index=True)
    return [
        {
            **names[first[value]],
            "n": int((key == value).sum()),
            "scores": {way: _score(values, clusters, key == value) for way, values in outcomes.items()},
        }
        for value in range(len(first))
    ]


def _score(outcomes: Floats, clusters: NDArray[np.int64], chosen: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Accuracy and share of ties among the chosen pairs; None where none of them has an answer."""
    known = chosen & ~np.isnan(outcomes)
    if not known.any():
        return None
    values = outcomes[known]
    return {
        "n": len(values),
        "accuracy": float(values.mean()),
        "interval": _interval(values, clusters[known]),
        "ties": int((values == 0.5).sum()),
    }


def _interval(outcomes: Floats, clusters: NDArray[np.int64]) -> list[float]:
    return list(clustered_wilson_interval(*sums_by_cluster(outcomes, clusters)))


def _difference(way: str, outcomes: Mapping[str, Floats], clusters: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy of the model less that of a baseline, paired pair by pair."""
    ours, sizes = sums_by_cluster(outcomes["pll"], clusters)
    theirs, _ = sums_by_cluster(outcomes[way], clusters)
    difference = clustered_difference(ours, theirs, sizes, bounds=OF_A_DIFFERENCE_OF_SHARES)
    ends = difference.interval.ends()
    return {"baseline": way, "accuracy": difference.mean, "interval": ends}


def _numbered(values: Iterable[str]) -> NDArray[np.int64]:
    """[N] the number of each value, in the order in which they come first."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
