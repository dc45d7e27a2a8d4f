"""What does a model make of a text that knows four pieces to the left? Interpolated, modified Kneser-Ney.

With g = u w an n-gram of context u and piece w, and u' the context without its first piece:

    p_k(w | u) = max(a(u w) − D(a(u w)), 0) / T(u) + γ(u) p_{k−1}(w | u')                        (KN.1)
    γ(u)       = (D_1 N_1(u) + D_2 N_2(u) + D_3 N_3+(u)) / T(u)                                  (KN.2)
    T(u)       = Σ_w a(u w),   N_j(u) = number of w with a(u w) = j
    a(g)       = c(g) of the longest n-grams and of those that begin a text,
                 number of different pieces seen before g for all others                        (KN.3)
    D_j        = j − (j + 1) Y n_{j+1} / n_j,   Y = n_1 / (n_1 + 2 n_2)                          (KN.4)

with n_j the number of n-grams of that length with a = j, and D_j for j = 1, 2 and 3 or more. Below p_1 stands the
uniform distribution, and an unseen context leaves it at u'. So every probability is positive, and those of a context
sum to 1. A boundary stands before and behind each text, as one piece more: context at the start, predicted at the end.

Every distinct k-gram has a number, its rank among those of its length; a (k+1)-gram is the number of its first k pieces
and its last piece, in one integer of 64 bits, sorted. Nothing is hashed, so nothing collides. The tables take about 30
bytes a token of the texts, 12 an n-gram and 4 a context, and making them 75: 0.6 GB and 1.5 GB for 20 million tokens.

It stands beside the models because it answers what they answer, for `probing` and `evaluation` alike.

Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3.
Differs: where a count of counts is 0 or a D_j would be negative, as in small texts, the three are 0.5, 1 and 1.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError

ORDER = 5

_PIECE_BITS = 17
"""Ids up to 65,535, and the boundary behind them."""
_TEXTS_AT_ONCE = 1 << 16
_SORTED_AT_ONCE = 1 << 21
"""n-grams, in some 50 bytes each."""
_PLAIN_DISCOUNTS = (0.5, 1.0, 1.5)

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Table(NamedTuple):
    """All distinct k-grams, sorted."""

    keys: NDArray[np.uint64]
    """[N] number of the first k−1 pieces, shifted, and the last piece; of the unigrams, the piece"""
    p: NDArray[np.float32]
    """[N] (KN.1)"""
    gamma: NDArray[np.float32]
    """[N] (KN.2) of the k-gram as a context; 1 where nothing was seen after it; empty for the longest"""


class KneserNey:
    """A fitted model; `fit_kneser_ney` makes one."""

    def __init__(self, tables: Sequence[_Table], unigrams: Ids, vocab_size: int) -> None:
        self._tables, self._V = list(tables), vocab_size
        self.unigrams = unigrams
        """[V] how often each piece stands in the texts"""

    @property
    def order(self) -> int:
        """n: n − 1 pieces are context."""
        return len(self._tables)

    @property
    def n_grams(self) -> list[int]:
        """How many different n-grams of each length are known, from 1."""
        return [len(table.p) for table in self._tables]

    @property
    def bytes(self) -> int:
        """Size of the tables."""
        return sum(array.nbytes for table in self._tables for array in table)

    def log_p(self, pieces: Sequence[int] | NDArray[np.integer]) -> Floats:
        """log p of each piece [n] given those before it, and last that the text ends there; [n + 1], in nats.

        Raises:
            InvalidInputError: an id is outside the vocabulary.
        """
        ids = np.asarray(pieces, np.int64)
        if ids.ndim != 1 or (ids.size and not (ids.min() >= 0 and ids.max() < self._V)):
            raise InvalidInputError("pieces", got=f"{ids!r:.60}", expected=f"a vector of ids from 0 to {self._V - 1}")
        stream = np.concatenate([[self._V], ids, [self._V]])
        return np.log(self._conditional(stream)[1:])

    def mlm_logits(self, batch: Batch) -> Floats:
        """log p [M, V] of every piece at `batch.masked_positions`, by the pieces to the left in the corrupted row.

        [MASK] and [CLS] were never counted, so the context reaches back to the nearest of them.
        """
        if batch.masked_positions is None:
            raise InvalidInputError("batch", got="no masked_positions", expected="positions to predict")
        positions = batch.masked_positions
        T = batch.input_ids.shape[1]
        ids = batch.input_ids.reshape(-1).astype(np.int64)
        p = np.repeat(self._tables[0].p[None].astype(np.float64), len(positions), axis=0)
        for length in range(1, self.order):
            inside = positions % T >= length
            context = np.where(inside, 0, -1)
            for k in range(1, length + 1):
                place = np.where(inside, positions - length + k - 1, 0)
                context = self._extend(k, context, ids[place])
            self._refine(p, length, context)
        p = p[:, : self._V]
        return np.log(p / p.sum(axis=1, keepdims=True))

    def _conditional(self, stream: Ids) -> Floats:
        """p of each piece of a stream given at most n − 1 before it."""
        number = stream
        p = self._tables[0].p[stream].astype(np.float64)
        for k in range(2, self.order + 1):
            context, number = number, self._extend(k, number[: len(number) - 1], stream[k - 1 :])
            if not number.size:
                break
            context = context[:-1]
            table, shorter = self._tables[k - 1], self._tables[k - 2]
            backed_off = np.where(context >= 0, shorter.gamma[context], 1) * p[k - 1 :]
            p[k - 1 :] = np.where(number >= 0, table.p[number], backed_off)
        return p

    def _extend(self, k: int, context: Ids, piece: Ids) -> Ids:
        """Numbers of the k-grams that are (k−1)-grams with a piece more; −1 where there is none."""
        if k == 1:
            return np.where(context >= 0, piece, -1)
        keys = self._tables[k - 1].keys
        if not len(keys):
            return np.full(len(context), -1)
        wanted = _key(np.maximum(context, 0), piece)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((context >= 0) & (keys[place] == wanted), place, -1)

    def _refine(self, p: Floats, length: int, context: Ids) -> None:
        """Turn p [M, V + 1] of shorter contexts into (KN.1) of contexts of `length` pieces, where these are known."""
        known = np.flatnonzero(context >= 0)
        contexts = context[known]
        p[known] *= self._tables[length - 1].gamma[contexts][:, None]
        table = self._tables[length]
        ends = np.stack([contexts, contexts + 1]).astype(np.uint64) << np.uint64(_PIECE_BITS)
        starts, stops = np.searchsorted(table.keys, ends)
        lengths = stops - starts
        row = np.repeat(known, lengths)
        entry = np.repeat(starts, lengths) + np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        p[row, (table.keys[entry] & np.uint64((1 << _PIECE_BITS) - 1)).astype(np.int64)] = table.p[entry]


def fit_kneser_ney(texts: Iterable[NDArray[np.integer]], vocab_size: int, order: int = ORDER) -> KneserNey:
    """Count and smooth.

    Args:
        texts: vectors of ids [n], framed by a boundary each: sentences for `log_p`, documents for `mlm_logits`.
        vocab_size: V.
        order: n, from 2.

    Raises:
        InvalidInputError: V or n is out of range, a text is no vector of ids in [0, V), or there is no token.
    """
    if not 1 <= vocab_size <= 1 << 16:
        raise InvalidInputError("vocab_size", got=vocab_size, expected="1 to 65536, so that an id fits 16 bits")
    if order < 2:
        raise InvalidInputError("order", got=order, expected="2 or more")
    stream = _stream(texts, vocab_size)
    boundary = vocab_size
    levels = [_unigrams(stream, vocab_size)]
    unigrams = levels[0].counts[:vocab_size].astype(np.int64)
    number = stream.astype(np.int32)
    """Of the k-gram that begins at each place; −1 where it would run over a boundary."""
    for k in range(2, order + 1):
        shorter = number
        level, number = _level(shorter, stream, k, boundary)
        levels.append(level)
    del number, shorter, stream
    return KneserNey(_smoothed(levels), unigrams, vocab_size)


class _Level(NamedTuple):
    """The distinct k-grams of the texts."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.int32]
    """[N] c(g)"""
    begins: NDArray[np.bool_]
    """[N] whether it begins with the boundary"""
    suffix: NDArray[np.int32]
    """[N] number of the (k−1)-gram without its first piece"""


