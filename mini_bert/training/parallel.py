"""Logical shards on threads and ranks: the number of workers changes the time, never the bits.

A global batch is cut into shards; each shard's loss and gradient are computed by one thread with one BLAS thread into
a buffer of its own (shard_work.py); the buffers are added in a balanced binary tree over shard numbers (shard_tree.py):

    shards   0   1   2   3
              \\ /     \\ /
             0 + 1   2 + 3
                 \\   /
             (0+1) + (2+3)

Which thread or rank does what, and when, cannot change the order of any sum. A rank computes a contiguous range of the
shards, adds what it can add by itself, and sends each other rank one slice of what it has; each rank adds its slice of
the whole tree, and sends the others the sum.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from mini_bert.batch import Batch
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import TaskSum, task_losses_and_gradients
from mini_bert.ops.contract import Array, blocks
from mini_bert.random_streams import RandomStream
from mini_bert.training.allocator import give_freed_memory_back, keep_freed_memory
from mini_bert.training.ranks import ALONE, Ranks, portable
from mini_bert.training.shard_tree import Span, additions, buffers_needed, own_span, subtrees
from mini_bert.training.shard_work import Part, ShardWork


class ShardSum(NamedTuple):
    """Sums over all shards of a batch.

    Where `masked_lm` is not among the tasks, the first three are those of all tasks together: weighted mean loss times
    the number of all answers, that number, and how many of them are right.
    """

    loss_sum: float
    n_masked: int
    n_correct: int
    gradient: Array
    """The flat gradient of `loss_sum`, or of `total_loss` where there are `tasks`; valid until the pool's next call."""
    tasks: Mapping[str, TaskSum] = {}
    """What each task of `batch.questions` measured; empty for a batch without."""
    total_loss: float = math.nan
    """Σ weight · mean loss of the tasks (TASK.1); NaN where there are none."""

    @property
    def divisor(self) -> int:
        """What `gradient` is still to be divided by, to be that of the mean loss: the number of masked tokens."""
        return 1 if self.tasks else max(self.n_masked, 1)


