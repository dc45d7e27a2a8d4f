"""What is the same in every part of one pass: padding, dropout, the tap, and which positions the loss reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.ops import dropout as dropout_op
from mini_bert.ops.contract import Array, Tap, identity
from mini_bert.random_streams import RandomStream


class Pass(NamedTuple):
    """The conditions of one pass through the network."""

    B: int
    T: int
    mask_BS: Array | None = None
    """[B, S] bool, False on padding; None: there is none."""
    dropout: RandomStream | None = None
    """Random numbers for dropout; None: nothing is dropped."""
    first_row: int = 0
    """Number of this batch's row 0 in the global batch: dropout draws by it."""
    tap: Tap = identity
    pooled: Array | None = None
    """[N] which rows of the batch a head over the pooler is given; None: all."""

    def drop(self, x: Array, p: float, site: str, read: Reading | None = None) -> tuple[Array, dropout_op.Saved]:
        """Dropout at a named site of the residual stream: `x` [B, T, H], or [M, H] where only `read` is computed."""
        if self.dropout is None:
            return dropout_op.forward(x, p=p, stream=None)
        rows = None if read is None else read.positions
        return dropout_op.forward(x, p=p, stream=self.dropout.at(site), first_row=self.first_row * self.T, rows=rows)


class Reading(NamedTuple):
    """The M positions that the loss reads, and how they lie in a rectangle [B, P] for attention.

    Attention works on a rectangle of queries: P a row. Where rows have different numbers of masked positions, P is the
    largest, and the empty places hold zeros that nobody reads.
    """

    positions: Array
    """[M] ascending, b * T + t"""
    shape: tuple[int, int]
    """(B, P)"""
    places: Array | None
    """[M] b * P + j, place of each position in the flattened rectangle; None: the rectangle is full."""

    @classmethod
    def of(cls, positions: Array, B: int, T: int) -> Reading:
        """Lay `positions` [M] of a [B, T] batch out."""
        row_of_position = positions // T
        counts = np.bincount(row_of_position, minlength=B)
        P = int(counts.max(initial=0))
        if positions.size == P * B:
            return cls(positions, (B, P), None)
        starts = np.cumsum(counts) - counts
        return cls(positions, (B, P), row_of_position * P + np.arange(positions.size) - starts[row_of_position])

    def gather(self, x_BTH: Array) -> Array:
        """The rows that are read: [B, T, H] → [M, H]."""
        return x_BTH.reshape(-1, x_BTH.shape[-1])[self.positions]

    def scatter_add(self, dx_BTH: Array, dx_MH: Array) -> None:
        """Undo `gather` in the backward pass: add [M, H] to its rows of [B, T, H]. None occurs twice."""
        dx_BTH.reshape(-1, dx_BTH.shape[-1])[self.positions] += dx_MH

    def to_rectangle(self, x_MH: Array) -> Array:
        """[M, H] → [B, P, H]."""
        if self.places is None:
            return x_MH.reshape(*self.shape, x_MH.shape[-1])
        x_BPH = np.zeros((self.shape[0] * self.shape[1], x_MH.shape[-1]), x_MH.dtype)
        x_BPH[self.places] = x_MH
        return x_BPH.reshape(*self.shape, x_MH.shape[-1])

    def from_rectangle(self, x_BPH: Array) -> Array:
        """[B, P, H] → [M, H]."""
        x_flat = x_BPH.reshape(-1, x_BPH.shape[-1])
        return x_flat if self.places is None else x_flat[self.places]

    def weight_rows(self, A: int, T: int) -> Array:
        """Numbers, among the flattened rows [B, A, T] of all attention weights, of the rectangle's rows [B, A, P].

        Empty places borrow the number of the row's first position: what is drawn for them is not read.
        """
        heads = np.arange(self.shape[0])[:, None, None] * A + np.arange(A)[None, :, None]
        return (heads * T + self.places_in_row(T)[:, None, :]).reshape(-1)

    def places_in_row(self, T: int) -> Array:
        """[B, P], the t of each place of the rectangle; empty places borrow 0."""
        t_BP = np.zeros(self.shape[0] * self.shape[1], np.int64)
        t_BP[slice(None) if self.places is None else self.places] = self.positions % T
        return t_BP.reshape(self.shape)
