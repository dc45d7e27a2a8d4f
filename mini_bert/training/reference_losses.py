"""How well does another model already know each row? The loss by which a curriculum of kind `loss` orders them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.data.difficulty import Reference
from mini_bert.errors import ConfigError
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece
from mini_bert.training.model_lookup import find_model

_ROWS_AT_ONCE = 16
"""Scored by one thread; fixed, so that the number of threads does not change the last bits."""


def reference_of(config: Config, tokenizer: WordPiece, threads: int = 1) -> Reference | None:
    """The model that `curriculum.reference` names, as a scorer of rows; None where no curriculum asks for one.

    Raises:
        ConfigError: it reads other pieces than this tokenizer's, shorter rows, or has no head that fills masks.
        CheckpointError: there is no such model, or it does not hold.
    """
    name = config.curriculum.reference
    if config.curriculum.kind != "loss" or name is None:
        return None
    model = MiniBERT.from_pretrained(find_model(name, config.run.directory, "curriculum.reference"))
    tokens = config.model.max_position_embeddings
    if model.tokenizer is None or model.tokenizer.fingerprint != tokenizer.fingerprint:
        raise _unfit(name, "other pieces", "the tokenizer of this training", "Train it with the same vocabulary.")
    if model.config.max_position_embeddings < tokens:
        raise _unfit(name, f"rows of {model.config.max_position_embeddings} tokens", f"at least {tokens}")
    if "mlm" not in model.config.heads:
        raise _unfit(name, f"heads {model.config.heads}", "the head mlm")
    digest = hashlib.sha256(json.dumps(model.config.model_dump(mode="json"), sort_keys=True).encode())
    digest.update(model.parameters.buffer.tobytes())
    return Reference(digest.hexdigest(), lambda batch: row_losses(model, batch, threads))


def row_losses(model: MiniBERT, batch: Batch, threads: int = 1) -> NDArray[np.float32]:
    """Mean loss of each row at its masked positions, [B], in nats; 0 where a row has none."""
    rows = len(batch.input_ids)
    parts = [batch.rows(first, min(first + _ROWS_AT_ONCE, rows)) for first in range(0, rows, _ROWS_AT_ONCE)]
    if threads == 1:
        return _joined([_losses(model, part) for part in parts])
    with ThreadPoolExecutor(threads) as pool:
        return _joined(list(pool.map(lambda part: _losses(model, part), parts)))


def _joined(losses: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.empty(0, np.float32), *losses])


def _losses(model: MiniBERT, batch: Batch) -> NDArray[np.float32]:
    rows, tokens = batch.input_ids.shape
    positions, targets = batch.masked_positions, batch.target_ids
    assert positions is not None
    assert targets is not None
    if not positions.size:
        return np.zeros(rows, np.float32)
    logits = model.mlm_logits(batch)
    logits -= logits.max(axis=1, keepdims=True)
    at_targets = logits[np.arange(len(targets)), targets]
    losses = np.log(np.exp(logits, out=logits).sum(axis=1)) - at_targets
    row = positions // tokens
    sums, counts = np.bincount(row, losses, rows), np.bincount(row, minlength=rows)
    return (sums / np.maximum(counts, 1)).astype(np.float32)


def _unfit(name: str, got: str, expected: str, advice: str = "") -> ConfigError:
    return ConfigError("curriculum.reference", got=f"{name}: {got}", expected=expected, advice=advice)
