"""One step of each racer's training, as the clock measures it: on the race's own text, each in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload


class OwnStep:
    """A batch made and masked, and a step of training on it. Option: `config`, all settings."""

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        from mini_bert.config.schema import Config
        from mini_bert.data.batches import BatchStream
        from mini_bert.data.tokens import open_tokens
        from mini_bert.model.tasks import with_task_heads
        from mini_bert.training.allocator import keep_freed_memory
        from mini_bert.training.first_model import first_model
        from mini_bert.training.parallel import ShardPool
        from mini_bert.training.step import TrainingState, training_step

        keep_freed_memory()
        self._config = with_task_heads(Config(**options["config"]))
        tokens = open_tokens(self._config.data, self._config.tokenizer, self._config.model.vocab_size)
        self._stream = BatchStream(tokens.train, self._config, tokens.tokenizer)
        self._state = TrainingState.fresh(first_model(self._config, tokens), self._config.optimizer)
        self._pool = ShardPool(threads, self._config.train.shards).__enter__()
        self._train = training_step

    def step(self, number: int) -> float:
        """One update; returns the mean loss in nats."""
        steps = self._config.train.steps
        assert steps is not None
        return self._train(self._state, self._stream.batch(number), self._config, steps, self._pool).loss

    def facts(self) -> dict[str, Any]:
        """Kernel and threads."""
        from mini_bert.machine import blas_kernel

        return {"blas": blas_kernel(), "threads": self._pool.threads}


class TransformersStep:
    """A step of transformers' training on batches made beforehand. Option: `config`, all settings."""

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        from mini_bert.benchmarks.race.transformers_training import Training
        from mini_bert.config.schema import Config
        from mini_bert.data.batches import BatchStream
        from mini_bert.data.tokens import open_tokens

        config = Config(**options["config"])
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
        stream = BatchStream(tokens.train, config, tokens.tokenizer)
        self._training = Training(config, threads)
        self._batches = [self._training.inputs(stream.batch(number)) for number in range(8)]

    def step(self, number: int) -> float:
        """One update; returns the mean loss in nats."""
        return self._training.step(self._batches[number % len(self._batches)])

    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        import torch
        import transformers

        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return {"versions": versions, "threads": torch.get_num_threads()}