def shard_bounds(rows: int, shards: int) -> list[tuple[int, int]]:
    """First and last-plus-one row of each shard; sizes differ by one at most."""
    return [(rows * i // shards, rows * (i + 1) // shards) for i in range(shards)]


class ShardPool:
    """Threads and gradient buffers for the shards of this rank; a context manager, within which BLAS has one thread.

    Args:
        threads: worker threads; None: one a core that is this rank's, at most one a shard.
        shards: logical shards of a batch; part of the result to the bit.
        in_flight: most shards of this rank that run at once; None: as many as threads.
        ranks: the processes that share the shards.

    Raises:
        InvalidInputError: a number is not positive.
        MemoryError: there is none for so many threads.
        ConfigError: more ranks than shards. A rank without a shard would take a core and give nothing.
    """

    def __init__(
        self, threads: int | None = None, shards: int = 4, *, in_flight: int | None = None, ranks: Ranks = ALONE
    ) -> None:
        if shards < 1 or (threads is not None and threads < 1):
            raise InvalidInputError("threads, shards", got=(threads, shards), expected="positive numbers")
        if in_flight is not None and in_flight < 1:
            raise InvalidInputError("in_flight", got=in_flight, expected="a positive number")
        if ranks.size > shards:
            raise ConfigError(
                "train.shards",
                got=f"{shards} on {ranks.size} ranks",
                expected="at least one shard a rank",
                advice=f"Start {shards} ranks, or begin a run with more shards, which have other bits.",
            )
        self.shards, self.ranks = shards, ranks
        self._span = own_span(shards, ranks.size, ranks.rank)
        self.threads = min(self._span[1] - self._span[0], threads or ranks.cores)
        self.in_flight = min(self.threads, in_flight or self.threads)
        self._gradients: list[Parameters] = []
        self._received: list[Array] = []

    def __enter__(self) -> ShardPool:
        self._limits = threadpool_limits(1, user_api="blas")
        keep_freed_memory()
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="shard")
        all_started = threading.Barrier(self.threads)
        try:  # now, and not in the midst of a step
            list(self._executor.map(lambda _: all_started.wait(), range(self.threads)))
        except RuntimeError as error:
            all_started.abort()
            self.__exit__(None, None, None)
            raise MemoryError(f"{self.threads} threads: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._limits.restore_original_limits()

    def gradients(
        self,
        model: MiniBERT,
        batch: Batch,
        dropout: RandomStream | None = None,
        *,
        activation_checkpointing: bool = False,
    ) -> ShardSum:
        """Loss, gradient and number of right predictions of the global `batch`, summed over the shards of all ranks.

        A shard that finds no memory halves `in_flight`, and the rank begins its shards anew: to the same bits. With
        `activation_checkpointing`, blocks are computed a second time instead of being kept: to the same bits, too.

        Raises:
            MemoryError: there is none even for one shard at a time.
            FloatingPointError, or whatever else a shard raises; on all ranks, that of the lowest shard's rank.
        """
        parts: list[Part] = []
        nodes: dict[int, Array] = {}
        failure: Exception | None = None
        try:
            parts, nodes = self._own_shards(model, batch, dropout, activation_checkpointing)
        except Exception as error:
            failure = error
        try:  # the numbers before the buffers: a rank that has failed sends none, and the others wait for none
            everyone = self.ranks.gather((parts, failure and portable(failure)))
            for rank, (_, failed) in enumerate(everyone):
                if failed is not None:
                    raise failure if failure and rank == self.ranks.rank else failed
        finally:
            failure = None  # it holds this frame, which would hold it
        gradient = nodes[self._span[0]] if self.ranks.size == 1 else self._sum_over_ranks(nodes)
        sums = _added([part for parts, _ in everyone for part in parts])
        if not batch.questions:
            return ShardSum(*sums["masked_lm"], gradient)
        total_loss = sum(q.weight * sums[q.task].loss / max(q.items, 1) for q in batch.questions)
        everything = sum(of.items for of in sums.values())
        together = TaskSum(total_loss * everything, everything, sum(of.correct for of in sums.values()))
        return ShardSum(*sums.get("masked_lm", together), gradient, sums, total_loss)

    def elementwise(self, function: Callable[[slice], None], size: int) -> None:
        """Run `function` on one part of a vector of `size` elements a thread; it must treat each element by itself."""
        parts = [slice(size * i // self.threads, size * (i + 1) // self.threads) for i in range(self.threads)]
        list(self._executor.map(function, parts))

    def each(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run functions that do not hear of each other, and wait for all."""
        list(self._executor.map(lambda job: job(), jobs))

    def _own_shards(
        self, model: MiniBERT, batch: Batch, dropout: RandomStream | None, activation_checkpointing: bool
    ) -> tuple[list[Part], dict[int, Array]]:
        """The numbers of this rank's shards, and the gradients of the subtrees that they are, by first shard."""
        while True:
            try:
                return self._own_shards_at_once(model, batch, dropout, activation_checkpointing)
            except MemoryError:
                if self.in_flight == 1:
                    raise
            self.in_flight //= 2
            self._gradients = []
            give_freed_memory_back()

    def _own_shards_at_once(
        self, model: MiniBERT, batch: Batch, dropout: RandomStream | None, activation_checkpointing: bool
    ) -> tuple[list[Part], dict[int, Array]]:
        self._make_room(model)
        bounds = shard_bounds(batch.input_ids.shape[0], self.shards)
        work = ShardWork(
            lambda shard, gradients: _shard(
                model, batch.rows(*bounds[shard]), gradients, dropout, activation_checkpointing
            ),
            self._span,
            self.shards,
            list(self._gradients),
        )
        futures = [self._executor.submit(work.until_done) for _ in range(self.in_flight)]
        try:
            wait(futures)  # all of them, also when one fails: none may still write to a buffer that the next call fills
        except BaseException:
            work.stop()
            raise
        for future in futures:
            future.result()
        parts, stops, buffers = work.result()
        self._add(buffers, additions(stops.items(), self.shards))
        return parts, {first: buffers[first] for first, _ in self._nodes(self.ranks.rank)}

    def _make_room(self, model: MiniBERT) -> None:
        """Have the buffers that this rank needs for its shards, and for what other ranks send."""
        layout = (model.parameters.table, model.dtype)
        needed = buffers_needed(self._span, self.shards, self.in_flight)
        made = self._gradients
        if len(made) == needed and (made[0].table, made[0].buffer.dtype) == layout:
            return
        self._gradients, self._received = [], []
        try:
            self._gradients = [Parameters(model.config, model.dtype) for _ in range(needed)]
        except ConfigError as error:  # what the model itself would say; here there is something to try first
            raise MemoryError(str(error)) from error
        start, stop = shard_bounds(model.parameters.buffer.size, self.ranks.size)[self.ranks.rank]
        foreign = sum(len(self._nodes(rank)) for rank in range(self.ranks.size) if rank != self.ranks.rank)
        self._received = [np.empty(stop - start, model.dtype) for _ in range(foreign)]

    def _nodes(self, rank: int) -> list[Span]:
        return subtrees(*own_span(self.shards, self.ranks.size, rank), self.shards)

    def _sum_over_ranks(self, own: dict[int, Array]) -> Array:
        """The whole sum, from what each rank has added up: every rank adds one slice of the vector in tree order."""
        me, size = self.ranks.rank, self.ranks.size
        others = [rank for rank in range(size) if rank != me]
        total = own[self._span[0]]
        slices = [slice(start, stop) for start, stop in shard_bounds(total.size, size)]
        foreign = [(rank, first) for rank in others for first, _ in self._nodes(rank)]
        received = {first: array for (_, first), array in zip(foreign, self._received, strict=True)}
        self.ranks.exchange(
            [(rank, own[first][slices[rank]]) for rank in others for first in sorted(own)],
            [(rank, received[first]) for rank, first in foreign],
        )
        mine = {first: gradient[slices[me]] for first, gradient in own.items()} | received
        spans = [span for rank in range(size) for span in self._nodes(rank)]
        self._add(mine, additions(spans, self.shards))
        total[slices[me]] = mine[0]
        self.ranks.exchange(
            [(rank, total[slices[me]]) for rank in others], [(rank, total[slices[rank]]) for rank in others]
        )
        return total

    def _add(self, buffers: dict[int, Array], sums: list[tuple[int, int]]) -> None:
        """Add buffers to buffers in the order given; the threads share the length."""

        def add(part: slice) -> None:
            for piece in blocks(part.stop - part.start):
                piece = slice(part.start + piece.start, part.start + piece.stop)
                for left, right in sums:
                    buffers[left][piece] += buffers[right][piece]

        if sums:
            self.elementwise(add, next(iter(buffers.values())).size)


def _shard(
    model: MiniBERT,
    batch: Batch,
    gradients: Parameters,
    dropout: RandomStream | None,
    activation_checkpointing: bool = False,
) -> Part:
    correct = 0

    def count_correct(name: str, value: Array) -> Array:
        nonlocal correct
        if name == "logits":
            correct = int((value.argmax(axis=-1) == batch.target_ids).sum())
        return value

    gradients.buffer[...] = 0
    if not batch.input_ids.shape[0]:  # fewer rows than shards
        asked = [question.task for question in batch.questions] or ["masked_lm"]
        return dict.fromkeys(asked, TaskSum(0.0, 0, 0))
    if batch.questions:
        return task_losses_and_gradients(
            model, batch, gradients, dropout, activation_checkpointing=activation_checkpointing
        )
    loss_sum, n_masked = model.mlm_loss_and_gradients(
        batch, gradients, dropout, tap=count_correct, activation_checkpointing=activation_checkpointing
    )
    return {"masked_lm": TaskSum(loss_sum, n_masked, correct)}


def _added(parts: list[Part]) -> Part:
    """The shards' sums, task by task."""
    return {
        task: TaskSum(
            _tree_sum([part[task].loss for part in parts]),
            sum(part[task].items for part in parts),
            sum(part[task].correct for part in parts),
        )
        for task in parts[0]
    }


def _tree_sum(values: list[float]) -> float:
    while len(values) > 1:
        values = [sum(values[i : i + 2]) for i in range(0, len(values), 2)]
    return values[0]
