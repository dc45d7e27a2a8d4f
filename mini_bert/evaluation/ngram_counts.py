"""How often does each piece, and each pair of neighbours, occur in the training text?

One pass over the documents, in bounded memory: pairs are gathered until there are a few million, sorted and counted as
32-bit keys, and merged into what was counted before. Every twentieth section of the text is set aside for choosing
smoothing and mixing weights, which are so chosen on training text, never on held-out text; its counts are added in the
end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import InvalidInputError

_TOKENS_AT_ONCE = 1 << 22
_SECTION = 4096
_TUNED_ON = 20
_TUNING_TOKENS = 1 << 20

Ids = NDArray[np.int64]


class PairCounts(NamedTuple):
    """How often piece w stood beside context c, as rows of a sparse matrix [contexts, pieces]."""

    starts: Ids
    """[V + 1] where the pairs of each context begin"""
    pieces: NDArray[np.uint16]
    """[pairs] ascending within a context"""
    counts: Ids
    """[pairs]"""
    totals: Ids
    """[V] all occurrences of each context"""

    @classmethod
    def of(cls, keys: NDArray[np.uint32], counts: Ids, vocab_size: int) -> PairCounts:
        """From ascending keys `context << 16 | piece` and their counts."""
        starts = np.searchsorted(keys, np.arange(vocab_size + 1, dtype=np.uint64) << 16)
        cumulative = np.concatenate([[0], np.cumsum(counts)])
        return cls(starts, keys.astype(np.uint16), counts, np.diff(cumulative[starts]))

    @property
    def kinds(self) -> Ids:
        """[V] how many different pieces were seen beside each context."""
        return np.diff(self.starts)

    def at(self, contexts: Ids, pieces: Ids) -> Ids:
        """Counts [M] of pairs (context, piece) [M]."""
        keys = np.repeat(np.arange(len(self.totals)), self.kinds) << 16 | self.pieces
        wanted = contexts << 16 | pieces
        place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        return np.where(keys[place] == wanted, self.counts[place], 0) if len(keys) else np.zeros(len(wanted), np.int64)

    def rows(self, contexts: Ids) -> NDArray[np.float64]:
        """Counts [M, V] of all pieces beside each context [M]."""
        lengths = self.kinds[contexts]
        row = np.repeat(np.arange(len(contexts)), lengths)
        within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        pair = self.starts[contexts][row] + within
        dense = np.zeros((len(contexts), len(self.totals)))
        dense[row, self.pieces[pair]] = self.counts[pair]
        return dense


@dataclass(frozen=True)
class NgramCounts:
    """Counts of the training text, and a slice of it for choosing weights."""

    unigrams: Ids
    """[V]"""
    after: PairCounts
    """context = left neighbour"""
    before: PairCounts
    """context = right neighbour"""

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.unigrams)

    @property
    def tokens(self) -> int:
        """All tokens counted."""
        return int(self.unigrams.sum())


class Fit(NamedTuple):
    """What `count_ngrams` returns."""

    counts: NgramCounts
    """of the whole training text"""
    without_slice: NgramCounts
    """of the text without the slice, to be judged on it"""
    sections: list[Ids]
    """the slice: runs of neighbouring tokens"""


def count_ngrams(documents: Iterable[NDArray[np.integer]], vocab_size: int) -> Fit:
    """Count `documents`, each a vector of token ids in which neighbours are neighbours in the text.

    Raises:
        InvalidInputError: a document is no vector of integers in [0, V), V is above 65,536, or there is no token.
    """
    if not 1 <= vocab_size <= 1 << 16:
        raise InvalidInputError("vocab_size", got=vocab_size, expected="1 to 65536, so that an id fits 16 bits")
    rest, slice_ = _Counter(vocab_size), _Counter(vocab_size)
    sections: list[Ids] = []
    kept = 0
    for number, (section, is_first) in enumerate(_sections(documents)):
        set_aside = number % _TUNED_ON == _TUNED_ON // 2
        (slice_ if set_aside else rest).add(section, is_first)
        if set_aside and kept < _TUNING_TOKENS:
            sections.append(section.astype(np.int64))
            kept += len(section)
    without_slice = rest.finish()
    rest.merge(slice_)
    counts = rest.finish()
    if not counts.tokens:
        raise InvalidInputError("documents", got="no token", expected="at least one token")
    return Fit(counts, without_slice, sections)


def _sections(documents: Iterable[NDArray[np.integer]]) -> Iterator[tuple[NDArray[np.integer], bool]]:
    """Cut documents into sections that share one token with the next, so that no pair is lost; True on the first."""
    for document in documents:
        ids = np.asarray(document)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise InvalidInputError("documents", got=f"{ids.dtype} {list(ids.shape)}", expected="vectors of token ids")
        for start in range(0, max(len(ids) - 1, min(len(ids), 1)), _SECTION):
            yield ids[start : start + _SECTION + 1], start == 0


class _Counter:
    """Counts of a growing text: keys sorted so far, and sections waiting to be counted."""

    def __init__(self, vocab_size: int) -> None:
        self._V = vocab_size
        self._unigrams = np.zeros(vocab_size, np.int64)
        self._keys = np.empty(0, np.uint32)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[NDArray[np.integer]] = []
        self._shared: list[int] = []
        self._n_waiting = 0

    def add(self, section: NDArray[np.integer], is_first: bool) -> None:
        """Count a section; its first token was counted with the section before, unless it is a document's first."""
        self._waiting.append(section)
        if not is_first:
            self._shared.append(self._n_waiting)
        self._n_waiting += len(section)
        if self._n_waiting >= max(_TOKENS_AT_ONCE, len(self._keys)):
            self._sort()

    def merge(self, other: _Counter) -> None:
        """Add what another has counted."""
        other._sort()
        self._sort()
        self._unigrams += other._unigrams
        self._merge(other._keys, other._counts)

    def finish(self) -> NgramCounts:
        """The counts so far; more may be added afterwards."""
        self._sort()
        swapped = self._keys >> np.uint32(16) | self._keys << np.uint32(16)
        order = np.argsort(swapped)
        return NgramCounts(
            self._unigrams.copy(),
            PairCounts.of(self._keys, self._counts, self._V),
            PairCounts.of(swapped[order], self._counts[order], self._V),
        )

    def _sort(self) -> None:
        if not self._waiting:
            return
        ids = np.concatenate(self._waiting)
        if not (ids.min() >= 0 and ids.max() < self._V):
            raise InvalidInputError(
                "documents", got=f"ids from {ids.min()} to {ids.max()}", expected=f"ids from 0 to {self._V - 1}"
            )
        self._unigrams += np.bincount(ids, minlength=self._V)
        self._unigrams -= np.bincount(ids[self._shared], minlength=self._V)
        ids = ids.astype(np.uint32)
        pairs = ids[:-1] << np.uint32(16) | ids[1:]
        joins = np.cumsum([len(section) for section in self._waiting[:-1]], dtype=np.int64) - 1
        self._waiting, self._shared, self._n_waiting = [], [], 0
        self._merge(*np.unique(np.delete(pairs, joins), return_counts=True))

    def _merge(self, keys: NDArray[np.uint32], counts: Ids) -> None:
        """Add up two ascending lists."""
        both = np.concatenate([self._keys, keys])
        order = np.argsort(both, kind="stable")
        both, counts = both[order], np.concatenate([self._counts, counts])[order]
        is_new = np.ones(len(both), bool)
        is_new[1:] = both[1:] != both[:-1]
        first = np.flatnonzero(is_new)
        self._keys = both[first]
        self._counts = np.add.reduceat(counts, first) if len(first) else counts
