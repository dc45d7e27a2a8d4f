"""A training's state that is saved in a millisecond or two, every number of it different."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.random_streams import RandomStream
from mini_bert.text.wordpiece import WordPiece
from mini_bert.training.checkpoint import save_checkpoint
from mini_bert.training.step import TrainingState

PROGRESS: dict[str, Any] = {"tokens": 12_345, "loss": 0.1 + 0.2, "best_loss": None}
FACTS: dict[str, Any] = {"data_sha256": "d" * 64, "environment": {"numpy": "2"}}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]

_SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}


def small_state(step: int = 0, *, seed: int = 1, tokenizer: bool = True, **shape: Any) -> TrainingState:
    """A model of 1,140 parameters, or of another shape, with moments as after some steps."""
    model = MiniBERT(ModelConfig(**{**_SHAPE, **shape}), seed=seed, tokenizer=WordPiece(PIECES) if tokenizer else None)
    state = TrainingState.fresh(model)
    for vector, drawn in zip(
        state.optimizer.values(), RandomStream(seed, "moments").uniform(2, state.optimizer["m"].size), strict=True
    ):
        vector[...] = 2 * drawn - 1
    state.step = step
    return state


def change(state: TrainingState, step: int) -> TrainingState:
    """The same state, in place, as if a step had been done: no two steps have the same numbers."""
    state.step = step
    state.model.parameters.buffer[:5] += np.float32(step)
    state.optimizer["m"][0] = step
    return state


def save(run: Path, state: TrainingState, **options: Any) -> Path:
    """Save it as the loop would."""
    return save_checkpoint(run, state, PROGRESS, FACTS, **options)
