"""A number that is not finite, put where one says: into an intermediate, a gradient, the loss, or a batch's targets.

The intermediates of a pass go through `Pass.tap`, in training and in the repetition that looks for the place alike; so
a fault that sits there is met in both, as a real one would be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from mini_bert.batch import Batch
from mini_bert.data.batches import BatchStream
from mini_bert.model.forward_pass import Pass
from mini_bert.ops import cross_entropy
from mini_bert.ops.contract import Array, Tap
from mini_bert.random_streams import RandomStream


@dataclass
class Fault:
    """One bad number in one intermediate.

    Fields: `name` and `direction` of the intermediate; the `value` that is put there; the `row` of the batch, where the
    intermediate has rows; which of the row's numbers, as a share (`place`); `masked`, masked pieces in each row.
    """

    name: str
    direction: str
    value: float
    row: int
    place: float
    masked: int
    active: bool = True
    has_rows: bool = False
    """Set when it is met."""

    def spoil(self, run: Pass, name: str, value: Array) -> Array:
        """`value` with the bad number, where this is the place."""
        row = self.row - run.first_row
        if not self.active or name != self.name or not 0 <= row < run.B:
            return value
        if value.ndim > 2 and value.shape[0] == run.B:
            self.has_rows, first, size = True, row, value[0].size
        elif value.ndim == 2 and name != "embeddings.position":  # [M, …], behind the reading of the last block
            self.has_rows, first, size = True, row * self.masked, value[0].size
        else:
            self.has_rows, first, size = False, 0, value.size
        spoiled = np.array(value, order="C")
        spoiled.reshape(-1)[first * size + int(self.place * size)] = self.value
        return spoiled


@contextmanager
def in_intermediate(fault: Fault) -> Iterator[None]:
    """Let every pass of this process have `fault`."""
    ordinary = Pass.__dict__["tap"]

    def tap(run: Pass) -> Tap:
        inner: Tap = ordinary.__get__(run, Pass)
        backward = "backward" in sys._getframe(1).f_code.co_name
        if backward != (fault.direction == "backward"):
            return inner
        return lambda name, value: inner(name, fault.spoil(run, name, value))

    with mock.patch.object(Pass, "tap", property(tap)):
        yield


@contextmanager
def in_loss(value: float) -> Iterator[None]:
    """Let every loss be `value`."""
    ordinary = cross_entropy.forward

    def forward(logits: Array, *, targets: Array) -> tuple[Array, Any]:
        loss, saved = ordinary(logits, targets=targets)
        return np.full_like(loss, value), saved

    with mock.patch.object(cross_entropy, "forward", forward):
        yield


@contextmanager
def in_batches(bad: Callable[[int], bool]) -> Iterator[list[int]]:
    """Let the batches of these numbers ask for pieces drawn at random; yields the numbers of all batches, as asked."""
    ordinary, asked = BatchStream.batch, []

    def batch(stream: BatchStream, step: int, rate: float | None = None) -> Batch:
        asked.append(step)
        made = ordinary(stream, step, rate)
        return corrupted(made, step) if bad(step) else made

    with mock.patch.object(BatchStream, "batch", batch):
        yield asked


def corrupted(batch: Batch, number: int) -> Batch:
    """The batch with targets that follow no rule: any piece is as likely as any other."""
    assert batch.target_ids is not None
    drawn = RandomStream(3, "corrupted", number).integers(int(batch.input_ids.max()), batch.target_ids.size)
    return batch._replace(target_ids=drawn[:, 0])
