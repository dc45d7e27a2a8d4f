"""The same model before it has learned anything: what architecture and tokenizer give by themselves."""

from __future__ import annotations

from mini_bert.model.bert import MiniBERT


def untrained_like(model: MiniBERT, seed: int = 0) -> MiniBERT:
    """A model of the same shape, dtype and tokenizer at its first values; its decoder knows no frequencies."""
    config = model.config.model_copy(update={"decoder_bias_init": "zeros"})
    return MiniBERT(config, dtype=model.dtype, seed=seed, tokenizer=model.tokenizer)
