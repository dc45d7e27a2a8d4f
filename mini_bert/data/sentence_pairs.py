"""Rows of two segments, `[CLS] A [SEP] B [SEP]`: what `next_sentence` and `sentence_order` ask about.

Row r of the packed text with T - 3 tokens is moved on to the next beginning of a sentence. A goes from there to the end
of the sentence that a token lies in, drawn at random from the first half of the row; B is, at random,

    in order    what follows A in the document                  next_sentence 0, sentence_order 0
    other       what another document of the corpus says        next_sentence 1 (Devlin et al. 2019, section 3.1)
    swapped     what comes shortly before A in its document     sentence_order 1 (Lan et al. 2020, section 3.1)

each with the same probability among those that are asked about, so that half of the answers are 1. Whatever B is, it is
cut where the row is full, and it begins with the first sentence behind a place that was chosen without a look at what
follows: behind a token of the row, of another row, or one from which B ends before A begins, less than two rows away.
So the form of a row tells nothing about the answer (docs/derivations/sentence_tasks.md), and no row has padding.

Nobody is asked about a row in which no sentence ends in time: it is one stretch of text, cut in the middle. Where the
document has too little text before A to swap, or no sentence begins there, the order is not asked about.

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
        self.starts = np.asarray(sentences[np.searchsorted(sentences, self._own)])
        """[n] where the first sentence begins that does not begin before the row"""

    def cut(self, draws: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Where A begins, how long it is, and whether it is a pair at all: A ends with the sentence of a token.

        Where that goes on to the row's end, or no sentence begins near, it is the row as it was, cut in the middle.
        """
        half = self._body // 2
        whole = (self.starts - self._own < self._body) & (self.starts + self._body <= self._documents.stops)
        tokens = np.where(whole, self.starts + np.floor(draws * half).astype(np.int64), self._own)
        lengths = self._sentence_behind(tokens) - self.starts
        paired = whole & (lengths < self._body)
        return np.where(paired, self.starts, self._own), np.where(paired, lengths, half), paired

    def before(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A sentence from which so many tokens end before the row, by less than half of it; whether there is one."""
        latest = self._own - lengths
        sentence = self._sentence_behind(np.maximum(latest - self._body // 2, self._documents.starts))
        return sentence, sentence <= latest

    def elsewhere(
        self, draws: NDArray[np.float64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The first sentence in a row of another document behind its first token; whether all of B is there."""
        own = self._documents
        others = self._layout.count - own.rows
        drawn = np.floor(draws * others).astype(np.int64)
        rows = drawn + np.where(drawn >= own.first_rows, own.rows, 0)
        found = _Windows(self._sentences, self._layout, np.where(others > 0, rows, 0), self._body)
        sentence = self._sentence_behind(found._own)
        return sentence, (others > 0) & (sentence + self._body - lengths <= found._documents.stops)

    def _sentence_behind(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the first sentences behind these tokens begin."""
        return np.asarray(self._sentences[np.searchsorted(self._sentences, tokens, side="right")])


def _packed(layout: Layout) -> PackedRows:
    assert isinstance(layout, PackedRows)
    return layout
