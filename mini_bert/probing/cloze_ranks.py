"""At which rank does a model name the piece that fills the one [MASK] of a sentence? Many sentences at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.data.text_rows import TextRow, padded_batches
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.machine import available_cores
from mini_bert.metrics.top_k import target_ranks

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT

_ROWS_AT_ONCE = 512
"""Sentences whose scores a thread holds at a time: 16 MiB of float32 at V = 8192."""


class ClozeRanks(NamedTuple):
    """Of N sentences; ranks begin with 1, and a tie counts against the answer."""

    among_all: NDArray[np.int64]
    """[N] among all pieces"""
    among_candidates: NDArray[np.int64]
    """[N] among the sentence's candidates"""
    best_candidates: NDArray[np.int64]
    """[N] id of the likeliest candidate, other true answers left out"""

    def split(self, sizes: Sequence[int]) -> list[ClozeRanks]:
        """Parts of so many sentences each."""
        ends = np.cumsum(sizes)[:-1]
        return [ClozeRanks(*parts) for parts in zip(*(np.split(field, ends) for field in self), strict=True)]

    def every(self, step: int) -> ClozeRanks:
        """The sentences 0, step, 2 step, …"""
        return ClozeRanks(*(field[::step] for field in self))


def cloze_ranks(
    model: MiniBERT,
    texts: Sequence[str],
    answers: NDArray[np.int64],
    candidates: Sequence[NDArray[np.int64]],
    group: NDArray[np.int64],
    also_true: Sequence[Sequence[int]],
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ClozeRanks:
    """Ranks of the answers [N] in N texts, of which each has one [MASK].

    A text that is too long for a row is cut around its mask.

    Args:
        model: with a tokenizer and an MLM head.
        texts: N sentences.
        answers: [N] ids.
        candidates: of each group, ids in ascending order.
        group: [N] number of each text's candidates.
        also_true: of each text, ids that are left out of the ranking.
        threads: worker threads; they change the time, never the result.
        progress: is told how many texts are done.

    Raises:
        InvalidInputError: a text has not exactly one [MASK], an answer is none of its candidates, or the model has no
            tokenizer or no MLM head.
        NonFiniteError: a score is NaN, or an activation overflows.
    """
    from threadpoolctl import threadpool_limits

    tokenizer = tokenizer_of(model)
    length = model.config.max_position_embeddings
    rows, masks = [], []
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text).ids
        if ids.count(tokenizer.mask_id) != 1:
            got = f"{ids.count(tokenizer.mask_id)} [MASK] in text {number}: {text!r:.60}"
            raise InvalidInputError("texts", got=got, expected="one")
        mask = ids.index(tokenizer.mask_id)
        start = max(0, min(mask - (length - 2) // 2, len(ids) - (length - 2)))
        rows.append(TextRow([tokenizer.cls_id, *ids[start : start + length - 2], tokenizer.sep_id]))
        masks.append(mask - start + 1)
    found = ClozeRanks(*(np.empty(len(rows), np.int64) for _ in range(3)))
    columns = np.array(masks, np.int64)

    def rank(job: tuple[NDArray[np.int64], Batch]) -> int:
        numbers, batch = job
        B, T = batch.input_ids.shape
        scores_BV = model.mlm_logits(batch._replace(masked_positions=np.arange(B) * T + columns[numbers]))
        for scores_V, number in zip(scores_BV, numbers.tolist(), strict=True):
            scores_V[list(also_true[number])] = -np.inf
        found.among_all[numbers] = target_ranks(scores_BV, answers[numbers])
        for which in np.unique(group[numbers]):
            chosen = np.flatnonzero(group[numbers] == which)
            ids = candidates[which]
            places = np.searchsorted(ids, answers[numbers[chosen]])
            if (ids[np.minimum(places, len(ids) - 1)] != answers[numbers[chosen]]).any():
                raise InvalidInputError("answers", got=f"one that is no candidate of group {which}", expected="one")
            among = scores_BV[np.ix_(chosen, ids)]
            found.among_candidates[numbers[chosen]] = target_ranks(among, places)
            found.best_candidates[numbers[chosen]] = ids[among.argmax(axis=1)]
        return B

    done = 0
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or available_cores()) as executor:
        try:
            for ranked in executor.map(rank, _jobs(rows, tokenizer.pad_id)):
                done += ranked
                if progress:
                    progress(done, len(rows))
        except FloatingPointError as error:
            raise NonFiniteError("model", got=str(error), expected="weights with which all stays finite") from error
    return found


def _jobs(rows: Sequence[TextRow], pad_id: int) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    for numbers, batch in padded_batches(rows, pad_id):
        for start in range(0, len(numbers), _ROWS_AT_ONCE):
            yield numbers[start : start + _ROWS_AT_ONCE], batch.rows(start, start + _ROWS_AT_ONCE)
