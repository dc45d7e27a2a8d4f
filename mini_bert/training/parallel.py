"""Logical shards on threads: the number of workers changes the time, never the bits.

A global batch is cut into shards; each shard's loss and gradient are computed by one thread with one BLAS thread into
a buffer of its own; the buffers are added in a balanced binary tree over the shard numbers:

    shards   0   1   2   3
              \\ /     \\ /
             0 + 1   2 + 3
                 \\   /
             (0+1) + (2+3)

Which thread does what, and when, cannot change the order of any sum.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.machine import available_cores
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array, blocks
from mini_bert.random_streams import RandomStream
from mini_bert.training.allocator import keep_freed_memory


class ShardSum(NamedTuple):
    """Sums over all shards of a batch."""

    loss_sum: float
    n_masked: int
    n_correct: int
    gradient: Array
    """The flat gradient of `loss_sum`; valid until the pool's next call."""


def shard_bounds(rows: int, shards: int) -> list[tuple[int, int]]:
    """First and last-plus-one row of each shard; sizes differ by one at most."""
    return [(rows * i // shards, rows * (i + 1) // shards) for i in range(shards)]


class ShardPool:
    """Threads, and one gradient buffer a shard; a context manager, within which BLAS runs with one thread.

    Args:
        threads: worker threads; None: one a core that this process may use, at most one a shard.
        shards: logical shards of a batch; part of the result to the bit.
    """

    def __init__(self, threads: int | None = None, shards: int = 4) -> None:
        if shards < 1 or (threads is not None and threads < 1):
            raise InvalidInputError("threads, shards", got=(threads, shards), expected="positive numbers")
        self.shards = shards
        self.threads = min(shards, available_cores() if threads is None else threads)
        self._gradients: list[Parameters] = []

    def __enter__(self) -> ShardPool:
        self._limits = threadpool_limits(1, user_api="blas")
        keep_freed_memory()
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="shard")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._limits.restore_original_limits()

    def gradients(self, model: MiniBERT, batch: Batch, dropout: RandomStream | None = None) -> ShardSum:
        """Loss, gradient and number of right predictions of `batch`, summed over its shards."""
        layout = (model.parameters.table, model.dtype)
        if not self._gradients or (self._gradients[0].table, self._gradients[0].buffer.dtype) != layout:
            self._gradients = [Parameters(model.config, model.dtype) for _ in range(self.shards)]
        bounds = shard_bounds(batch.input_ids.shape[0], self.shards)
        futures = [
            self._executor.submit(_shard, model, batch.rows(start, stop), gradients, dropout)
            for (start, stop), gradients in zip(bounds, self._gradients, strict=True)
        ]
        wait(futures)  # all of them, also when one fails: none may still write to a buffer that the next call fills
        parts = [future.result() for future in futures]
        self._add_tree()
        loss_sums, n_masked, n_correct = zip(*parts, strict=True)
        return ShardSum(_tree_sum(list(loss_sums)), sum(n_masked), sum(n_correct), self._gradients[0].buffer)

    def _add_tree(self) -> None:
        """Add all buffers into the first; the threads share the length, each element is added in tree order."""
        buffers = [gradients.buffer for gradients in self._gradients]

        def add(part: slice) -> None:
            for piece in blocks(part.stop - part.start):
                piece = slice(part.start + piece.start, part.start + piece.stop)
                distance = 1
                while distance < len(buffers):
                    for i in range(0, len(buffers) - distance, 2 * distance):
                        buffers[i][piece] += buffers[i + distance][piece]
                    distance *= 2

        self.elementwise(add, buffers[0].size)

    def elementwise(self, function: Callable[[slice], None], size: int) -> None:
        """Run `function` on one part of a vector of `size` elements a thread; it must treat each element by itself."""
        parts = [slice(size * i // self.threads, size * (i + 1) // self.threads) for i in range(self.threads)]
        list(self._executor.map(function, parts))


def _shard(
    model: MiniBERT, batch: Batch, gradients: Parameters, dropout: RandomStream | None
) -> tuple[float, int, int]:
    correct = 0

    def count_correct(name: str, value: Array) -> Array:
        nonlocal correct
        if name == "logits":
            correct = int((value.argmax(axis=-1) == batch.target_ids).sum())
        return value

    gradients.buffer[...] = 0
    if not batch.input_ids.shape[0]:  # fewer rows than shards
        return 0.0, 0, 0
    loss_sum, n_masked = model.mlm_loss_and_gradients(batch, gradients, dropout, tap=count_correct)
    return loss_sum, n_masked, correct


def _tree_sum(values: list[float]) -> float:
    while len(values) > 1:
        values = [sum(values[i : i + 2]) for i in range(0, len(values), 2)]
    return values[0]
