"""Tokens that trade places, and tokens that are replaced: what `token_order` and `replaced_token` ask about.

Shuffled tokens (Yamaguchi et al. 2021, section 3; Panda et al. 2021): of the n free tokens of a row, k trade places,
with k the share times n rounded up or down at random so that its mean is exact, and at least 2. They move along one
cycle, in random order, so that none keeps its place. Replaced tokens (Clark et al. 2020, with a generator that knows
frequencies only): 15 % of the free tokens, at least 1, become pieces drawn by their frequency in the text that the rows
come from, training or held-out. A place where the very same piece has come to stand again was not changed, and counts
so.

Free are ordinary tokens that nothing else was done to: a token is masked, or trades places, or is replaced, or stays.
Each element depends on (seed, step, number of the row in the global batch, column) and on nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.random_streams import RandomStream

REPLACED_SHARE = 0.15
"""As many places as ELECTRA replaces, and as are masked."""

_NEVER = np.uint64(2**64 - 1)


class Changed(NamedTuple):
    """Rows in which tokens were changed."""

    ids: NDArray[np.int32]
    """[B, T]"""
    chosen: NDArray[np.bool_]
    """[B, T] places that something was done to."""
    differs: NDArray[np.bool_]
    """[B, T] of these, the places where another piece stands now."""


def shuffle_tokens(
    ids: NDArray[np.int32], free: NDArray[np.bool_], share: float, stream: RandomStream, first_row: int = 0
) -> Changed:
    """Let `share` of the free tokens of each row [B, T] trade places; row b is number `first_row + b`."""
    order, wanted = _in_random_order(free, share, 2, stream, first_row)
    wanted = np.where(wanted > 1, wanted, 0)
    rank = np.arange(ids.shape[1])
    trades = rank < wanted[:, None]
    source = np.where(trades, np.where(rank + 1 < wanted[:, None], rank + 1, 0), rank)  # one cycle
    in_order = np.take_along_axis(ids, order, axis=1)
    shuffled, chosen = np.empty_like(ids), np.empty_like(free)
    np.put_along_axis(shuffled, order, np.take_along_axis(in_order, source, axis=1), axis=1)
    np.put_along_axis(chosen, order, trades, axis=1)
    return Changed(shuffled, chosen, shuffled != ids)


def replace_tokens(
    ids: NDArray[np.int32],
    free: NDArray[np.bool_],
    counts: NDArray[np.int64],
    stream: RandomStream,
    first_row: int = 0,
) -> Changed:
    """Replace 15 % of the free tokens of each row [B, T] by pieces drawn in proportion to `counts` [V]."""
    order, wanted = _in_random_order(free, REPLACED_SHARE, 1, stream, first_row)
    chosen = np.empty_like(free)
    np.put_along_axis(chosen, order, np.arange(ids.shape[1]) < wanted[:, None], axis=1)
    sums = np.cumsum(counts)
    draws = stream.at("piece").uniform(*ids.shape, first_row=first_row)[chosen]
    replaced = ids.copy()
    replaced[chosen] = np.searchsorted(sums, draws * sums[-1], side="right")
    return Changed(replaced, chosen, replaced != ids)


def _in_random_order(
    free: NDArray[np.bool_], share: float, least: int, stream: RandomStream, first_row: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The columns of each row [B, T] with the free ones first, in random order, and how many of these to take [B]."""
    rows, columns = free.shape
    counts = free.sum(axis=1)
    rounding = stream.at("count").uniform(rows, first_row=first_row)[:, 0]
    wanted = np.minimum(counts, np.maximum(least, np.floor(share * counts + rounding).astype(np.int64)))
    keys = np.where(free, stream.at("choice").row_words(first_row, rows, columns), _NEVER)
    return np.argsort(keys, axis=1, kind="stable"), wanted