def _stream(texts: Iterable[NDArray[np.integer]], vocab_size: int) -> NDArray[np.int32]:
    """All texts with boundaries before, between and behind them."""
    boundary = np.array([vocab_size], np.int32)
    stream, waiting = [boundary], []
    for number, text in enumerate(texts):
        ids = np.asarray(text)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise InvalidInputError(f"texts[{number}]", got=f"{ids.dtype} {list(ids.shape)}", expected="ids [n]")
        if ids.size:
            waiting += [ids, boundary]
        if len(waiting) >= _TEXTS_AT_ONCE:
            stream.append(_joined(waiting, vocab_size))
            waiting = []
    stream.append(_joined(waiting, vocab_size))
    if sum(map(len, stream)) == 1:
        raise InvalidInputError("texts", got="no token", expected="at least one token")
    return np.concatenate(stream)


def _joined(texts: list[NDArray[np.integer]], vocab_size: int) -> NDArray[np.int32]:
    """Texts with a boundary behind each, as one vector."""
    ids = np.concatenate([np.empty(0, np.int32), *texts])
    boundaries = len(texts) // 2
    if ids.size and (ids.min() < 0 or np.count_nonzero(ids >= vocab_size) != boundaries):
        got = f"ids from {ids.min()} to {max(int(text.max()) for text in texts[::2])}"
        raise InvalidInputError("texts", got=got, expected=f"ids from 0 to {vocab_size - 1}")
    return ids.astype(np.int32)


