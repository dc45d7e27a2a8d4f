"""How likely does a masked language model hold running text, piece by piece?

    pseudo-perplexity = exp(− Σ log p_i / N)                                                     (PPPL.1)

over all pieces of all sentences, log p_i as in (PLL.1) or within words from left to right as in (PLL.3)
(inference/pseudo_likelihood.py). With N pieces, two models are compared only if they have the same vocabulary. With N
words they are whatever theirs is, but within words: plain, the pieces of a cut word give each other away. A piece has
seen both sides, so neither is comparable with the perplexity of a model that reads from left to right.

Source: Salazar et al. 2020, "Masked language model scoring", equation 3.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.documents import read_documents
from mini_bert.data.order import first_of_each_part
from mini_bert.errors import DataError, InvalidInputError
from mini_bert.inference.pseudo_likelihood import Scored, pseudo_log_likelihoods
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.metrics.clustered_means import clustered_mean
from mini_bert.metrics.interval import OF_A_LOSS
from mini_bert.metrics.perplexity import perplexity

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

SENTENCES = 1000

Sentence = Sequence[int] | NDArray[np.integer]


def pseudo_perplexity(
    model: MiniBERT,
    documents: Iterable[Sequence[Sentence]],
    *,
    sentences: int | None = SENTENCES,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pseudo-perplexity a piece and a word, plain and within words, with 95 % intervals over documents.

    Args:
        model: with tokenizer and MLM head.
        documents: each the ids of its sentences: `TokenSet.sentences()` of held-out text.
        sentences: at most so many, evenly spread over the text; None: all.
        threads: worker threads; they change the time, never the result.
        progress: told how far it is.

    Returns:
        Plain values for JSON, of kind `pseudo_perplexity`.

    Raises:
        InvalidInputError: the model has no tokenizer or no MLM head, or there is no sentence.
        NonFiniteError: an activation overflows.
    """
    begin = time.perf_counter()
    tokenizer = tokenizer_of(model)
    if sentences is not None and sentences < 1:
        raise InvalidInputError("sentences", got=sentences, expected="a positive number")
    found = [(number, ids) for number, document in enumerate(documents) for ids in document if len(ids)]
    if not found:
        raise InvalidInputError("documents", got="no sentence", expected="at least one")
    chosen = found if sentences is None else first_of_each_part(found, sentences)
    texts = [Scored(np.asarray(ids).tolist(), within_word=within) for _, ids in chosen for within in (False, True)]
    log_p = pseudo_log_likelihoods(model, texts, threads=threads, progress=progress)
    _, cluster = np.unique([number for number, _ in chosen], return_inverse=True)
    starts_word = ~tokenizer.continuation
    sizes = {
        "piece": np.array([len(ids) for _, ids in chosen]),
        "word": np.array([int(starts_word[np.asarray(ids)].sum()) for _, ids in chosen]),
    }
    sums = {
        way: -np.array([values.sum() for values in parts])
        for way, parts in {"plain": log_p[::2], "within_word": log_p[1::2]}.items()
    }
    unknown = sum(int((np.asarray(ids) == tokenizer.unk_id).sum()) for _, ids in chosen)
    return {
        "kind": "pseudo_perplexity",
        "documents": int(cluster.max()) + 1,
        "sentences": len(chosen),
        "of_sentences": len(found),
        "pieces": int(sizes["piece"].sum()),
        "words": int(sizes["word"].sum()),
        "unknown_share": unknown / int(sizes["piece"].sum()),
        "scores": [{"way": way, "per": per, **_score(sums[way], sizes[per], cluster)} for way in sums for per in sizes],
        "seconds": time.perf_counter() - begin,
    }


def pseudo_perplexity_of_text(
    model: MiniBERT,
    corpus: str,
    *,
    sentences: int | None = SENTENCES,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`pseudo_perplexity` of a corpus by its name, or of a text file.

    Raises:
        DataError: it is unknown, cannot be read, or has no sentence.
    """
    encode = tokenizer_of(model).encode_ids
    documents = [[encode(sentence) for sentence in document.sentences] for document in read_documents(corpus)]
    if not any(map(any, documents)):
        raise DataError(corpus, got="no sentence", expected="text")
    result = pseudo_perplexity(model, documents, sentences=sentences, threads=threads, progress=progress)
    return result | {"corpus": corpus}


def _score(sums: NDArray[np.float64], sizes: NDArray[np.int64], cluster: NDArray[np.int64]) -> dict[str, Any]:
    mean = clustered_mean(np.bincount(cluster, sums), np.bincount(cluster, sizes), bounds=OF_A_LOSS)
    value, *ends = (_perplexity(nats) for nats in (mean.mean, *mean.interval))
    return {"nats": mean.mean, "perplexity": value, "interval": ends}


def _perplexity(nats: float) -> float | None:
    """None where nothing is known of it, or where it is no float."""
    value = perplexity(nats)
    return value if np.isfinite([nats, value]).all() else None
