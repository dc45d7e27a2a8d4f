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
which the half is reached); of long texts, every n-th document is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.kept_arrays import kept_arrays
from mini_bert.data.masking_units import NEVER, Rows, Words
from mini_bert.data.order import mixed_bits
from mini_bert.errors import DataError

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

FEWEST = 11
"""Occurrences of an n-gram that is counted."""
COVERED = 0.5
"""Share of the words of the text that are to stand in a collocation."""
COUNTED_TOKENS = 1 << 24
_READ_AT_ONCE = 1 << 20
_PLACE = np.uint64(20)
_KEY = np.uint64(0xD6E8FEB86659FD93)
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
        at[row, words.number[row, column]] = _word_hashes(rows.ids.ravel(), rows.ordinary.ravel(), words.begins.ravel())
        row, start = np.nonzero(words.lengths)
        keys = at[row, start]
        for n in range(2, min(self.longest, lengths.shape[1]) + 1):
            there = start + n <= lengths.shape[1]
            row, start, keys = row[there], start[there], keys[there]
            keys = _followed(keys, at[row, start + n - 1])
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

    def compute() -> dict[str, NDArray[np.generic]]:
        progress("counting collocations", 0, 0)
        text = _Text.of(token_set, tokenizer)
        return {name: array for name, array in _chosen(text, longest)._asdict().items() if name in kept}

    kept = ("pieces", "sizes", "pmi")
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