def _unigrams(stream: NDArray[np.int32], vocab_size: int) -> _Level:
    counts = np.bincount(stream, minlength=vocab_size + 1).astype(np.int32)
    nowhere = np.zeros(vocab_size + 1, np.int32)
    return _Level(np.arange(vocab_size + 1, dtype=np.uint64), counts, nowhere.astype(bool), nowhere)


def _level(
    shorter: NDArray[np.int32], stream: NDArray[np.int32], k: int, boundary: int
) -> tuple[_Level, NDArray[np.int32]]:
    """The k-grams from the (k−1)-grams at each place, and their numbers at each place."""
    context = shorter[: len(stream) - k + 1]
    whole = context >= 0
    if k > 2:
        whole &= stream[k - 2 : len(stream) - 1] != boundary  # it may begin or end there, not run over it
    parts = max(1, int(np.count_nonzero(whole)) // _SORTED_AT_ONCE)
    bounds = np.linspace(0, int(context.max(initial=0)) + 1, parts + 1).astype(np.int64)
    number = np.full(len(stream), -1, np.int32)
    levels: list[_Level] = []
    known = 0
    for low, high in pairwise(bounds.tolist()):  # contexts in their order, so that the parts only stand in a row
        places = np.flatnonzero(whole & (context >= low) & (context < high)).astype(np.int32)
        keys = _key(context[places], stream[places + (k - 1)])
        order = np.argsort(keys)
        keys, places = keys[order], places[order]
        is_new = np.ones(len(keys), bool)
        is_new[1:] = keys[1:] != keys[:-1]
        number[places] = np.cumsum(is_new, dtype=np.int32) + (known - 1)
        starts = np.flatnonzero(is_new)
        first = places[starts]
        counts = np.diff(starts, append=len(keys)).astype(np.int32)
        levels.append(_Level(keys[starts], counts, stream[first] == boundary, shorter[first + 1]))
        known += len(starts)
    return _Level(*map(np.concatenate, zip(*levels, strict=True))), number


def _key(context: NDArray[np.integer], piece: NDArray[np.integer]) -> NDArray[np.uint64]:
    key = context.astype(np.uint64)
    key <<= np.uint64(_PIECE_BITS)
    key |= piece.astype(np.uint64)
    return key


def _smoothed(levels: list[_Level]) -> list[_Table]:
    """(KN.1) and (KN.2) of every n-gram, shortest first; empties `levels`."""
    tables: list[_Table] = []
    none = np.empty(0, np.float32)
    while levels:
        level = levels.pop(0)
        N = len(level.keys)
        a = level.counts
        if levels:  # (KN.3)
            a = np.bincount(levels[0].suffix, minlength=N).astype(np.int32)
            if tables:
                a = np.where(level.begins, level.counts, a)
        context = (level.keys >> np.uint64(_PIECE_BITS)).astype(np.int32)
        is_new = np.ones(N, bool)
        is_new[1:] = context[1:] != context[:-1]
        starts = np.flatnonzero(is_new)
        contexts = context[starts]
        del context, is_new
        p = _discounts(a).astype(np.float32)[np.minimum(a, 3)]
        totals = np.add.reduceat(a, starts, dtype=np.float64).astype(np.float32)
        gammas = np.add.reduceat(p, starts, dtype=np.float64).astype(np.float32) / totals  # (KN.2)
        lengths = np.diff(starts, append=N).astype(np.int32)
        del starts
        np.subtract(a, p, out=p)
        p /= np.repeat(totals, lengths)
        p += np.repeat(gammas, lengths) * (tables[-1].p[level.suffix] if tables else np.float32(1 / N))  # (KN.1)
        if tables:
            gamma = np.ones(len(tables[-1].p), np.float32)
            gamma[contexts] = gammas
            tables[-1] = tables[-1]._replace(gamma=gamma)
        tables.append(_Table(level.keys, p, none))
    return tables


def _discounts(a: NDArray[np.int32]) -> Floats:
    """D(0) = 0, D(1), D(2), D(3 or more) by (KN.4)."""
    n = np.bincount(np.minimum(a, 5), minlength=6)[1:5].astype(np.float64)
    if not n.all():
        return np.array([0.0, *_PLAIN_DISCOUNTS])
    Y = n[0] / (n[0] + 2 * n[1])
    D = [j - (j + 1) * Y * n[j] / n[j - 1] for j in (1, 2, 3)]
    return np.array([0.0, *(D if min(D) > 0 else _PLAIN_DISCOUNTS)])
