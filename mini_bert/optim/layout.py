"""Where does each tensor lie in the flat vectors, and what must an optimiser know of it?"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


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

    @property
    def part(self) -> slice:
        """Its place in the vectors."""
        return slice(self.start, self.stop)


Layout: TypeAlias = tuple[Tensor, ...]
"""All tensors in the order of the vectors, without gaps; those that decay come first."""
