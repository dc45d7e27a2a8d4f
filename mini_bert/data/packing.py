"""From documents to rows of T tokens, `[CLS] … [SEP]`.

`packed`: a document's sentences run on and are cut every T - 2 tokens; its last row is moved back to end where the
document ends, overlapping the row before, so that no row has padding and no token is lost. A document under T - 2
tokens fills no row: it is left out and counted. `sentences`: one sentence a row, cut at T - 2 tokens.

A row is found by arithmetic from its number: nothing is stored for it. What is stored is 12 bytes for each document
that is long enough (`packed`), or 16 for each stretch of neighbouring documents (`sentences`); the rest is looked up in
the mapped files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.shards import TokenStore
from mini_bert.errors import DataError

Integer = TypeVar("Integer", bound=np.integer)


class Places(NamedTuple):
    """Where rows lie in a token store: first token and number of tokens, without [CLS] and [SEP]."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Documents(NamedTuple):
    """Of each of some rows, the document that it lies in."""

    starts: NDArray[np.int64]
    """Its first token."""
    stops: NDArray[np.int64]
    """Behind its last one."""
    first_rows: NDArray[np.int64]
    """Number of its first row."""
    rows: NDArray[np.int64]
    """How many it has."""


class Layout(Protocol):
    """The rows of one corpus."""

    count: int
    dropped_documents: int
    dropped_tokens: int

    def places(self, rows: NDArray[np.int64]) -> Places:
        """Where these rows lie."""
        ...


_AT_ONCE = 1 << 18


def in_parts(array: NDArray[Integer]) -> Iterator[NDArray[Integer]]:
    """An array cut into parts of 262,144, so that what is computed from it stays small."""
    for first in range(0, len(array), _AT_ONCE):
        yield array[first : first + _AT_ONCE]


class PackedRows:
    """Rows of exactly `body` tokens.

    Args:
        offsets: where each document of a store begins, and where the last one ends; may be a mapped file.
        documents: numbers of the documents whose rows these are.
        body: tokens of a row, without [CLS] and [SEP].
    """

    def __init__(self, offsets: NDArray[np.int64], documents: NDArray[np.unsignedinteger], body: int) -> None:
        self.body = body
        self.dropped_documents = self.dropped_tokens = 0
        self._offsets = offsets
        chosen, rows = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)]
        for numbers in in_parts(documents):
            lengths = offsets[numbers + 1] - offsets[numbers]
            long_enough = lengths >= body
            self.dropped_documents += int(np.count_nonzero(~long_enough))
            self.dropped_tokens += int(lengths[~long_enough].sum())
            chosen.append(numbers[long_enough].astype(np.uint32))
            rows.append(-(-lengths[long_enough] // body))
        self._documents, self._first_row = np.concatenate(chosen), np.concatenate(rows)
        np.cumsum(self._first_row, out=self._first_row)
        self.count = int(self._first_row[-1])

    def places(self, rows: NDArray[np.int64]) -> Places:
        """Row j of a document begins at token j * body, but never so late that it would run over the end."""
        place = np.searchsorted(self._first_row, rows, side="right") - 1
        document = self._documents[place]
        starts = self._offsets[document]
        lengths = self._offsets[document + 1] - starts
        within = np.minimum((rows - self._first_row[place]) * self.body, lengths - self.body)
        return Places(starts + within, np.full(len(rows), self.body))

    def documents(self, rows: NDArray[np.int64]) -> Documents:
        """The documents of these rows."""
        place = np.searchsorted(self._first_row, rows, side="right") - 1
        number, first = self._documents[place], self._first_row[place]
        return Documents(self._offsets[number], self._offsets[number + 1], first, self._first_row[place + 1] - first)


class SentenceRows:
    """A row a sentence, of its first `body` tokens; sentences without tokens are passed by.

    Args:
        sentence_offsets: where each sentence of a store begins, and where the last one ends; may be a mapped file.
        offsets: the same of its documents.
        documents: numbers of the documents whose rows these are, rising.
        body: tokens of a row at most, without [CLS] and [SEP].
    """

    dropped_documents = dropped_tokens = 0

    def __init__(
        self,
        sentence_offsets: NDArray[np.int64],
        offsets: NDArray[np.int64],
        documents: NDArray[np.unsignedinteger],
        body: int,
    ) -> None:
        self.body = body
        self._offsets = sentence_offsets
        self._empty = _without_tokens(sentence_offsets)
        breaks = np.diff(documents) != 1
        first = documents[np.append(True, breaks)[: len(documents)]]
        last = documents[np.append(breaks, True)[: len(documents)]]
        self._first = self._rank(offsets[first])
        self._first_row = np.append(0, np.cumsum(self._rank(offsets[last + 1]) - self._first))
        self.count = int(self._first_row[-1])

    def places(self, rows: NDArray[np.int64]) -> Places:
        """Where these sentences lie."""
        stretch = np.searchsorted(self._first_row, rows, side="right") - 1
        rank = self._first[stretch] + rows - self._first_row[stretch]
        sentence = rank + np.searchsorted(self._empty - np.arange(len(self._empty)), rank, side="right")
        starts = self._offsets[sentence]
        return Places(starts, np.minimum(self._offsets[sentence + 1] - starts, self.body))

    def _rank(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many sentences with tokens lie before these tokens, with which sentences begin."""
        sentences = np.searchsorted(self._offsets, tokens, side="right") - 1
        return sentences - np.searchsorted(self._empty, sentences)


def _without_tokens(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the sentences that have no tokens, which are few."""
    found = [np.empty(0, np.int64)]
    for first in range(0, len(offsets) - 1, _AT_ONCE):
        found.append(first + np.flatnonzero(np.diff(offsets[first : first + _AT_ONCE + 1]) == 0))
    return np.concatenate(found)


class Text(NamedTuple):
    """One corpus of a row index."""

    store: TokenStore
    layout: Layout
    first_row: int
    """The number of its first row among all."""


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

    def texts(self, rows: NDArray[np.int64]) -> list[tuple[Text, NDArray[np.int64]]]:
        """The corpora of these rows, and which of the rows, by place, are theirs."""
        return [
            (Text(self._stores[corpus], self._layouts[corpus], int(self._first_row[corpus])), mine)
            for corpus, mine in self._by_corpus(rows)
        ]

    def _by_corpus(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        corpora = np.searchsorted(self._first_row, rows, side="right") - 1
        return [(int(corpus), np.flatnonzero(corpora == corpus)) for corpus in np.unique(corpora)]
