"""Which words stand together more often than chance: runs of words counted, and scored by (MA.5).

A run is known by 64 bits that are made from its pieces. Two that shared them would be taken for one; among ten million
runs, that comes about in one text of 300,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import mixed_bits

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenSet
    from mini_bert.text.wordpiece import WordPiece

FEWEST = 11
"""Occurrences of an n-gram that is counted."""
COVERED = 0.5
"""Share of the words of the text that are to stand in a collocation."""
COUNTED_TOKENS = 12_000_000
"""At most: what counting takes then is about half a gigabyte, for some seconds."""
_READ_AT_ONCE = 1 << 20
_PLACE = np.uint64(20)
_KEY = np.uint64(0xD6E8FEB86659FD93)


class Text(NamedTuple):
    """N words of a text."""

    ids: NDArray[np.uint16]
    """Tokens, with a special one behind each document."""
    starts: NDArray[np.int32]
    """[N] tokens with which words begin."""
    ends: NDArray[np.int32]
    """[N] tokens before which they end."""
    hashes: NDArray[np.uint64]
    """[N]"""
    joined: NDArray[np.bool_]
    """[N] whether the word before ends where this one begins."""

    @classmethod
    def of(cls, token_set: TokenSet, tokenizer: WordPiece) -> Text:
        """Of about `COUNTED_TOKENS` tokens at most, evenly spread."""
        parts, first = [], 0
        for ids in _pieces_of(token_set.documents(COUNTED_TOKENS), tokenizer.sep_id):
            ordinary, begins = borders_of(ids, tokenizer)
            starts = np.flatnonzero(begins)
            if starts.size:
                before = ordinary[starts - 1] & (starts > 0)
                ends = starts + np.add.reduceat(ordinary, starts, dtype=np.int64)
                places = ((first + starts).astype(np.int32), (first + ends).astype(np.int32))
                parts.append((ids, *places, word_hashes(ids, ordinary, begins), before))
                first += len(ids)
        if not parts:
            return cls(*(np.empty(0, kind) for kind in (np.uint16, np.int32, np.int32, np.uint64, bool)))
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


def borders_of(ids: NDArray[np.integer], tokenizer: WordPiece) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens are ordinary, and which begin a word."""
    special = np.zeros(tokenizer.vocab_size, bool)
    special[sorted(tokenizer.special_ids)] = True
    ordinary = ~special[ids]
    before = np.concatenate([[False], ordinary[:-1]])
    return ordinary, ordinary & ~(tokenizer.continuation[ids] & before)


def word_hashes(ids: NDArray[np.integer], ordinary: NDArray[np.bool_], begins: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """64 bits for each word, by its pieces in their order."""
    starts = np.flatnonzero(begins)
    if not starts.size:
        return np.empty(0, np.uint64)
    place = np.arange(len(ids)) - starts[np.maximum(np.cumsum(begins) - 1, 0)]
    bits = mixed_bits((ids.astype(np.uint64) << _PLACE) + place.astype(np.uint64), _KEY)
    return np.add.reduceat(np.where(ordinary, bits, np.uint64(0)), starts)


def followed(run: NDArray[np.uint64], word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits for a run of words with another word behind."""
    return mixed_bits(run, _KEY) + word


class Level(NamedTuple):
    """The n-grams of one length that occur often enough, and where."""

    positions: NDArray[np.int32]
    """Rising: words with which one begins."""
    ids: NDArray[np.int32]
    """Which one."""
    first: NDArray[np.int32]
    """Of each, its first position."""
    counts: NDArray[np.int64]

    def ids_at(self, positions: NDArray[np.int32]) -> NDArray[np.int32]:
        """Which n-grams begin at these positions, at each of which one does."""
        return self.ids[np.searchsorted(self.positions, positions)]


def levels_of(text: Text, longest: int) -> list[Level]:
    """The n-grams of 1 to `longest` words; an n-gram is counted where both of its (n−1)-grams are frequent."""
    levels, count = [], len(text.hashes)
    positions, keys = np.arange(count, dtype=np.int32), text.hashes
    for n in range(1, longest + 1):
        ids, first, counts = _frequent(keys)
        frequent = ids >= 0
        first = positions[first]
        positions, keys = positions[frequent], keys[frequent]
        levels.append(Level(positions, ids[frequent], first, counts))
        begins = np.zeros(count + 1, bool)
        begins[positions] = True
        goes_on = begins[positions + 1]
        goes_on &= np.append(text.joined, np.zeros(n, bool))[positions + n]
        positions, keys = positions[goes_on], keys[goes_on]
        keys = followed(keys, text.hashes[positions + n])
    return levels


def _frequent(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Number the keys that occur often: of each place its number or −1; of each number the first place and the count.

    Like `np.unique`, in half the memory.
    """
    order = np.argsort(keys, kind="stable")
    if not order.size:
        return np.empty(0, np.int32), order, order
    in_order = keys[order]
    borders = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
    del in_order
    counts = np.diff(borders, append=len(keys))
    often = counts >= FEWEST
    ids = np.empty(len(keys), np.int32)
    ids[order] = np.repeat(np.where(often, np.cumsum(often) - 1, -1).astype(np.int32), counts)
    return ids, order[borders[often]], counts[often]


def mutual_information(levels: list[Level], words: int) -> list[NDArray[np.float64]]:
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


def collocations(text: Text, longest: int) -> dict[str, NDArray[Any]]:
    """The collocations of a text, and the PMI of each: `pieces`, `sizes` and `pmi` of `masking_pmi.Collocations`."""
    words = len(text.hashes)
    levels = levels_of(text, longest)
    scores = mutual_information(levels, words)
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
    begin = np.concatenate([np.empty(0, np.int32), *first])
    last = begin + np.concatenate([np.empty(0, np.int64), *span]) - 1
    begin, end = text.starts[begin], text.ends[last]
    runs = [text.ids[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
    return {
        "pieces": np.concatenate([np.empty(0, np.int32), *runs]).astype(np.int32),
        "sizes": (end - begin).astype(np.int64),
        "pmi": np.concatenate([np.empty(0, np.float32), *pmi]),
    }
