"""Does a sentence mean more than its words? How far embeddings move, against how far they should.

A distance is 1 − cosine of two sentence embeddings, in units of the mean distance of unrelated sentences (the first
sentence of a SICK pair and the second of the pair half the set on; neighbours in SICK are made of the same sentence): 0
is the same place, 1 as far as if nothing were in common.

- Minimal edits (`minimal_edits.py`): the edit that changes the meaning should move a sentence farther than the one
  that keeps it. Words in common say 50 %, by construction.
- SICK by its judgement: sentences that contradict each other should lie farther apart than those that follow from each
  other. The area under the ROC curve is how often they do.
- SICK pairs of which at most two words were replaced, added or taken away: what correlation with people's judgement is
  left where almost all words are the same?
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import evenly_spaced
from mini_bert.data.task_sets.relatedness import JUDGEMENTS, SentencePair, sick
from mini_bert.errors import InvalidInputError
from mini_bert.inference.sentence_embeddings import cosines, sentence_embeddings, unrelated_distances
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.clustered_means import clustered_mean, sums_by_cluster
from mini_bert.metrics.correlations import spearman
from mini_bert.metrics.proportions import clustered_wilson_interval
from mini_bert.metrics.ranking import area_under_curve
from mini_bert.probing.minimal_edits import KINDS, MinimalEdit, minimal_edits, reversed_roles
from mini_bert.probing.sentence_similarity import words_in_common

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT

QUICK_PAIRS = 400
"""Pairs of SICK with `quick`; and of the edits every fifth."""

_TIE = 1e-7
"""Distances that differ by less are equal: float32 rounds cosines at this place."""
_CHANGED_WORDS = 2
_WORD = re.compile(r"\w+")


def measure_compositional_understanding(
    model: MiniBERT, pairs: Sequence[SentencePair] | None = None, *, quick: bool = False
) -> dict[str, Any]:
    """Minimal edits, and SICK by judgement and at equal words; beside words in common and the untrained model.

    Args:
        model: with a tokenizer.
        pairs: with judgements; the test split of SICK by default.
        quick: 400 pairs, and every fifth edit.

    Raises:
        InvalidInputError: no tokenizer, fewer than two pairs, or a model to which all sentences are the same.
        DataError: SICK is not there and cannot be fetched.
    """
    pairs = sick("test") if pairs is None else pairs
    if len(pairs) < 2:
        raise InvalidInputError("pairs", got=f"{len(pairs)} pairs", expected="at least two")
    pairs = evenly_spaced(pairs, QUICK_PAIRS) if quick else list(pairs)
    edits = minimal_edits()[:: 5 if quick else 1]
    models = {
        "model": _Distances(model, pairs, edits),
        "untrained": _Distances(untrained_like(model), pairs, edits),
        "words in common": None,
    }
    return {"kind": "composition", "edits": _edits(models, edits), "sick": _by_judgement(models, pairs)}


class _Distances:
    """Distances of sentences in units of the mean distance of unrelated ones; every sentence is read once."""

    def __init__(self, model: MiniBERT, pairs: Sequence[SentencePair], edits: Sequence[MinimalEdit]) -> None:
        texts = [text for pair in pairs for text in pair[:2]]
        texts += [text for edit in edits for text in edit[1:4]]
        texts += [reversed_roles(edit) for edit in edits if edit.kind == KINDS[0]]
        texts = list(dict.fromkeys(texts))
        self._place = {text: number for number, text in enumerate(texts)}
        self._vectors = sentence_embeddings(model, texts)
        first, second = ([self._place[pair[i]] for pair in pairs] for i in (0, 1))
        self._unit = float(unrelated_distances(self._vectors[first], self._vectors[second]).mean())
        if not self._unit > _TIE:
            raise InvalidInputError("model", got="the same vector for every sentence", expected="vectors that differ")

    def of(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """The distance [N] of each pair."""
        first, second = ([self._place[pair[i]] for pair in pairs] for i in (0, 1))
        return (1 - cosines(self._vectors[first], self._vectors[second])) / self._unit


def _of(model: _Distances | None, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """Distances by a model, or by words in common."""
    return np.array([1 - words_in_common(*pair) for pair in pairs]) if model is None else model.of(pairs)


def changed_words(first: str, second: str) -> int:
    """How many words have to be replaced, added or taken away, in whatever order the words stand.

    >>> changed_words("A man is playing", "The man is not playing")
    2
    """
    a, b = (Counter(_WORD.findall(text.lower())) for text in (first, second))
    return max((a - b).total(), (b - a).total())


def _edits(models: Mapping[str, _Distances | None], edits: Sequence[MinimalEdit]) -> dict[str, Any]:
    moved = {
        by: (_of(model, [(e.sentence, e.same) for e in edits]), _of(model, [(e.sentence, e.other) for e in edits]))
        for by, model in models.items()
    }
    lines = []
    for kind in KINDS:
        chosen = np.array([edit.kind == kind for edit in edits])
        groups = [edit.group for edit in edits if edit.kind == kind]
        for by, found in moved.items():
            same, other = found[0][chosen], found[1][chosen]
            scores = np.where(np.abs(other - same) < _TIE, 0.5, other > same)
            lines.append(
                {
                    "edit": kind,
                    "by": by,
                    "n": int(chosen.sum()),
                    "accuracy": float(scores.mean()),
                    "interval": list(clustered_wilson_interval(*sums_by_cluster(scores, groups))),
                    "ties": float((scores == 0.5).mean()),
                    "same": _mean(same, groups),
                    "other": _mean(other, groups),
                }
            )
    active = [(e.sentence, reversed_roles(e)) for e in edits if e.kind == KINDS[0]]
    swapped = {by: float(_of(model, active).mean()) for by, model in models.items()}
    return {"triples": lines, "people_swapped": swapped}


def _by_judgement(models: Mapping[str, _Distances | None], pairs: Sequence[SentencePair]) -> dict[str, Any]:
    texts = [pair[:2] for pair in pairs]
    distances = {by: _of(model, texts) for by, model in models.items()}
    judged = np.array([pair.judgement for pair in pairs])
    scores = np.array([pair.score for pair in pairs])
    near = np.array([changed_words(*pair) <= _CHANGED_WORDS for pair in texts])
    lines = []
    for by, found in distances.items():
        line: dict[str, Any] = {"by": by}
        line["mean"] = {name: float(found[judged == name].mean()) for name in JUDGEMENTS if (judged == name).any()}
        apart, together = found[judged == "CONTRADICTION"], found[judged == "ENTAILMENT"]
        if apart.size and together.size:
            area = area_under_curve(np.round(apart, 9), np.round(together, 9))
            line |= {"area": area.value, "area_interval": list(area.interval)}
        if near.sum() > 1:
            found_near = spearman(-np.round(found[near], 9), scores[near])
            line |= {"near": found_near.value, "near_interval": list(found_near.interval)}
        lines.append(line)
    counts = {name: int((judged == name).sum()) for name in JUDGEMENTS}
    return {"n": len(pairs), "judgements": counts, "near_pairs": int(near.sum()), "scores": lines}


def _mean(values: NDArray[np.float64], groups: Sequence[str]) -> dict[str, Any]:
    found = clustered_mean(*sums_by_cluster(values, groups))
    return {"value": found.mean, "interval": list(found.interval)}
