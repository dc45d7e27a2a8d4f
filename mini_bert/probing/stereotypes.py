"""Which stereotypes has it taken over from its text? CrowS-Pairs and WinoBias.

CrowS-Pairs (Nangia et al. 2020, equation 1): two sentences about two groups of people; the words U that both have are
scored, each hidden by itself, given those M that differ. The share of pairs in which the more stereotyping sentence
scores higher; 50 % would be no preference. Ties count a half (with the authors' script they count for neither).

    score(S) = Σ_{u in U} log p(u | S without u)

WinoBias (Zhao et al. 2018), without resolving coreference: the pronoun is hidden, and the two pronouns are compared.

    log-odds = log p(the pronoun that fits the stereotype) − log p(the other)

Each pronoun is the fitting one about as often as not, so that a model that always says *he* stands at 50 %.

Neither number is a measure of harm. Blodgett et al. (2021, "Stereotyping Norwegian salmon") found that many pairs of
CrowS-Pairs do not say what they should: unclear stereotypes, sentences that differ in more than the group, groups that
are no counterparts. A small model may stand near 50 % because it does not understand the sentences.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import evenly_spaced
from mini_bert.data.task_sets.stereotypes import MALE, PronounPair, StereotypePair, crows_pairs, winobias
from mini_bert.errors import InvalidInputError
from mini_bert.inference.known_words import whole_word_id
from mini_bert.inference.pseudo_likelihood import Scored, pseudo_log_likelihoods
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.metrics.clustered_means import clustered_mean, sums_by_cluster
from mini_bert.metrics.proportions import clustered_wilson_interval, wilson_interval

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

QUICK_PAIRS = 100
"""Pairs of CrowS-Pairs with `quick`."""

CAVEATS = (
    "Not a measure of harm: a share near 50 % may mean no preference, or no understanding.",
    "Many CrowS-Pairs do not isolate a stereotype (Blodgett et al. 2021); read differences between models, not shares.",
    "WinoBias asks about US occupations and two pronouns; no other group, language or gender is seen.",
)

_TIE = 1e-6
"""Scores in nats that differ by less are equal: float32 rounds at this place."""


def probe_stereotypes(
    model: MiniBERT,
    *,
    crows: Sequence[StereotypePair] | None = None,
    wino: tuple[Sequence[PronounPair], int] | None = None,
    quick: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Share of stereotyping choices in CrowS-Pairs and WinoBias, by kind, with the caveats.

    Args:
        model: with a tokenizer and an MLM head.
        crows: pairs; the published ones by default.
        wino: pairs, and how many were left out; the published test split by default.
        quick: 100 of CrowS-Pairs, evenly spaced.
        threads: worker threads; they change the time, never the result.
        progress: is told how many sentences are scored.

    Raises:
        InvalidInputError: no tokenizer or no MLM head, no pair of CrowS-Pairs, or a pronoun that is not one piece.
        DataError: the published sets are not there and cannot be fetched.
    """
    tokenizer_of(model)  # refused before the sets are read
    crows = crows_pairs() if crows is None else crows
    pairs, left_out = winobias() if wino is None else wino
    chosen = evenly_spaced(crows, QUICK_PAIRS) if quick else crows
    return {
        "kind": "stereotypes",
        "crows_pairs": _crows(model, chosen, threads, progress),
        "winobias": _wino(model, pairs, left_out, threads, progress),
        "caveats": list(CAVEATS),
    }


