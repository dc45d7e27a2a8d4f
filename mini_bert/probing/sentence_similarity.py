"""Are sentences near each other that mean nearly the same? STS-B and SICK, without any training for them.

Cosines of sentence embeddings against people's judgements: Spearman's and Pearson's correlation. Beside them what needs
no sentence: words in common, static embeddings of the pieces without context; and the untrained model. The layers are
all shown; none is chosen. A few numbers of a hidden state are large in every sentence and rule all cosines; so the last
layer is also shown standardized: each number with mean 0 and deviation 1 over the set's sentences, whose judgements it
does not see (Timkey and van Schijndel 2021, arXiv:2109.04404).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.data.order import evenly_spaced
from mini_bert.data.task_sets.relatedness import SentencePair, sick, stsb
from mini_bert.errors import InvalidInputError
from mini_bert.inference.sentence_embeddings import Pooling, cosines, pooled_embeddings, sentence_embeddings
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.correlations import pearson, spearman

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mini_bert.model.bert import MiniBERT

QUICK_PAIRS = 250
"""Pairs of each set with `quick`."""

_WORD = re.compile(r"\w+")


def probe_sentence_similarity(
    model: MiniBERT, sets: Mapping[str, Sequence[SentencePair]] | None = None, *, quick: bool = False
) -> dict[str, Any]:
    """Correlation of cosines with judgements for each pooling and layer, and for the baselines.

    Args:
        model: with a tokenizer.
        sets: by name; the test splits of STS-B and SICK by default.
        quick: 250 pairs of each set, evenly spaced.

    Raises:
        InvalidInputError: no tokenizer, a set with fewer than two pairs, or a sentence without a piece.
        DataError: the published sets are not there and cannot be fetched.
    """
    sets = {"STS-B test": stsb("test"), "SICK test": sick("test")} if sets is None else sets
    results = []
    for name, pairs in sets.items():
        if len(pairs) < 2:
            raise InvalidInputError("sets", got=f"{len(pairs)} pairs in {name}", expected="at least two")
        chosen = evenly_spaced(pairs, QUICK_PAIRS) if quick else list(pairs)
        judged = [pair.score for pair in chosen]
        results.append(
            {
                "set": name,
                "pairs": len(pairs),
                "n": len(chosen),
                "correlations": [_entry(kind, judged, values) for kind, values in _scored(model, chosen).items()],
            }
        )
    return {"kind": "sentence_similarity", "sets": results}


def words_in_common(first: str, second: str) -> float:
    """Words in both, of all that are in one (Jaccard); capitals do not count.

    >>> words_in_common("A dog runs.", "The dog runs")
    0.5
    """
    a, b = (set(_WORD.findall(text.lower())) for text in (first, second))
    return len(a & b) / len(a | b) if a | b else 1.0


def standardized(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vectors [N, H] with mean 0 and deviation 1 in each of the H numbers; one that never changes becomes 0."""
    deviations = vectors.std(axis=0)
    return np.asarray((vectors - vectors.mean(axis=0)) / np.where(deviations > 0, deviations, 1))


def _scored(model: MiniBERT, pairs: Sequence[SentencePair]) -> dict[str, NDArray[np.float64]]:
    """The cosines [N] of the pairs by each kind of vector; a sentence that stands twice is read once."""
    L = model.config.num_hidden_layers
    texts = list(dict.fromkeys(text for pair in pairs for text in pair[:2]))
    kinds: dict[str, tuple[Pooling, int]] = {
        **{f"mean, layer {layer}": ("mean", layer) for layer in range(1, L + 1)},
        f"max, layer {L}": ("max", L),
        f"[CLS], layer {L}": ("cls", L),
        "static embeddings": ("static", 0),
    }
    found = pooled_embeddings(model, texts, list(kinds.values()))
    vectors = {
        **{name: found[kind] for name, kind in kinds.items()},
        f"mean, layer {L}, standardized": standardized(found["mean", L]),
        f"untrained, mean, layer {L}": sentence_embeddings(untrained_like(model), texts),
    }
    place = {text: number for number, text in enumerate(texts)}
    first, second = ([place[text] for text in side] for side in zip(*(pair[:2] for pair in pairs), strict=True))
    scored = {kind: cosines(table[first], table[second]) for kind, table in vectors.items()}
    return {**scored, "words in common": np.array([words_in_common(*pair[:2]) for pair in pairs])}


def _entry(kind: str, judged: Sequence[float], values: NDArray[np.float64]) -> dict[str, Any]:
    ranks, linear = spearman(judged, np.round(values, 9)), pearson(judged, values)
    return {
        "by": kind,
        "spearman": ranks.value,
        "spearman_interval": list(ranks.interval),
        "pearson": linear.value,
        "pearson_interval": list(linear.interval),
    }
