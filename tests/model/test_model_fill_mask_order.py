"""The likeliest pieces are those that a full sort puts first, in its order."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 8, 21, 299])
def test_top_k_is_the_beginning_of_a_full_sort(top_k: int) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(295))]
    config = ModelConfig(
        vocab_size=len(words), hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    model = MiniBERT(config, dtype=np.float64, tokenizer=WordPiece(words))
    model.parameters.buffer[...] += np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    text = "[MASK] w1 [MASK] w2 [MASK] [MASK] w3 [MASK] [MASK]"
    ids, _ = WordPiece(words).encode_row(text)
    places = np.flatnonzero(np.array(ids) == 4)
    logits = model.mlm_logits(Batch(np.array([ids]), masked_positions=places))
    for predictions, row in zip(model.fill_mask(text, top_k), logits, strict=True):
        assert [prediction.id for prediction in predictions] == sorted(range(300), key=lambda v: -row[v])[:top_k]
        total = sum(np.exp(row - row.max()))
        for prediction in predictions:
            assert prediction.probability == pytest.approx(np.exp(row[prediction.id] - row.max()) / total, rel=1e-12)
