"""Which row comes when: a permutation of the rows for each epoch, as a pure function of (seed, epoch, position).

No list of row numbers is shuffled, kept or saved. A Feistel network with random round keys permutes the integers of
`bits` bits (Luby and Rackoff 1988); an image that is not a row number is sent through again until it is one, which
leaves a permutation of the row numbers (cycle walking: Black and Rogaway 2002). There are fewer than 2 n integers, so
one walk is the rule.

Where a few stand for all, none is drawn: they are taken at even distances (`evenly_spaced`, `first_of_each_part`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream

_ROUNDS = 16
"""Eight leave permutations of five or six rows visibly uneven; twelve do not."""
EXCHANGING = 32
"""Batches of similar length among which rows are exchanged."""

Item = TypeVar("Item")


def sample_numbers(n_rows: int, seed: int, epoch: int, positions: ArrayLike) -> NDArray[np.int64]:
    """The rows that stand at `positions` of an epoch; over all positions 0..n_rows-1, every row once.

    Raises:
        InvalidInputError: a position is not in 0..n_rows-1.
    """
    return permuted(n_rows, RandomStream(seed, "order", epoch), positions)


def permuted(n_rows: int, stream: RandomStream, positions: ArrayLike) -> NDArray[np.int64]:
    """The image of `positions` under the permutation of 0..n_rows-1 that `stream` names."""
    places = np.asarray(positions, np.int64)
    if places.size and (places.min() < 0 or places.max() >= n_rows):
        raise InvalidInputError(
            "positions", got=f"{places.min()}..{places.max()}", expected=f"positions in 0..{n_rows - 1}"
        )
    bits = max(2, (n_rows - 1).bit_length())
    keys = stream.words(0, _ROUNDS // 4)
    rows = _feistel(places.astype(np.uint64), bits, keys)
    while (outside := np.flatnonzero(rows >= n_rows)).size:
        rows.flat[outside] = _feistel(rows.flat[outside], bits, keys)
    return rows.astype(np.int64)


def _feistel(numbers: NDArray[np.uint64], bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One pass of the network: the two halves of each number change in turn, each by a hash of the other."""
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    high, low = numbers >> low_bits, numbers & low_mask
    for even, odd in zip(keys[::2], keys[1::2], strict=True):
        high = high ^ (mixed_bits(low, even) & high_mask)
        low = low ^ (mixed_bits(high, odd) & low_mask)
    return (high << low_bits) | low


def mixed_bits(numbers: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """64 mixed bits of (number, key): the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def visits_per_epoch(counts: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How often rows of each corpus come in one epoch: `round(weight * rows)`, at least once."""
    return [max(1, round(weight * count)) if count else 0 for count, weight in zip(counts, weights, strict=True)]


def visited_rows(
    counts: Sequence[int], weights: Sequence[float], seed: int, epoch: int, slots: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The row behind each slot of an epoch, before shuffling; rows and slots are numbered through all corpora.

    A corpus of n rows and weight w has `m = round(w n)` slots an epoch. Its rows are gone through in passes, each a
    permutation of its own, and a pass that the epoch cuts short goes on in the next: after any number of epochs, two
    rows of a corpus differ by one visit at most. Weight 1 is every row once an epoch.
    """
    visits = visits_per_epoch(counts, weights)
    first_row = np.concatenate([[0], np.cumsum(counts)])
    first_slot = np.concatenate([[0], np.cumsum(visits)])
    rows = np.empty(len(slots), np.int64)
    for corpus, (count, slots_here) in enumerate(zip(counts, visits, strict=True)):
        mine = (slots >= first_slot[corpus]) & (slots < first_slot[corpus + 1])
        within = slots[mine] - first_slot[corpus]
        if slots_here != count and within.size:
            passes, within = np.divmod(epoch * slots_here + within, count)
            for number in np.unique(passes):
                chosen = passes == number
                stream = RandomStream(seed, f"order/corpus_{corpus}", int(number))
                within[chosen] = permuted(count, stream, within[chosen])
        rows[mine] = first_row[corpus] + within
    return rows


def exchanged_rows(
    by_length: NDArray[np.integer], batches: int, seed: int, epoch: int, position: int
) -> NDArray[np.int64]:
    """The rows of the batch that comes at `position` of an epoch, out of all rows in order of length.

    The rows are cut into `batches` parts; 32 neighbouring ones exchange theirs, and the parts come in random order.
    """
    rows = len(by_length)
    place = int(permuted(batches, RandomStream(seed, "order/batches", epoch), [position])[0])
    bucket = place // EXCHANGING
    first = bucket * EXCHANGING * rows // batches
    last = min((bucket + 1) * EXCHANGING, batches) * rows // batches
    mine = np.arange(place * rows // batches, (place + 1) * rows // batches) - first
    exchanged = permuted(last - first, RandomStream(seed, f"order/bucket_{bucket}", epoch), mine)
    return by_length[first + exchanged].astype(np.int64)


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, in their order, at even distances from the first to the last.

    >>> evenly_spaced(range(10), 4), evenly_spaced(range(3), 4)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def first_of_each_part(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, in their order: the first of each of `most` parts of nearly equal length.

    >>> first_of_each_part(range(10), 4), first_of_each_part(range(3), 4)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    parts = min(most, len(items))
    return [items[i * len(items) // parts] for i in range(parts)]
