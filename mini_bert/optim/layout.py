"""Where does each tensor lie in the flat vectors, and what must an optimiser know of it?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, blocks


class Tensor(NamedTuple):
    """One parameter tensor: the elements `start` to `stop` of the vectors of parameters and gradients."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    decay: bool
    """Whether weight decay acts on it."""
    depth: int
    """0 for embeddings, 1 to L for the blocks, L + 1 for what stands on them."""
    hidden_matrix: bool
    """Whether it is a matrix between hidden states [in, out] in a block: neither a table, nor a head, nor a vector."""
    table: bool = False
    """Whether its rows are entries that are looked up one by one: embeddings, relative positions."""
    answers: bool = False
    """Whether a head's answers are made with it: a decoder, which may be the token table, or a classifier."""
    positions: bool = False
    """Whether it tells positions apart and does nothing else: their table, or numbers of distances."""

    @property
    def part(self) -> slice:
        """Its place in the vectors."""
        return slice(self.start, self.stop)


Layout: TypeAlias = tuple[Tensor, ...]
"""All tensors in the order of the vectors, without gaps; those that decay come first."""


def packed(tensors: Iterable[Tensor]) -> Layout:
    """The tensors one behind the other in a vector of their own, as long as their shapes say."""
    laid: list[Tensor] = []
    start = 0
    for tensor in tensors:
        stop = start + math.prod(tensor.shape)
        laid.append(tensor._replace(start=start, stop=stop))
        start = stop
    return tuple(laid)


def length(layout: Layout) -> int:
    """How many numbers a vector of this layout has."""
    return layout[-1].stop if layout else 0


def blocks_split_at(boundary: int, size: int) -> list[slice]:
    """Cache-sized blocks that cover `size`, none of which crosses `boundary`."""
    return [
        *blocks(boundary),
        *(slice(boundary + block.start, boundary + block.stop) for block in blocks(size - boundary)),
    ]


def check_update(parameters: Array, step: int, **vectors: Array) -> None:
    """What every update asks of its arguments: `vectors` by their names, each as long as the parameters.

    Raises:
        InvalidInputError: shapes differ, or `step` is not positive.
    """
    for name, vector in vectors.items():
        if vector.shape != parameters.shape:
            raise InvalidInputError(name, got=f"shape {vector.shape}", expected=f"{parameters.shape}")
    if step < 1:
        raise InvalidInputError("step", got=step, expected="1 for the first update")
