"""From documents to rows of T tokens, `[CLS] … [SEP]`.

`packed`: a document's sentences run on and are cut every T - 2 tokens; its last row is moved back to end where the
document ends, overlapping the row before, so that no row has padding and no token is lost. A document under T - 2
tokens fills no row: it is left out and counted. `sentences`: one sentence a row, cut at T - 2 tokens.

A row is found by arithmetic from its number: nothing is stored for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.shards import TokenStore
from mini_bert.errors import DataError


class Places(NamedTuple):
    """Where rows lie in a token store: first token and number of tokens, without [CLS] and [SEP]."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Layout(Protocol):
    """The rows of one corpus."""

    count: int
    dropped_documents: int
    dropped_tokens: int

    def places(self, rows: NDArray[np.int64]) -> Places:
        """Where these rows lie."""
        ...


class PackedRows:
    """Rows of exactly `body` tokens of documents that begin at `starts` and have `lengths` tokens."""

    def __init__(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], body: int) -> None:
        long_enough = lengths >= body
        self.body = body
        self.dropped_documents = int(np.count_nonzero(~long_enough))
        self.dropped_tokens = int(lengths[~long_enough].sum())
        self._starts, self._lengths = starts[long_enough], lengths[long_enough]
        self._first_row = np.concatenate([[0], np.cumsum(-(-self._lengths // body))])
        self.count = int(self._first_row[-1])

    def places(self, rows: NDArray[np.int64]) -> Places:
        """Row j of a document begins at token j * body, but never so late that it would run over the end."""
        document = np.searchsorted(self._first_row, rows, side="right") - 1
        within = np.minimum((rows - self._first_row[document]) * self.body, self._lengths[document] - self.body)
        return Places(self._starts[document] + within, np.full(len(rows), self.body))


class SentenceRows:
    """A row a sentence, of its first `body` tokens."""

    dropped_documents = dropped_tokens = 0

    def __init__(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], body: int) -> None:
        self._starts, self._lengths = starts, np.minimum(lengths, body)
        self.count = len(starts)

    def places(self, rows: NDArray[np.int64]) -> Places:
        """Where these sentences lie."""
        return Places(self._starts[rows], self._lengths[rows])


class RowIndex:
    """All rows of a token set, numbered from 0 through its corpora.

    Fields: `length` T; `counts` rows of each corpus; `weights` of each corpus; `dropped_documents` and
    `dropped_tokens`, what was too short for a row.
    """

    def __init__(
        self,
        length: int,
        stores: Sequence[TokenStore],
        layouts: Sequence[Layout],
        weights: Sequence[float],
        cls_id: int,
        sep_id: int,
        pad_id: int,
    ) -> None:
        self.length = length
        self.counts = [layout.count for layout in layouts]
        self.weights = list(weights)
        self.dropped_documents = sum(layout.dropped_documents for layout in layouts)
        self.dropped_tokens = sum(layout.dropped_tokens for layout in layouts)
        self._stores, self._layouts = list(stores), list(layouts)
        self._first_row = np.concatenate([[0], np.cumsum(self.counts)])
        self._cls_id, self._sep_id, self._pad_id = cls_id, sep_id, pad_id
        if not len(self):
            raise DataError(
                "data.corpus",
                got=f"no text of {length} tokens: {self.dropped_documents} documents are shorter",
                expected=f"a document that fills a row of {length}",
                advice="Give more text, or a smaller --model.max-position-embeddings, or --data.layout sentences.",
            )

    def __len__(self) -> int:
        return sum(self.counts)

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of each row, with [CLS] and [SEP]."""
        lengths = np.empty(len(rows), np.int64)
        for corpus, mine in self._by_corpus(rows):
            lengths[mine] = self._layouts[corpus].places(rows[mine] - self._first_row[corpus]).lengths + 2
        return lengths

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The ids of these rows [len(rows), T], padded at the end where a row is shorter."""
        ids = np.full((len(rows), self.length), self._pad_id, np.int32)
        ids[:, 0] = self._cls_id
        for corpus, mine in self._by_corpus(rows):
            read = self._stores[corpus].read
            places = self._layouts[corpus].places(rows[mine] - self._first_row[corpus])
            for row, start, length in zip(mine.tolist(), places.starts.tolist(), places.lengths.tolist(), strict=True):
                ids[row, 1 : length + 1] = read(start, start + length)
                ids[row, length + 1] = self._sep_id
        return ids

    def _by_corpus(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        corpora = np.searchsorted(self._first_row, rows, side="right") - 1
        return [(int(corpus), np.flatnonzero(corpora == corpus)) for corpus in np.unique(corpora)]
