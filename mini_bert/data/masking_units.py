"""Words, and spans of words, that are hidden together: taken in random order until a row's number of tokens is reached.

A word is an ordinary piece with the ## pieces that follow it. Whoever comes first in the order takes the words from
there on, as many as were drawn for it, up to the end of the text, a special token, or a word that is hidden already,
and no more than still fit: a unit that does not fit is cut by whole words, and passed by if not one of them fits. If
nothing fits in a row at all, the first word is taken all the same.

So a row never has more hidden than was wanted (but for that last case), and fewer only if every word that is left is
longer than what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.data.masking import Pieces

NEVER = np.uint64(2**64 - 1)
"""The key of what is never chosen."""


class Rows(NamedTuple):
    """What is chosen from: B rows, and how many tokens of each."""

    ids: NDArray[np.int32]
    """[B, T]"""
    ordinary: NDArray[np.bool_]
    """[B, T] True at pieces that may be chosen."""
    wanted: NDArray[np.int64]
    """[B]"""
    pieces: Pieces
    stream: RandomStream
    first_row: int

    def words(self, site: str) -> NDArray[np.uint64]:
        """64 random bits for each token, [B, T]."""
        return self.stream.at(site).row_words(self.first_row, *self.ids.shape)

    def keys(self) -> NDArray[np.uint64]:
        """The smaller, the sooner a token is chosen; [B, T]."""
        return np.where(self.ordinary, self.words("choice"), NEVER)


class Choice(NamedTuple):
    """What is hidden in B rows, and what shares a fate."""

    chosen: NDArray[np.bool_]
    """[B, T]"""
    fate_columns: NDArray[np.int64] | None = None
    """[B, T] the column whose draw decides between [MASK], a random piece and the piece itself; None: each its own."""


class Words(NamedTuple):
    """The words of B rows, W of them in the longest."""

    begins: NDArray[np.bool_]
    """[B, T]"""
    number: NDArray[np.int64]
    """[B, T] number in the row of the word that a token belongs to; of no meaning at special tokens."""
    lengths: NDArray[np.int64]
    """[B, W] pieces; 0 where a row has fewer words."""
    columns: NDArray[np.int64]
    """[B, W] column of the first piece; 0 where there is no word."""
    joined: NDArray[np.bool_]
    """[B, W] whether the word before ends where this one begins."""

    def at_begins(self, of_tokens: NDArray[np.generic], elsewhere: object) -> NDArray[np.generic]:
        """What stands at the words' first tokens, [B, W], of something [B, T]."""
        found = np.full(self.lengths.shape, elsewhere, of_tokens.dtype)
        row, column = np.nonzero(self.begins)
        found[row, self.number[row, column]] = of_tokens[row, column]
        return found


def words_of(ids: NDArray[np.int32], ordinary: NDArray[np.bool_], pieces: Pieces) -> Words:
    """Where words begin and end. A ## piece that follows no ordinary piece is a word of its own."""
    before = _before(ordinary)
    begins = ordinary & ~(pieces.continuation[ids] & before)
    return _between(begins, ordinary, before)


def grouped(words: Words, first: NDArray[np.int64], ordinary: NDArray[np.bool_]) -> Words:
    """Words put together to units, told the number of the first word of each word's unit, [B, W]."""
    alone = np.zeros_like(ordinary)
    row, column = np.nonzero(words.begins)
    number = words.number[row, column]
    alone[row, column] = first[row, number] == number
    return _between(alone, ordinary, _before(ordinary))


def _before(ordinary: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[B, T] whether the token before is ordinary."""
    before = np.zeros_like(ordinary)
    before[:, 1:] = ordinary[:, :-1]
    return before


def _between(begins: NDArray[np.bool_], ordinary: NDArray[np.bool_], before: NDArray[np.bool_]) -> Words:
    number = np.cumsum(begins, axis=1) - 1
    shape = (len(begins), int(number.max(initial=-1)) + 1)
    row, column = np.nonzero(ordinary)
    lengths = np.bincount(row * shape[1] + number[row, column], minlength=shape[0] * shape[1]).reshape(shape)
    row, column = np.nonzero(begins)
    columns, joined = np.zeros(shape, np.int64), np.zeros(shape, bool)
    columns[row, number[row, column]] = column
    joined[row, number[row, column]] = before[row, column]
    return Words(begins, number, lengths, columns, joined)


def take(
    words: Words,
    keys: NDArray[np.uint64] | NDArray[np.float64],
    reach: NDArray[np.int64],
    wanted: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Take words in the order of their keys, [B, W] → number of the first word taken with each, −1 where not taken.

    Args:
        words: of B rows.
        keys: [B, W]; words that are not there must have the largest.
        reach: [B, W] how many words go together from here on, at least 1.
        wanted: [B] tokens.
    """
    rows, count = words.lengths.shape
    taken = np.full((rows, count), -1)
    if not count:
        return taken
    longest = int(reach.max())
    order = np.argsort(keys, axis=1, kind="stable")
    too_long = int(words.lengths.sum(axis=1).max()) + 1
    sizes = np.full((rows, count + longest), too_long)
    sizes[:, :count] = np.where(words.lengths > 0, words.lengths, too_long)
    goes_on = np.zeros((rows, count + longest), bool)
    goes_on[:, :count] = words.joined
    offsets = np.arange(longest)
    left, there = wanted.copy(), np.count_nonzero(words.lengths, axis=1)
    for rank in range(count):
        open_rows = np.flatnonzero((left > 0) & (rank < there))
        if not open_rows.size:
            break
        first = order[open_rows, rank]
        if longest == 1:
            size = words.lengths[open_rows, first]
            fits = size <= left[open_rows]
            open_rows, first = open_rows[fits], first[fits]
            taken[open_rows, first] = first
            left[open_rows] -= size[fits]
            continue
        places = (open_rows[:, None], first[:, None] + offsets)
        within = goes_on[places] & (offsets < reach[open_rows, first][:, None])
        within[:, 0] = True
        size = np.where(within, sizes[places], too_long).cumsum(axis=1)
        unit, offset = np.nonzero(size <= left[open_rows, None])
        taken[open_rows[unit], first[unit] + offset] = first[unit]
        sizes[open_rows[unit], first[unit] + offset] = too_long
        spent = np.zeros(len(open_rows), np.int64)
        np.maximum.at(spent, unit, size[unit, offset])
        left[open_rows] -= spent
    nothing = np.flatnonzero((left == wanted) & (there > 0))
    taken[nothing, order[nothing, 0]] = order[nothing, 0]
    return taken


def chosen_words(rows: Rows, words: Words, taken: NDArray[np.int64], *, one_fate: bool) -> Choice:
    """The tokens of the words that `take` took; with one fate for all that were taken together, or each its own."""
    if not taken.size:
        return Choice(np.zeros_like(rows.ordinary))
    row = np.arange(len(taken))[:, None]
    first = taken[row, np.maximum(words.number, 0)]
    return Choice(rows.ordinary & (first >= 0), words.columns[row, first] if one_fate else None)


def exponential(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Exponentially distributed numbers: −log of the middles of 2**53 steps from 0 to 1.

    Divided by weights and sorted, they order things as drawing without replacement in proportion to the weights does
    (Efraimidis and Spirakis 2006, Information Processing Letters 97).
    """
    return np.asarray(-np.log(((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53))
