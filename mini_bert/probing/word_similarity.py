"""Are words near each other that people find near? Spearman's correlation of cosines with judgements.

A word is a vector in two ways: the mean of its pieces' rows in the table of token embeddings, and the mean of its
pieces' hidden states in a row of its own, [CLS] word [SEP]. Pairs with a word that falls to [UNK] are left out, and
counted. Beside it: the untrained model, for which words are alike that share pieces; and words as sets of three
letters, which know spelling alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.data.task_sets.word_similarity import WordPair, word_similarity_sets
from mini_bert.errors import InvalidInputError
from mini_bert.inference.known_words import known_word, whole_word_id
from mini_bert.inference.sentence_embeddings import cosines, layer_embeddings
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.correlations import spearman

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mini_bert.model.bert import MiniBERT


def probe_word_similarity(model: MiniBERT, sets: Mapping[str, Sequence[WordPair]] | None = None) -> dict[str, Any]:
    """Spearman's correlation of each set's judgements with each kind of vector, and with the baselines.

    Args:
        model: with a tokenizer.
        sets: by name; the six published ones by default.

    Returns:
        Plain values for JSON, of kind `word_similarity`: for each set how many pairs it has, how many have both words
        known, how many both as one piece each, and for each representation the correlation and its interval over the
        known ones.

    Raises:
        InvalidInputError: no tokenizer, or a set with fewer than two known pairs.
        DataError: the published sets are not there and cannot be fetched.
    """
    tokenizer = tokenizer_of(model)
    sets = word_similarity_sets() if sets is None else sets
    every = dict.fromkeys(word for pairs in sets.values() for pair in pairs for word in pair[:2])
    words = [word for word in every if known_word(tokenizer, word)]
    if not words:
        raise InvalidInputError("sets", got="no word that has pieces", expected="words of the model's vocabulary")
    place = {word: number for number, word in enumerate(words)}
    vectors = _representations(model, words)
    results = []
    for name, pairs in sets.items():
        known = [pair for pair in pairs if pair.first in place and pair.second in place]
        if len(known) < 2:
            got = f"{len(known)} pairs of known words in {name}"
            raise InvalidInputError("sets", got=got, expected="at least two")
        judged = [pair.score for pair in known]
        ends = [place[pair.first] for pair in known], [place[pair.second] for pair in known]
        scored = {kind: cosines(table[ends[0]], table[ends[1]]) for kind, table in vectors.items()}
        scored["letters in common"] = np.array([spelling_overlap(pair.first, pair.second) for pair in known])
        whole = sum(all(whole_word_id(tokenizer, word) is not None for word in pair[:2]) for pair in known)
        results.append(
            {
                "set": name,
                "pairs": len(pairs),
                "known": len(known),
                "one_piece": whole,
                "spearman": [_entry(kind, judged, values) for kind, values in scored.items()],
            }
        )
    return {"kind": "word_similarity", "sets": results}


def spelling_overlap(first: str, second: str) -> float:
    """Three-letter sequences in common, of all that there are (Jaccard); a word's ends count as letters.

    >>> spelling_overlap("cat", "cats")
    0.4
    """
    grams = [
        {text[i : i + 3] for i in range(len(text) - 2)} for text in (f"<{word.lower()}>" for word in (first, second))
    ]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def _representations(model: MiniBERT, words: Sequence[str]) -> dict[str, NDArray[np.floating]]:
    L = model.config.num_hidden_layers
    alone = layer_embeddings(model, words, layers=range(1, L + 1))
    first = untrained_like(model)
    return {
        "static embeddings": layer_embeddings(model, words, pooling="static")[0],
        **{f"word alone, layer {layer}": alone[layer - 1] for layer in range(1, L + 1)},
        "untrained, static embeddings": layer_embeddings(first, words, pooling="static")[0],
        f"untrained, word alone, layer {L}": layer_embeddings(first, words, layers=(L,))[0],
    }


def _entry(kind: str, judged: Sequence[float], values: NDArray[np.float64]) -> dict[str, Any]:
    # what is equal up to rounding is a tie
    found = spearman(judged, np.round(values, 9))
    return {"by": kind, "value": found.value, "interval": list(found.interval)}
