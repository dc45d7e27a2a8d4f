"""Texts as batches: rows of similar length together, so that little is computed for padding.

A row of n ids among rows of at most T costs T. Sorted by length, and cut where B · T would pass a bound, batches keep
memory bounded and every row next to rows like it. Which rows share a batch changes no result beyond rounding: what is
padding is masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece

TOKENS_AT_ONCE = 4096
"""Positions of a batch, padding included: 3 MiB of float32 hidden states at H = 192."""


class TextRow(NamedTuple):
    """One row for the model."""

    ids: Sequence[int]
    types: Sequence[int] | None = None
    """Segments; None: all 0."""


def text_row(tokenizer: WordPiece, text: str, pair: str | None = None, *, length: int) -> TextRow:
    """`[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`, cut to `length` ids at the end of the longer one."""
    ids, types = tokenizer.encode_row(text, pair, max_length=length)
    return TextRow(ids, None if pair is None else types)


def padded_batches(
    rows: Sequence[TextRow], pad_id: int, *, tokens: int = TOKENS_AT_ONCE
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Every row once: the numbers [B] of a batch's rows in `rows`, and the batch; short rows first.

    Args:
        rows: what is to be read.
        pad_id: fills rows up to the longest of their batch.
        tokens: a batch has at most so many positions, or one row.

    Raises:
        InvalidInputError: a row is empty, or has not one segment an id.
    """
    lengths = np.array([len(row.ids) for row in rows], np.int64)
    if lengths.size and lengths.min() == 0:
        raise InvalidInputError("rows", got=f"no ids in row {int(lengths.argmin())}", expected="at least one a row")
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= tokens:
            stop += 1
        yield order[start:stop], padded([rows[number] for number in order[start:stop]], pad_id)
        start = stop


def padded(rows: Sequence[TextRow], pad_id: int) -> Batch:
    """Rows side by side, padded to the longest of them.

    Raises:
        InvalidInputError: a row has not one segment an id.
    """
    lengths = np.array([len(row.ids) for row in rows])
    shape = (len(rows), int(lengths.max()))
    real = np.arange(shape[1]) < lengths[:, None]
    ids = np.full(shape, pad_id, np.int32)
    ids[real] = np.concatenate([np.asarray(row.ids, np.int32) for row in rows])
    types = None
    if any(row.types is not None for row in rows):
        types = np.zeros(shape, np.int32)
        for number, row in enumerate(rows):
            if row.types is not None:
                if len(row.types) != len(row.ids):
                    raise InvalidInputError(
                        "rows", got=f"{len(row.types)} segments for {len(row.ids)} ids", expected="one for each"
                    )
                types[number, : len(row.types)] = row.types
    return Batch(ids, attention_mask=None if real.all() else real, token_type_ids=types)
