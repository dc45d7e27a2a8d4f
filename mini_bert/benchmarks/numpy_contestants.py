"""Our side: the training step and `fill_mask` as the package's own verbs run them, and what is measured about them."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.benchmarks.workload import MASKING_STREAM, pieces, sentences
from mini_bert.machine import blas_kernel
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload


class TrainingStep:
    """Masking, forward, backward, clipping, the finite check and AdamW.

    Options: `dropout`, a probability (0: none); `shards`, 4 by default.
    """

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        from mini_bert.config.schema import Config, ModelConfig
        from mini_bert.data.masking import mask_rows
        from mini_bert.model.bert import MiniBERT
        from mini_bert.training.parallel import ShardPool
        from mini_bert.training.step import TrainingState, training_step

        p = options.get("dropout", 0.0)
        shape = ModelConfig(**workload.shape | {"hidden_dropout_prob": p, "attention_probs_dropout_prob": p})
        self._config = Config.model_validate(
            {
                "model": shape,
                "train": {
                    "lr": workload.lr,
                    "schedule": "constant",
                    "warmup_ratio": 0.0,
                    "batch_size": workload.rows,
                    "shards": options.get("shards", 4),
                },
            }
        )
        weights = MiniBERT.from_pretrained(workload.model)
        model = MiniBERT(shape)
        model.parameters.buffer[...] = weights.parameters.buffer
        self._state = TrainingState.fresh(model)
        self._pool = ShardPool(threads, self._config.train.shards).__enter__()
        self._text = workload.text()
        self._pieces = pieces(shape.vocab_size)
        self._seed = workload.seed
        self._mask, self._train = mask_rows, training_step

    def step(self, number: int) -> float:
        """One update; returns the mean loss in nats."""
        from mini_bert.batch import Batch

        number %= len(self._text)
        stream = RandomStream(self._seed, MASKING_STREAM, number)
        masked = self._mask(self._text[number], self._pieces, self._config.masking, stream)
        batch = Batch(masked.input_ids, masked_positions=masked.masked_positions, target_ids=masked.target_ids)
        return self._train(self._state, batch, self._config, 10**9, self._pool).loss

    def facts(self) -> dict[str, Any]:
        """Versions, kernel, threads."""
        return _facts() | {"threads": self._pool.threads, "shards": self._pool.shards}


class FillMask:
    """`model.fill_mask(sentence, top_k=5)` with the model loaded; tokenising and the top pieces are included."""

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        from threadpoolctl import threadpool_limits

        from mini_bert.model.bert import MiniBERT

        threadpool_limits(1, "blas")
        self._model = MiniBERT.from_pretrained(workload.model)
        self._sentences = sentences()

    def step(self, number: int) -> float:
        """Fill one sentence; returns the probability of the likeliest piece."""
        return self._model.fill_mask(self._sentences[number % len(self._sentences)], top_k=5)[0][0].probability

    def facts(self) -> dict[str, Any]:
        """Versions and kernel."""
        return _facts()


class EmbeddingGradient:
    """The gradient of the token embeddings of one batch (C3), in one of three ways.

    Options: `way`: `sorted` (ours: sort and `np.add.reduceat`), `add.at` (NumPy's unbuffered addition) or `loop`
    (Python, one row after the other).
    """

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        shape = workload.model_config
        self._ids = [ids.reshape(-1) for ids in workload.text()]
        self._dy = np.random.default_rng(0).standard_normal((self._ids[0].size, shape.hidden_size), np.float32)
        self._table = np.zeros((shape.vocab_size, shape.hidden_size), np.float32)
        self._add = {"sorted": _sorted, "add.at": _add_at, "loop": _loop}[options["way"]]

    def step(self, number: int) -> float:
        """Add one batch's gradient to the table; returns an element of it, which all ways must agree on."""
        ids = self._ids[number % len(self._ids)]
        self._add(self._table, ids, self._dy)
        return float(self._table[ids[1], 0])

    def facts(self) -> dict[str, Any]:
        """Versions."""
        return _facts()


def _sorted(table: Any, ids: Any, dy: Any) -> None:
    from mini_bert.ops.embedding import add_rows

    add_rows(table, ids, dy)


def _add_at(table: Any, ids: Any, dy: Any) -> None:
    np.add.at(table, ids, dy)


def _loop(table: Any, ids: Any, dy: Any) -> None:
    for row, i in enumerate(ids):
        table[i] += dy[row]


def _facts() -> dict[str, Any]:
    return {"blas": blas_kernel(), "versions": {"python": platform.python_version(), "numpy": np.__version__}}
