"""A treebank's words as a model reads them: rows of pieces, and a number for each word's tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import permuted
from mini_bert.data.task_sets.treebanks import TaggedSentence
from mini_bert.errors import InvalidInputError
from mini_bert.inference.hidden_states import WordRows, word_rows
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece


class Part(NamedTuple):
    """N words of a treebank, as a model reads them."""

    words: list[str]
    """As written."""
    types: list[tuple[int, ...]]
    """Their pieces: all that the model can tell apart."""
    rows: WordRows
    labels: NDArray[np.int64]
    """Places of their tags among all tags."""

    @classmethod
    def of(cls, tokenizer: WordPiece, sentences: Sequence[TaggedSentence], tags: Sequence[str], length: int) -> Part:
        """Lay sentences out in rows of at most `length` ids; labels are places in `tags`."""
        place = {tag: number for number, tag in enumerate(tags)}
        words = [word for sentence in sentences for word in sentence.words]
        labels = np.array([place[tag] for sentence in sentences for tag in sentence.tags], np.int64)
        pieces = {word: tuple(tokenizer.encode_ids(word)) for word in set(words)}
        rows = word_rows(tokenizer, [sentence.words for sentence in sentences], length=length)
        return cls(words, [pieces[word] for word in words], rows, labels)

    @property
    def sentences(self) -> int:
        """How many sentences, up to the last one with a word in it."""
        return int(self.rows.sentence[-1]) + 1

    def upto(self, sentences: int) -> Part:
        """The first sentences alone."""
        n = int(np.searchsorted(self.rows.sentence, sentences))
        row, *columns = self.rows[1:]
        rows = WordRows(self.rows.rows[: row[n - 1] + 1], row[:n], *(column[:n] for column in columns))
        return Part(self.words[:n], self.types[:n], rows, self.labels[:n])


def drawn(sentences: Sequence[TaggedSentence], most: int | None, seed: int, part: str) -> list[TaggedSentence]:
    """Sentences in an order drawn by `seed`, at most so many: so the first n are a sample of all.

    Raises:
        InvalidInputError: there is none.
    """
    if not sentences:
        raise InvalidInputError(part, got="no sentence", expected="at least one")
    numbers = np.arange(min(most or len(sentences), len(sentences)))
    return [sentences[n] for n in permuted(len(sentences), RandomStream(seed, f"probing/{part}"), numbers)]
