"""Rows of two segments, `[CLS] A [SEP] B [SEP]`: what `next_sentence` and `sentence_order` ask about.

Row r of the packed text with T - 3 tokens is moved to the nearest beginning of a sentence. A goes from there to one of
the sentence ends within the row, drawn at random; B is, at random,

    in order    what follows A in the document                  next_sentence 0, sentence_order 0
    other       what another document of the corpus says        next_sentence 1 (Devlin et al. 2019, section 3.1)
    swapped     what comes before A in its document             sentence_order 1 (Lan et al. 2020, section 3.1)

each with the same probability among those that are asked about, so that half of the answers are 1. Whatever B is, it
begins with a sentence and is cut where the row is full, and A is drawn before B is: the form of a row tells nothing
about the answer, and no row has padding. What comes before A is cut at its end too, and so may end a sentence before A.

Nobody is asked about a row that lies within one long sentence: it is one stretch of text, cut in the middle. Where the
document has too little text before A to swap, the order is not asked about.

Differs from the sources: segments are not shortened at random, and both tasks may share a batch (then a third of the
rows is of each kind; an `other` row says nothing about order, a swapped one nothing about what follows).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.packing import Layout, PackedRows, RowIndex
from mini_bert.errors import DataError
from mini_bert.random_streams import RandomStream

NOT_ASKED = -1
"""In the place of an answer."""

_IN_ORDER, _OTHER, _SWAPPED = 0, 1, 2


class PairRows(NamedTuple):
    """B rows, and the right answers."""

    ids: NDArray[np.int32]
    """[B, T]"""
    types: NDArray[np.int32]
    """[B, T] 0 up to the first [SEP], 1 behind it."""
    next_sentence: NDArray[np.int64]
    """[B] 0 if B follows A, 1 if it is another document's, -1 where nobody is asked."""
    sentence_order: NDArray[np.int64]
    """[B] 0 if A and B are in order, 1 if swapped, -1 where nobody is asked."""


class SentencePairs:
    """Pairs of a packed text.

    Args:
        rows: the packed rows of T - 1 tokens: one [SEP] more makes T.
        next_sentence: whether B may be another document's.
        sentence_order: whether B may be what comes before A.
        cls_id: the piece that a row begins with.
        sep_id: the piece that a segment ends with.

    Raises:
        DataError: `next_sentence`, and no corpus has two documents that are long enough.
    """

    def __init__(self, rows: RowIndex, *, next_sentence: bool, sentence_order: bool, cls_id: int, sep_id: int) -> None:
        self._rows, self._next_sentence, self._sentence_order = rows, next_sentence, sentence_order
        self._cls_id, self._sep_id = cls_id, sep_id
        last_rows = np.cumsum([count for count in rows.counts if count]) - 1
        documents = [
            _packed(text.layout).documents(last_rows[[i]] - text.first_row)
            for i, (text, _) in enumerate(rows.texts(last_rows))
        ]
        if next_sentence and all(of.first_rows[0] == 0 for of in documents):
            raise DataError(
                "tasks.next_sentence",
                got="no corpus with two documents that fill a row",
                expected="at least two, for sentences that do not follow each other",
                advice="Give a text with more documents, or a smaller --model.max-position-embeddings.",
            )

    def read(self, numbers: NDArray[np.int64], stream: RandomStream, first_row: int = 0) -> PairRows:
        """The rows of these numbers; row b is number `first_row + b` of the global batch."""
        B, body = len(numbers), self._rows.length - 2
        draws = stream.uniform(B, 3, first_row=first_row)
        ids, types = np.empty((B, body + 3), np.int32), np.zeros((B, body + 3), np.int32)
        next_sentence, sentence_order = np.full(B, NOT_ASKED), np.full(B, NOT_ASKED)
        for text, mine in self._rows.texts(numbers):
            windows = _Windows(text.store.sentence_offsets, _packed(text.layout), numbers[mine] - text.first_row, body)
            cut, other, kind = draws[mine].T
            starts, lengths, paired = windows.cut(cut)
            others, can_differ = windows.elsewhere(other, lengths)
            before, can_swap = windows.before(body - lengths)
            differ, swap = can_differ & paired & self._next_sentence, can_swap & paired & self._sentence_order
            kinds = np.floor(kind * (1 + differ + swap)).astype(np.int64)  # all that are possible, alike
            kinds = np.where((kinds == _OTHER) & ~differ, _SWAPPED, kinds)
            seconds = np.choose(kinds, [starts + lengths, others, before])
            next_sentence[mine] = np.where(differ & (kinds != _SWAPPED), kinds == _OTHER, NOT_ASKED)
            sentence_order[mine] = np.where(swap & (kinds != _OTHER), kinds == _SWAPPED, NOT_ASKED)
            places = zip(mine.tolist(), starts.tolist(), lengths.tolist(), seconds.tolist(), strict=True)
            for row, first, length, second in places:
                ids[row, 1 : length + 1] = text.store.read(first, first + length)
                ids[row, length + 1] = self._sep_id
                ids[row, length + 2 : -1] = text.store.read(second, second + body - length)
                types[row, length + 2 :] = 1
        ids[:, 0], ids[:, -1] = self._cls_id, self._sep_id
        return PairRows(ids, types, next_sentence, sentence_order)