class _Text(NamedTuple):
    """N words of a text."""

    ids: NDArray[np.uint16]
    """Tokens, with a special one behind each document."""
    starts: NDArray[np.int64]
    """[N] tokens with which words begin."""
    ends: NDArray[np.int64]
    """[N] tokens before which they end."""
    hashes: NDArray[np.uint64]
    """[N]"""
    joined: NDArray[np.bool_]
    """[N] whether the word before ends where this one begins."""

    @classmethod
    def of(cls, token_set: TokenSet, tokenizer: WordPiece) -> _Text:
        """Every n-th document, so that about `COUNTED_TOKENS` tokens are read at most."""
        every = max(1, -(-token_set.n_tokens // COUNTED_TOKENS))
        parts, first = [], 0
        for ids in _pieces_of(islice(token_set.documents(), 0, None, every), tokenizer.sep_id):
            ordinary, begins = _borders(ids, tokenizer)
            starts = np.flatnonzero(begins)
            if starts.size:
                before = ordinary[starts - 1] & (starts > 0)
                ends = starts + np.add.reduceat(ordinary, starts, dtype=np.int64)
                parts.append((ids, first + starts, first + ends, _word_hashes(ids, ordinary, begins), before))
                first += len(ids)
        if not parts:
            return cls(*(np.empty(0, kind) for kind in (np.uint16, np.int64, np.int64, np.uint64, bool)))
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _pieces_of(documents: Iterator[NDArray[np.uint16]], separator: int) -> Iterator[NDArray[np.uint16]]:
    held: list[NDArray[np.uint16]] = []
    tokens, end = 0, np.array([separator], np.uint16)
    for document in documents:
        held += [document, end]
        tokens += len(document) + 1
        if tokens >= _READ_AT_ONCE:
            yield np.concatenate(held)
            held, tokens = [], 0
    if held:
        yield np.concatenate(held)


def _borders(ids: NDArray[np.integer], tokenizer: WordPiece) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens are ordinary, and which begin a word."""
    special = np.zeros(tokenizer.vocab_size, bool)
    special[sorted(tokenizer.special_ids)] = True
    ordinary = ~special[ids]
    before = np.concatenate([[False], ordinary[:-1]])
    return ordinary, ordinary & ~(tokenizer.continuation[ids] & before)


def _word_hashes(
    ids: NDArray[np.integer], ordinary: NDArray[np.bool_], begins: NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """64 bits for each word, by its pieces in their order."""
    starts = np.flatnonzero(begins)
    if not starts.size:
        return np.empty(0, np.uint64)
    place = np.arange(len(ids)) - starts[np.maximum(np.cumsum(begins) - 1, 0)]
    bits = mixed_bits((ids.astype(np.uint64) << _PLACE) + place.astype(np.uint64), _KEY)
    return np.add.reduceat(np.where(ordinary, bits, np.uint64(0)), starts)


def _followed(run: NDArray[np.uint64], word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits for a run of words with another word behind."""
    return mixed_bits(run, _KEY) + word


class _Level(NamedTuple):
    """The n-grams of one length that occur often enough, and where."""

    positions: NDArray[np.int64]
    """Rising: words with which one begins."""
    ids: NDArray[np.int64]
    """Which one."""
    first: NDArray[np.int64]
    """Of each, a position."""
    counts: NDArray[np.int64]

    def ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which n-grams begin at these positions, at each of which one does."""
        return self.ids[np.searchsorted(self.positions, positions)]


def _levels(text: _Text, longest: int) -> list[_Level]:
    """The n-grams of 1 to `longest` words; an n-gram is counted where both of its (n−1)-grams are frequent."""
    levels, count = [], len(text.hashes)
    positions, keys = np.arange(count), text.hashes
    for n in range(1, longest + 1):
        _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        often = counts >= FEWEST
        ids = np.where(often, np.cumsum(often) - 1, -1)[inverse]
        frequent = ids >= 0
        first = positions[first[often]]
        positions, keys = positions[frequent], keys[frequent]
        levels.append(_Level(positions, ids[frequent], first, counts[often]))
        begins = np.zeros(count + 1, bool)
        begins[positions] = True
        behind = np.minimum(positions + n, count - 1)
        goes_on = (positions + n < count) & text.joined[behind] & begins[positions + 1]
        positions, keys = positions[goes_on], _followed(keys[goes_on], text.hashes[behind[goes_on]])
    return levels


def _mutual_information(levels: list[_Level], words: int) -> list[NDArray[np.float64]]:
    """(MA.5) of the n-grams of each level; of the first level, the words, nothing."""
    best = [np.log(levels[0].counts / words)]
    scores = [np.empty(0)]
    for n, level in enumerate(levels[1:], start=2):
        cut = np.full(len(level.first), -np.inf)
        for k in range(1, n):
            left = best[k - 1][levels[k - 1].ids_at(level.first)]
            right = best[n - k - 1][levels[n - k - 1].ids_at(level.first + k)]
            np.maximum(cut, left + right, out=cut)
        whole = np.log(level.counts / words)
        scores.append(whole - cut)
        best.append(np.maximum(whole, cut))
    return scores


def _chosen(text: _Text, longest: int) -> Collocations:
    words = len(text.hashes)
    levels = _levels(text, longest)
    scores = _mutual_information(levels, words)
    needed: list[NDArray[np.float64]] = []
    """For each n-gram, of how many collocations the list must be to hold it."""
    covered = np.full(words, np.inf)
    for n, level, score in zip(range(2, longest + 1), levels[1:], scores[1:], strict=True):
        share = 0.5 ** min(n - 1, longest - 2) if longest > 2 else 1.0
        rank = np.empty(len(score))
        rank[np.argsort(-score, kind="stable")] = np.arange(1, len(score) + 1)
        needed.append(np.where(score > 0, rank / share, np.inf))
        for offset in range(n):
            covered[level.positions + offset] = np.minimum(covered[level.positions + offset], needed[-1][level.ids])
    half = int(COVERED * words)
    size = np.partition(covered, half)[half] if words else np.inf
    size = min(size, np.finfo(np.float64).max)
    first, span, pmi = [], [], []
    for n, level, score, need in zip(range(2, longest + 1), levels[1:], scores[1:], needed, strict=True):
        mine = np.flatnonzero(need <= size)
        mine = mine[np.argsort(need[mine], kind="stable")]
        first.append(level.first[mine])
        span.append(np.full(len(mine), n))
        pmi.append(score[mine].astype(np.float32))
    begin = np.concatenate([np.empty(0, np.int64), *first])
    last = begin + np.concatenate([np.empty(0, np.int64), *span]) - 1
    begin, end = text.starts[begin], text.ends[last]
    runs = [text.ids[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
    return Collocations(
        np.concatenate([np.empty(0, np.int32), *runs]).astype(np.int32),
        end - begin,
        np.concatenate([np.empty(0, np.float32), *pmi]),
    )


def _indexed(found: Collocations, tokenizer: WordPiece, longest: int) -> Collocations:
    """With the hashes by which they are found again."""
    ordinary, begins = _borders(found.pieces, tokenizer)
    begins[np.cumsum(found.sizes) - found.sizes] = True
    words = _word_hashes(found.pieces, ordinary, begins)
    last = np.cumsum(np.add.reduceat(begins.astype(np.int64), np.cumsum(found.sizes) - found.sizes))
    first = np.concatenate([[0], last[:-1]])
    keys = words[first]
    table = np.zeros(1 << _TABLE_BITS, bool)
    for n in range(1, int((last - first).max())):
        more = first + n < last
        keys[more] = _followed(keys[more], words[first[more] + n])
        table[keys[more] >> np.uint64(64 - _TABLE_BITS)] = True
    hashes = np.unique(keys)
    return found._replace(longest=longest, hashes=hashes, table=table)
