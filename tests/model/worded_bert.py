"""A small BERT that knows some English words, and every other word by its letters."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece

KNOWN = (
    "the a man woman boy girl king queen dog cat is was not now by in of and helped followed sleeping saw seen old "
    "tall paris france rome italy oslo norway capital city born he she him her his developer clerk because needed help"
)
VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *KNOWN.split(),
    ".",
    ",",
    *(letter for letter in string.ascii_lowercase if letter != "a"),
    *(f"##{letter}" for letter in string.ascii_lowercase),
)


def worded_bert(seed: int = 0, **settings: Any) -> MiniBERT:
    """Two blocks, T = 16, away from the initial values."""
    config = ModelConfig(
        **{
            "vocab_size": len(VOCABULARY),
            "hidden_size": 12,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 10,
            "max_position_embeddings": 16,
            **settings,
        }
    )
    model = MiniBERT(config, dtype=np.float64, tokenizer=WordPiece(VOCABULARY))
    model.parameters.buffer[...] += 0.3 * np.random.default_rng(seed).normal(size=model.parameters.buffer.size)
    return model
