"""Random draws without a state: every number is a pure function of (seed, stream name, step, position).

A counter-based generator (Philox 4x64-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a
key and a counter to random bits. The key is made of the seed and of the stream's name, the counter of the step and of
the position. So nothing has to be saved to resume a run, threads and shards cannot disturb one another, and a dropout
mask can be drawn again instead of being kept.

Only the raw integers of NumPy's Philox are used, and mapped to numbers here: NumPy promises those bits for ever, and
not those of its distributions.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import InvalidInputError

_LANES = 16
"""16-bit numbers in one Philox block (4 words of 64 bits)."""

_WORDS = 4


@lru_cache(maxsize=1024)
def _name_key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class RandomStream(NamedTuple):
    """A named, endless table of random numbers for one step; drawing from it never changes it.

    `RandomStream(seed=0, name="dropout", step=7).at("layer_0.attention")` is the table of one dropout site. Rows are
    numbered over the global batch, so that a shard that starts at row `first_row` draws the very rows it would have
    been given in the whole.
    """

    seed: int
    name: str
    step: int = 0

    def at(self, site: str) -> RandomStream:
        """The stream of a place within this one."""
        return self._replace(name=f"{self.name}/{site}")

    def words(self, first_block: int, blocks: int) -> NDArray[np.uint64]:
        """`4 * blocks` raw 64-bit words, beginning with those of block `first_block`."""
        for argument, value in (("seed", self.seed), ("step", self.step)):
            if value != int(value) or not 0 <= value < 2**64:
                raise InvalidInputError(argument, got=value, expected="an integer from 0 to 2**64 - 1")
        counter = np.array([first_block, 0, self.step, 0], np.uint64)
        key = np.array([self.seed, _name_key(self.name)], np.uint64)
        generator: Any = np.random.Philox(counter=counter, key=key)
        return np.asarray(generator.random_raw(_WORDS * blocks), dtype=np.uint64)

    def lanes(self, first_row: int, rows: int, columns: int) -> NDArray[np.uint16]:
        """Uniform 16-bit integers `[rows, columns]`; (r, c) depends on `first_row + r`, c and `columns` alone."""
        blocks_per_row = -(-columns // _LANES)
        words = self.words(first_row * blocks_per_row, rows * blocks_per_row)
        lanes = words.astype("<u8", copy=False).view("<u2").reshape(rows, blocks_per_row * _LANES)
        return lanes[:, :columns]

    def integers(self, bound: int, rows: int, columns: int = 1, first_row: int = 0) -> NDArray[np.int64]:
        """Uniform integers in [0, bound), `[rows, columns]`, for `bound` up to 2**32; row r is number `first_row + r`.

        The 32 upper bits are multiplied by the bound and shifted (Lemire 2019, without rejection): the bias is under
        bound / 2**32.
        """
        upper_bits = self.row_words(first_row, rows, columns) >> np.uint64(32)
        return np.asarray((upper_bits * np.uint64(bound)) >> np.uint64(32), dtype=np.int64)

    def uniform(self, rows: int, columns: int = 1, first_row: int = 0) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1) with 53 bits, `[rows, columns]`; row r is number `first_row + r`."""
        upper_bits = self.row_words(first_row, rows, columns) >> np.uint64(11)
        return np.asarray(upper_bits, dtype=np.float64) * 2.0**-53

    def row_words(self, first_row: int, rows: int, columns: int) -> NDArray[np.uint64]:
        """Raw 64-bit words `[rows, columns]`; row r is number `first_row + r`, and begins with a block of its own."""
        blocks_per_row = -(-columns // _WORDS)
        words = self.words(first_row * blocks_per_row, rows * blocks_per_row)
        return words.reshape(rows, blocks_per_row * _WORDS)[:, :columns]
