"""Who computes which shard next, and into which buffer? Threads take shards in order, and share a few buffers.

A buffer is free again when its gradient has been added to a sibling's. Sums that need not be formed earlier, because
buffers are left, wait for the end, when all threads share them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import TaskSum
from mini_bert.ops.contract import Array
from mini_bert.training.shard_tree import Span, next_addition

Part = dict[str, TaskSum]
"""What each task measured on one shard."""


class ShardWork:
    """The shards of one rank in one batch.

    Args:
        run: computes a shard into a buffer, which it clears first.
        span: the rank's shards.
        shards: of the whole batch.
        buffers: as many as `buffers_needed` says; with fewer, threads could wait for each other for ever.
    """

    def __init__(
        self, run: Callable[[int, Parameters], Part], span: Span, shards: int, buffers: list[Parameters]
    ) -> None:
        self._run, self._shards = run, shards
        self._next, self._stop = span
        self._free = buffers
        self._stops: dict[int, int] = {}
        self._sums: dict[int, Parameters] = {}
        """The nodes that are done, and where they end, by first shard."""
        self._parts: dict[int, Part] = {}
        self._errors: dict[int, Exception] = {}
        self._changed = threading.Condition()

    def until_done(self) -> None:
        """One thread's work: a shard, and another, until there are no more or one has failed."""
        while taken := self._take():
            shard, gradients = taken
            try:
                part = self._run(shard, gradients)
            except Exception as error:
                with self._changed:
                    self._errors[shard] = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._parts[shard] = part
            self._done(shard, shard + 1, gradients)

    def stop(self) -> None:
        """Begin no more shards."""
        with self._changed:
            self._next = self._stop
            self._changed.notify_all()

    def result(self) -> tuple[list[Part], dict[int, int], dict[int, Array]]:
        """The shards' numbers, and the nodes they were added up to so far: where each ends, and its gradients.

        Raises:
            MemoryError: one of the shards raised it. Otherwise what the lowest shard raised.
        """
        if self._errors:
            errors = [self._errors[shard] for shard in sorted(self._errors)]
            self._errors = {}
            try:
                raise next((error for error in errors if isinstance(error, MemoryError)), errors[0])
            finally:
                errors.clear()
        parts = [self._parts[shard] for shard in sorted(self._parts)]
        return parts, self._stops, {first: gradients.buffer for first, gradients in self._sums.items()}

    def _take(self) -> tuple[int, Parameters] | None:
        """The next shard and a buffer for it; None if there is nothing to begin."""
        while True:
            with self._changed:
                siblings = None
                while not (over := self._next == self._stop or bool(self._errors)) and not self._free:
                    siblings = next_addition(self._stops, self._shards)
                    if siblings:
                        break
                    self._changed.wait()
                if over:
                    self._changed.notify_all()
                    return None
                if siblings is None:
                    self._next += 1
                    return self._next - 1, self._free.pop()
                left, right = siblings
                stop = self._stops.pop(right)
                del self._stops[left]
                total, added = self._sums.pop(left), self._sums.pop(right)
            total.buffer += added.buffer
            self._done(left, stop, total, free=added)

    def _done(self, first: int, stop: int, gradients: Parameters, free: Parameters | None = None) -> None:
        with self._changed:
            self._stops[first], self._sums[first] = stop, gradients
            if free is not None:
                self._free.append(free)
            self._changed.notify_all()
