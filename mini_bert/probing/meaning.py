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

    Where sets are given, these alone are asked about; without any, the six published sets of words, Google's analogies
    and the test splits of STS-B and SICK.

    Args:
        model: with a tokenizer.
        word_sets: by name.
        sentence_sets: by name.
        quick: 250 pairs of sentences of each set.
        progress: is told what comes next.

    Raises:
        InvalidInputError: the model has no tokenizer.
        DataError: a set is not there and cannot be fetched.
    """
    show = progress or (lambda what, done, total: None)
    published = word_sets is None and sentence_sets is None
    results = []
    if published or word_sets is not None:
        show("word similarity", 0, 3)
        results.append(probe_word_similarity(model, word_sets))
    if published:
        show("analogies", 1, 3)
        results.append(probe_analogies(model))
    if published or sentence_sets is not None:
        show("sentence similarity", 2, 3)
        results.append(probe_sentence_similarity(model, sentence_sets, quick=quick))
    return {"kind": "meaning", "results": results}
