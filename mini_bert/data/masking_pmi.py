"""Collocations: words that occur together far more often than each for itself would let one expect.

    PMI(w₁ … wₙ) = min over σ of  log p(w₁ … wₙ) − Σ log p(s), s in σ                                       (MA.5)

σ are the ways to cut the n words into shorter runs, p(s) is the number of times that s occurs divided by the number of
words. The minimum keeps "the united states of" from living on "united states". Counted are n-grams of 2 to `longest`
words with over 10 occurrences. Each length has a list of its own, best PMI first, because PMI grows with n: half of the
collocations are bigrams, a quarter trigrams, …, the last two lengths share what is left alike; and so many are taken
that half of the words of the text stand in one, or all whose PMI is positive.

In a row, the longest collocation counts where one holds another; of two that overlap, one is drawn.

Source: Levine et al. 2021, "PMI-Masking: Principled masking of correlated spans", equation 3 and sections 3 and 4;
AI21Labs/pmi-masking, README. Differs from source: the list's size follows from the text (there: 800,000 for 16 GB, for
which the half is reached); of long texts, an evenly spread part is counted; runs may have up to `masking.span_max`
words (there: 5), so that the shares are spread over more lengths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.collocation_counts import (
    COUNTED_TOKENS,
    COVERED,
    FEWEST,
    Text,
    borders_of,
    collocations,
    followed,
    word_hashes,
)
from mini_bert.data.kept_arrays import kept_arrays
from mini_bert.data.masking_units import NEVER, Rows, Words
from mini_bert.errors import DataError

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

_TABLE_BITS = 20


class Collocations(NamedTuple):
    """Runs of words that are hidden together."""

    pieces: NDArray[np.int32] = np.empty(0, np.int32)
    """Ids of all of them, one behind the other."""
    sizes: NDArray[np.int64] = np.empty(0, np.int64)
    """Pieces of each."""
    pmi: NDArray[np.float32] = np.empty(0, np.float32)
    """Of each, in nats."""
    longest: int = 0
    """Words."""
    hashes: NDArray[np.uint64] = np.empty(0, np.uint64)
    """Sorted."""
    table: NDArray[np.bool_] = np.empty(0, bool)
    """[2**20] whether the hash of a collocation, or of its first words, begins with these bits: most runs of words are
    given up after two."""

    def texts(self, tokenizer: WordPiece) -> list[str]:
        """What they read."""
        ends = np.cumsum(self.sizes)
        return [tokenizer.decode(self.pieces[stop - size : stop].tolist()) for stop, size in zip(ends, self.sizes)]  # noqa: B905

    def units(self, rows: Rows, words: Words) -> NDArray[np.int64]:
        """For each word the number of the first word of its unit, [B, W]; of a word outside collocations, its own."""
        lengths = self._longest_at(rows, words)
        count = lengths.shape[1]
        ends = np.where(lengths > 1, np.arange(count) + lengths, 0)
        before = np.zeros_like(ends)
        before[:, 1:] = np.maximum.accumulate(ends, axis=1)[:, :-1]
        row, start = np.nonzero((ends > 0) & (before < ends))
        first = np.broadcast_to(np.arange(count), lengths.shape).copy()
        keys = rows.words("overlap")[row, words.columns[row, start]]
        runs = lengths[row, start]
        free = np.ones((len(lengths), count), bool)
        while row.size:
            lowest = np.full(free.size, NEVER)
            spread = [(row * count + start + offset)[runs > offset] for offset in range(int(runs.max()))]
            for offset, places in enumerate(spread):
                np.minimum.at(lowest, places, keys[runs > offset])
            wins = np.ones(len(row), bool)
            for offset, places in enumerate(spread):
                wins[runs > offset] &= lowest[places] == keys[runs > offset]
            for offset, places in enumerate(spread):
                mine = wins[runs > offset]
                free.flat[places[mine]] = False
                first.flat[places[mine]] = start[runs > offset][mine]
            stays = ~wins
            for offset, places in enumerate(spread):
                stays[runs > offset] &= free.flat[places]
            row, start, runs, keys = row[stays], start[stays], runs[stays], keys[stays]
        return first

    def _longest_at(self, rows: Rows, words: Words) -> NDArray[np.int64]:
        """Words of the longest collocation that begins at each word, [B, W]; 1 where none does."""
        lengths = np.ones(words.lengths.shape, np.int64)
        at = np.zeros(words.lengths.shape, np.uint64)
        row, column = np.nonzero(words.begins)
        at[row, words.number[row, column]] = word_hashes(rows.ids.ravel(), rows.ordinary.ravel(), words.begins.ravel())
        row, start = np.nonzero(words.lengths)
        keys = at[row, start]
        for n in range(2, min(self.longest, lengths.shape[1]) + 1):
            there = start + n <= lengths.shape[1]
            row, start, keys = row[there], start[there], keys[there]
            keys = followed(keys, at[row, start + n - 1])
            goes_on = words.joined[row, start + n - 1] & self.table[keys >> np.uint64(64 - _TABLE_BITS)]
            row, start, keys = row[goes_on], start[goes_on], keys[goes_on]
            found = self.hashes[np.minimum(np.searchsorted(self.hashes, keys), len(self.hashes) - 1)] == keys
            lengths[row[found], start[found]] = n
        return lengths


def find_collocations(token_set: TokenSet, tokenizer: WordPiece, longest: int, progress: Progress) -> Collocations:
    """The collocations of 2 to `longest` words of a text, counted now or from the cache.

    Raises:
        DataError: there is none.
        ChecksumError, StorageError: as `kept_arrays`.
    """

    def compute() -> dict[str, NDArray[Any]]:
        progress("counting collocations", 0, 0)
        return collocations(Text.of(token_set, tokenizer), longest)

    key = ("collocations 1", token_set.fingerprint, tokenizer.fingerprint, longest, FEWEST, COVERED, COUNTED_TOKENS)
    found = Collocations(**kept_arrays("collocations", key, compute, progress))
    if not len(found.sizes):
        raise DataError(
            "masking.kind",
            got=f"pmi for a text in which no words occur together over {FEWEST - 1} times",
            expected="a longer text",
            advice="Other kinds need none: whole_word, span.",
        )
    return _indexed(found, tokenizer, longest)


def _indexed(found: Collocations, tokenizer: WordPiece, longest: int) -> Collocations:
    """With the hashes by which they are found again."""
    ordinary, begins = borders_of(found.pieces, tokenizer)
    begins[np.cumsum(found.sizes) - found.sizes] = True
    words = word_hashes(found.pieces, ordinary, begins)
    last = np.cumsum(np.add.reduceat(begins.astype(np.int64), np.cumsum(found.sizes) - found.sizes))
    first = np.concatenate([[0], last[:-1]])
    keys = words[first]
    table = np.zeros(1 << _TABLE_BITS, bool)
    for n in range(1, int((last - first).max())):
        more = first + n < last
        keys[more] = followed(keys[more], words[first[more] + n])
        table[keys[more] >> np.uint64(64 - _TABLE_BITS)] = True
    hashes = np.unique(keys)
    return found._replace(longest=longest, hashes=hashes, table=table)
