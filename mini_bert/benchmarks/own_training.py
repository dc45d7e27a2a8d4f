"""A training step of any configuration on its own text, as the clocks of studies and of the race measure it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload

_GOLDEN = 0.6180339887498949
"""Its multiples, modulo 1, lie evenly between 0 and 1 however many there are."""


class OwnTraining:
    """A batch made and masked, and a training step on it; a contestant of benchmarks.duel.

    Options: `config`, all settings. Steps are taken from all over the training, as curricula and schedules of the
    masking rate make some longer than others, at a learning rate of 0, so that none diverges.
    """

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        from mini_bert.config.schema import Config
        from mini_bert.data.tokens import open_tokens
        from mini_bert.model.tasks import with_task_heads
        from mini_bert.training.allocator import keep_freed_memory
        from mini_bert.training.course import from_nothing
        from mini_bert.training.material import RunningText
        from mini_bert.training.parallel import ShardPool
        from mini_bert.training.ranks import Ranks
        from mini_bert.training.step import training_step

        keep_freed_memory()
        config = with_task_heads(Config(**options["config"]))
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
        self._pool = ShardPool(threads, config.train.shards).__enter__()
        self._course = from_nothing(config, Path("clock"), RunningText(tokens), self._pool, Ranks())
        self._train = training_step

    def step(self, number: int) -> float:
        """One training step; returns its loss in nats."""
        course, steps = self._course, self._course.config.train.steps
        assert steps is not None
        course.state.step = int((number * _GOLDEN) % 1 * steps)
        return self._train(course.state, course.next_batch(), course.config, steps, self._pool, 0.0).loss

    def facts(self) -> dict[str, Any]:
        """Size, kernel and threads."""
        from mini_bert.machine import blas_kernel

        parameters = self._course.state.model.parameters.buffer.size
        return {"parameters": parameters, "blas": blas_kernel(), "threads": self._pool.threads}
