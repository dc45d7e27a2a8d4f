"""What does it know of meaning? Words, analogies and sentences, one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mini_bert.probing.analogies import probe_analogies
from mini_bert.probing.sentence_similarity import probe_sentence_similarity
from mini_bert.probing.word_similarity import probe_word_similarity

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT


def probe_semantic_knowledge(
    model: MiniBERT, *, quick: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Word similarity, analogies and sentence similarity: `{"results": […]}`, each with its baselines.

    Args:
        model: with a tokenizer.
        quick: 400 pairs of sentences of each set.
        progress: is told what comes next.

    Raises:
        InvalidInputError: the model has no tokenizer.
        DataError: a set is not there and cannot be fetched.
    """
    show = progress or (lambda what, done, total: None)
    show("word similarity", 0, 3)
    words = probe_word_similarity(model)
    show("analogies", 1, 3)
    analogies = probe_analogies(model)
    show("sentence similarity", 2, 3)
    return {"kind": "meaning", "results": [words, analogies, probe_sentence_similarity(model, quick=quick)]}
