"""What does it know of meaning? Words, analogies and sentences, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mini_bert.probing.analogies import probe_analogies
from mini_bert.probing.sentence_similarity import probe_sentence_similarity
from mini_bert.probing.word_similarity import probe_word_similarity

if TYPE_CHECKING:
    from mini_bert.data.task_sets.relatedness import SentencePair
    from mini_bert.data.task_sets.word_similarity import WordPair
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT


def probe_semantic_knowledge(
    model: MiniBERT,
    *,
    word_sets: Mapping[str, Sequence[WordPair]] | None = None,
    sentence_sets: Mapping[str, Sequence[SentencePair]] | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Word similarity, analogies and sentence similarity: `{"results": […]}`, each with its baselines.

    Args:
        model: with a tokenizer.
        word_sets: by name; the six published ones by default.
        sentence_sets: by name; the test splits of STS-B and SICK by default.
        quick: 250 pairs of sentences of each set.
        progress: is told what comes next.

    Raises:
        InvalidInputError: the model has no tokenizer.
        DataError: a set is not there and cannot be fetched.
    """
    show = progress or (lambda what, done, total: None)
    show("word similarity", 0, 3)
    words = probe_word_similarity(model, word_sets)
    show("analogies", 1, 3)
    analogies = probe_analogies(model)
    show("sentence similarity", 2, 3)
    sentences = probe_sentence_similarity(model, sentence_sets, quick=quick)
    return {"kind": "meaning", "results": [words, analogies, sentences]}
