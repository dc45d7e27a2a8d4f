"""Philox 4x64-10 in whole numbers (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").

The counter is four words of 64 bits, the key two. Each of ten rounds multiplies two of the words by constants and mixes
the halves of the products with the others and with the key, which is raised by constants between rounds.
"""

from __future__ import annotations

import hashlib

_WORD = 2**64
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


def philox(counter: int, key: tuple[int, int]) -> tuple[int, int, int, int]:
    """The four words of the block `counter`, a number of 256 bits."""
    c0, c1, c2, c3 = (counter >> 64 * place & _WORD - 1 for place in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = divmod(_MULTIPLIERS[0] * c0, _WORD)
        high1, low1 = divmod(_MULTIPLIERS[1] * c2, _WORD)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) % _WORD, (k1 + _WEYL[1]) % _WORD
    return c0, c1, c2, c3


def stream_words(seed: int, name: str, step: int, first_block: int, blocks: int) -> list[int]:
    """The words of a random stream: the counter is made of block and step, the key of seed and name.

    Block n is the cipher of the counter n + 1, because the generator steps before it draws.
    """
    key = (seed, int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
    base = step << 128
    return [word for block in range(blocks) for word in philox(base + first_block + block + 1, key)]


def stream_lanes(seed: int, name: str, step: int, row: int, columns: int) -> list[int]:
    """The 16-bit numbers of one row of a stream, low bits first: a row takes whole blocks of 16."""
    blocks = -(-columns // 16)
    words = stream_words(seed, name, step, row * blocks, blocks)
    return [word >> 16 * place & 0xFFFF for word in words for place in range(4)][:columns]
