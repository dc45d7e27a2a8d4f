"""How likely does a masked language model hold each piece of a text, with the others in sight?

    log p_i = log p(w_i | w, place i hidden)                                                     (PLL.1)
    PLL(w)  = Σ_i log p_i                                                                        (PLL.2)
    log p_i = log p(w_i | w, the places from i to the end of its word hidden)                    (PLL.3)

(PLL.1) shows the rest of a word that was cut into pieces, which gives the piece away: a rare word seems likely because
it is long. (PLL.3) goes through a word from left to right instead.

Each place is a row of its own, of which `mlm_logits` computes one position in the last block. Rows of equal length make
a batch, so there is no padding. A row that occurs twice is computed once: in a sentence that comes twice, in a pair
whose sentences differ in the hidden piece alone, or where (PLL.1) and (PLL.3) hide the same. Of a text that is longer
than a row, each piece is scored in the row's length of text around it.

Sources: Salazar et al. 2020, "Masked language model scoring", equation 2; Kauf and Ivanova 2023, "A better way to do
masked language model scoring", PLL-word-l2r.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.data.text_rows import TOKENS_AT_ONCE
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.machine import available_cores

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

_PLACES_AT_ONCE = 1 << 15
"""Rows laid out at a time: 8 MiB at T = 64. Each thread has 11 MiB of logits beside them at 12 pieces a row."""

_MASKED_AT_ONCE = 512
"""Rows of a batch at most, however short: 16 MiB of float32 logits at V = 8192."""

Ids = NDArray[np.int32]


class Scored(NamedTuple):
    """A text, and of which of its pieces the probability is asked."""

    pieces: Sequence[int]
    """[n] ids, without [CLS] and [SEP]"""
    places: Sequence[int] | None = None
    """Which of them; None: all."""
    within_word: bool = False
    """Hide also what follows within the word (PLL.3)."""


class _Rows(NamedTuple):
    """Rows of one length, with one question each."""

    ids: Ids
    """[N, T] with [CLS], [SEP] and the masks"""
    places: NDArray[np.int64]
    """[N] the position asked for"""
    targets: NDArray[np.int64]
    """[N] the piece that stands there"""


def pseudo_log_likelihoods(
    model: MiniBERT,
    texts: Sequence[Scored],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[NDArray[np.float64]]:
    """log p of the pieces of each text in nats, one vector a text, in the order of its places.

    Args:
        model: with an MLM head and a tokenizer.
        texts: any number, in any order; memory is bounded whatever their number.
        threads: worker threads; they change the time, never the result.
        progress: told how many texts are done.

    Raises:
        InvalidInputError: there is no tokenizer or no MLM head, an id is outside the vocabulary, or a place outside
            its text.
        NonFiniteError: an activation overflows, or a probability is NaN.
    """
    from threadpoolctl import threadpool_limits

    tokenizer = tokenizer_of(model)
    if threads is not None and threads < 1:
        raise InvalidInputError("threads", got=threads, expected="a positive number")
    model.parameters.require_head("mlm")
    body = model.config.max_position_embeddings - 2
    told: Callable[[str, int, int], None] = progress or (lambda what, done, total: None)
    answers: list[NDArray[np.float64]] = [np.empty(0)] * len(texts)
    done = 0
    told("pseudo-likelihoods", 0, len(texts))
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or available_cores()) as executor:
        for numbers in _groups(texts, body):
            parts = [_rows(number, texts[number], tokenizer, body, model.config.vocab_size) for number in numbers]
            log_p = _log_probabilities(model, _Rows(*map(np.concatenate, zip(*parts, strict=True))), executor)
            ends = np.cumsum([len(part.places) for part in parts])
            for number, answer in zip(numbers, np.split(log_p, ends[:-1]), strict=True):
                answers[number] = answer
            done += len(numbers)
            told("pseudo-likelihoods", done, len(texts))
    return answers


def _groups(texts: Sequence[Scored], body: int) -> Iterator[list[int]]:
    """Numbers of texts that make rows of one length, about `_PLACES_AT_ONCE` rows at a time; short texts first."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        by_length[min(len(text.pieces), body)].append(number)
    for _, numbers in sorted(by_length.items()):
        group: list[int] = []
        places = 0
        for number in numbers:
            text = texts[number]
            group.append(number)
            places += len(text.pieces if text.places is None else text.places)
            if places >= _PLACES_AT_ONCE:
                yield group
                group, places = [], 0
        if group:
            yield group


