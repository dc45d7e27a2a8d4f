"""A BERT with no two dimensions alike, far from its initial values, and a batch with everything in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.forward_pass import Pass
from mini_bert.model.heads import HEADS
from mini_bert.model.trace import Cache
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream

SHAPE: dict[str, Any] = {
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "max_position_embeddings": 7,
    "hidden_dropout_prob": 0.25,
    "attention_probs_dropout_prob": 0.15,
    "num_labels": 3,
}
DROPOUT = RandomStream(seed=11, name="dropout", step=4)

IDS = np.array([[2, 7, 4, 7, 3, 9], [2, 9, 4, 3, 0, 0], [2, 4, 10, 11, 3, 0]], np.int32)
MASK = IDS != 0
TYPES = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0]])
BATCH = Batch(IDS, MASK, TYPES, np.array([1, 2, 4, 8, 13, 14]), np.array([7, 5, 3, 12, 1, 10]), first_row=4)
"""3, 1 and 2 masked positions a row."""


def small_bert(dtype: Any = np.float64, seed: int = 0, **settings: Any) -> MiniBERT:
    """Away from the initial values, where all attention weights are alike and half of the gradients next to nothing."""
    model = MiniBERT(ModelConfig(**{**SHAPE, **settings}), dtype=dtype)
    model.parameters.buffer[...] += 0.3 * np.random.default_rng(seed).normal(size=model.parameters.buffer.size)
    return model


def full_pass(model: MiniBERT, batch: Batch, head: str, dropout: RandomStream | None) -> tuple[Array, Cache]:
    """Logits of a head at all positions, as `forward` gives them, but with dropout."""
    B, T = batch.input_ids.shape
    run = Pass(B, T, batch.attention_mask, dropout, batch.first_row)
    hidden, saved = model.encode_forward(batch.input_ids, batch.token_type_ids, run)
    logits, head_saved = HEADS[head][0](hidden, model.parameters, model.config, run)
    return logits, Cache({"logits": logits}, (saved, head_saved), head)