class _Windows:
    """Rows of one corpus, moved to where sentences begin; all that follows is vectorised over them."""

    def __init__(self, sentences: NDArray[np.int64], layout: PackedRows, rows: NDArray[np.int64], body: int) -> None:
        self._sentences, self._layout, self._rows, self._body = sentences, layout, rows, body
        self._documents = layout.documents(rows)
        self._own = layout.places(rows).starts
        before = np.searchsorted(sentences, self._own, side="right") - 1
        last, following = sentences[before], sentences[np.minimum(before + 1, len(sentences) - 1)]
        nearer = (following - self._own < self._own - last) & (following + body <= self._documents.stops)
        self.starts = np.where(nearer, following, last)
        """[n] where a sentence begins; `body` tokens from there on are of the same document."""

    def cut(self, draws: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Where A begins, how long it is, and whether it is a pair at all: A ends where a sentence within the row does.

        Where there is none, or no beginning of a sentence near, it is the row as it was, cut in the middle.
        """
        first = np.searchsorted(self._sentences, self.starts, side="right")
        ends = np.searchsorted(self._sentences, self.starts + self._body, side="left") - first
        paired = (ends > 0) & (np.abs(self.starts - self._own) <= self._body // 2)
        chosen = np.where(paired, first + np.floor(draws * ends).astype(np.int64), 0)
        lengths = np.where(paired, self._sentences[chosen] - self.starts, self._body // 2)
        return np.where(paired, self.starts, self._own), lengths, paired

    def before(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The last sentence from which so many tokens go, at most, to where A begins; whether the document has it."""
        latest = self.starts - lengths
        enough = latest >= self._documents.starts
        return self._sentence_at(np.where(enough, latest, self.starts)), enough

    def elsewhere(
        self, draws: NDArray[np.float64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A sentence of another document, `lengths` tokens into a row drawn there; whether there is another."""
        own = self._documents
        others = self._layout.count - own.rows
        drawn = np.floor(draws * others).astype(np.int64)
        rows = drawn + np.where(drawn >= own.first_rows, own.rows, 0)
        there = others > 0
        found = _Windows(self._sentences, self._layout, np.where(there, rows, 0), self._body)
        return found._sentence_at(found.starts + lengths), there

    def _sentence_at(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the sentences of these tokens begin."""
        return np.asarray(self._sentences[np.searchsorted(self._sentences, tokens, side="right") - 1])


def _packed(layout: Layout) -> PackedRows:
    assert isinstance(layout, PackedRows)
    return layout