def _rows(number: int, text: Scored, tokenizer: WordPiece, body: int, vocab_size: int) -> _Rows:
    """The rows of one text."""
    pieces = np.asarray(text.pieces, np.int64)
    n = len(pieces)
    known = vocab_size if not text.within_word else min(vocab_size, len(tokenizer.continuation))
    if n and not (pieces.min() >= 0 and pieces.max() < known):
        worst = pieces[(pieces < 0) | (pieces >= known)][0]
        raise InvalidInputError(f"texts[{number}]", got=f"id {worst}", expected=f"ids from 0 to {known - 1}")
    places = np.arange(n) if text.places is None else np.asarray(text.places, np.int64)
    if places.size and not (places.min() >= 0 and places.max() < n):
        raise InvalidInputError(
            f"texts[{number}].places", got=f"{places.min()} to {places.max()}", expected=f"places in {n} pieces"
        )
    ends = _word_ends(tokenizer.continuation[pieces])[places] if text.within_word else places + 1
    length = min(n, body)
    starts = np.clip(places - length // 2, 0, n - length)
    seen = starts[:, None] + np.arange(length)
    ids = np.empty((len(places), length + 2), np.int32)
    ids[:, 0], ids[:, -1] = tokenizer.cls_id, tokenizer.sep_id
    hidden = (seen >= places[:, None]) & (seen < ends[:, None])
    ids[:, 1:-1] = np.where(hidden, tokenizer.mask_id, pieces[seen])
    return _Rows(ids, places - starts + 1, pieces[places])


def _word_ends(continuation: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each piece, the place behind the last piece of its word."""
    n = len(continuation)
    begins = np.append(np.where(continuation[1:], n, np.arange(1, n)), n)
    return np.minimum.accumulate(begins[::-1])[::-1]


def _log_probabilities(model: MiniBERT, rows: _Rows, executor: ThreadPoolExecutor) -> NDArray[np.float64]:
    """log p [N] of the targets; each different (row, place) is computed once."""
    if not len(rows.places):
        return np.empty(0)
    keys = np.ascontiguousarray(np.column_stack([rows.ids, rows.places.astype(np.int32)]))
    whole = keys.view(np.dtype((np.void, keys.itemsize * keys.shape[1]))).reshape(-1)
    _, first, row_of = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(row_of, kind="stable")
    bounds = np.searchsorted(row_of[order], np.arange(len(first) + 1))
    step = min(max(1, TOKENS_AT_ONCE // rows.ids.shape[1]), _MASKED_AT_ONCE)
    starts = range(0, len(first), step)
    asked = [order[bounds[start] : bounds[min(start + step, len(first))]] for start in starts]
    jobs = [
        (first[start : start + step], row_of[questions] - start, rows.targets[questions])
        for start, questions in zip(starts, asked, strict=True)
    ]
    log_p = np.empty(len(rows.places))
    try:
        for questions, part in zip(asked, executor.map(partial(_score, model, rows), jobs), strict=True):
            log_p[questions] = part
    except FloatingPointError as error:
        raise NonFiniteError("model", got=str(error), expected="weights with which all stays finite") from error
    if not np.isfinite(log_p).all():
        raise NonFiniteError("model", got="a probability of NaN", expected="weights with which all stays finite")
    return log_p


_Job = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _score(model: MiniBERT, rows: _Rows, job: _Job) -> NDArray[np.float64]:
    """log p of `targets`, each at the place of the row [B] among `chosen` that asks for it."""
    chosen, row, targets = job
    ids_BT = rows.ids[chosen]
    B, T = ids_BT.shape
    z_BV = model.mlm_logits(Batch(ids_BT, masked_positions=np.arange(B) * T + rows.places[chosen]))
    z_BV -= z_BV.max(axis=1, keepdims=True)
    at_targets = z_BV[row, targets].astype(np.float64)
    sums = np.exp(z_BV, out=z_BV).sum(axis=1, dtype=np.float64)
    return at_targets - np.log(sums)[row]