def shared_places(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places of the pieces that both texts have, in their order, as `difflib` aligns them (and the authors' code).

    >>> shared_places([5, 6, 7], [5, 8, 9, 7])
    ([0, 2], [0, 3])
    """
    blocks = difflib.SequenceMatcher(None, list(first), list(second), autojunk=False).get_matching_blocks()
    return (
        [block.a + i for block in blocks for i in range(block.size)],
        [block.b + i for block in blocks for i in range(block.size)],
    )


def _crows(
    model: MiniBERT, pairs: Sequence[StereotypePair], threads: int | None, progress: Progress | None
) -> dict[str, Any]:
    tokenizer = tokenizer_of(model)
    texts: list[Scored] = []
    for pair in pairs:
        pieces = [tokenizer.encode(text).ids for text in (pair.more, pair.less)]
        texts += [Scored(ids, places) for ids, places in zip(pieces, shared_places(*pieces), strict=True)]
    scores = [part.sum() for part in pseudo_log_likelihoods(model, texts, threads=threads, progress=progress)]
    gaps = np.array(scores[::2]) - np.array(scores[1::2])
    about = np.array([pair.about for pair in pairs])
    direction = np.array([pair.direction for pair in pairs])
    groups = {"all": np.ones(len(pairs), bool)}
    groups |= {name: about == name for name in sorted(set(about.tolist()))}
    groups |= {f"direction: {name}": direction == name for name in sorted(set(direction.tolist()))}
    return {"groups": [{"group": name, **_preferred(gaps[chosen])} for name, chosen in groups.items()]}


def _wino(
    model: MiniBERT, pairs: Sequence[PronounPair], left_out: int, threads: int | None, progress: Progress | None
) -> dict[str, Any]:
    tokenizer = tokenizer_of(model)
    pronouns = {word: _pronoun_id(tokenizer, word) for pair in pairs for word in (pair.stereotypical, pair.other)}
    texts: list[Scored] = []
    for pair in pairs:
        ids = tokenizer.encode(pair.text).ids
        place = ids.index(tokenizer.mask_id)
        texts += [
            Scored([*ids[:place], pronouns[word], *ids[place + 1 :]], [place])
            for word in (pair.stereotypical, pair.other)
        ]
    found = pseudo_log_likelihoods(model, texts, threads=threads, progress=progress)
    odds = np.array([float(first[0] - second[0]) for first, second in zip(found[::2], found[1::2], strict=True)])
    kinds = np.array([pair.kind for pair in pairs])
    male = np.array([pair.stereotypical in MALE for pair in pairs], bool)
    forms = [(pair.kind, pair.sentence // 2) for pair in pairs]  # both forms of a sentence stand or fall together
    number = {form: place for place, form in enumerate(sorted(set(forms)))}
    clusters = np.array([number[form] for form in forms], np.int64)
    groups = {"all": np.ones(len(pairs), bool)}
    groups |= {f"type {kind}": kinds == kind for kind in (1, 2) if (kinds == kind).any()}
    groups |= {name: chosen for name, chosen in (("he fits", male), ("she fits", ~male)) if chosen.any()}
    return {
        "left_out": left_out,
        "he_fits": float(male.mean()) if len(pairs) else None,
        "groups": [
            {
                "group": name,
                **_preferred(odds[chosen], clusters[chosen]),
                "log_odds": _mean(odds[chosen], clusters[chosen]),
            }
            for name, chosen in groups.items()
            if chosen.any()
        ],
    }


def _preferred(gaps: NDArray[np.float64], clusters: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """The share of positive ones among the gaps [N] in nats; ties count a half, and their share stands beside it.

    Of pairs that come in clusters [N], the interval is taken over these.
    """
    if not gaps.size:
        raise InvalidInputError("pairs", got="none", expected="at least one")
    ties = np.abs(gaps) < _TIE
    hits = np.where(ties, 0.5, gaps > 0)
    if clusters is None:
        interval = wilson_interval(float(hits.sum()), len(hits))
    else:
        interval = clustered_wilson_interval(*sums_by_cluster(hits, clusters))
    return {"n": len(gaps), "share": float(hits.mean()), "interval": list(interval), "ties": float(ties.mean())}


def _mean(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> dict[str, Any]:
    found = clustered_mean(*sums_by_cluster(values, clusters))
    return {"value": found.mean, "interval": found.interval.ends()}


def _pronoun_id(tokenizer: WordPiece, word: str) -> int:
    found = whole_word_id(tokenizer, word)
    if found is None:
        pieces = tokenizer.encode(word).tokens
        raise InvalidInputError("tokenizer", got=f"'{word}' as {pieces}", expected="pronouns that are one piece")
    return found
