"""Theorems about what changes nothing: padding, where a row begins, the order of heads, no dropout, a second pass."""

from __future__ import annotations

import numpy as np

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.verification.compared_passes import (
    difference,
    of_the_loss,
    real,
    unchanged,
    without_dropout,
)
from mini_bert.verification.scenario import (
    Scenario,
    as_dtype,
    gradients,
    readings,
)


def more_padding(scenario: Scenario) -> float | None:
    """Not where a row is padding only, which looks at all of it alike."""
    batch, config = scenario.batch, scenario.model.config
    B, T = batch.input_ids.shape
    mask = real(batch)
    too_long = config.max_position_embeddings <= T
    still = of_the_loss(without_dropout(scenario))
    if still is None or too_long or not mask.any(axis=1).all():
        return None
    assert batch.masked_positions is not None
    rng = np.random.default_rng(6)
    b, t = np.divmod(batch.masked_positions, T)
    types = np.zeros((B, T), np.int64) if batch.token_type_ids is None else batch.token_type_ids
    longer = Batch(
        np.concatenate([batch.input_ids, rng.integers(0, config.vocab_size, (B, 1))], axis=1),
        np.concatenate([mask, np.zeros((B, 1), bool)], axis=1),
        np.concatenate([types, rng.integers(0, config.type_vocab_size, (B, 1))], axis=1),
        b * (T + 1) + t,
        batch.target_ids,
        batch.first_row,
    )
    return unchanged(scenario.model, still, still._replace(batch=longer))


def moved_along(scenario: Scenario) -> float | None:
    """All rows one place later, with padding in front; says nothing about a table of positions."""
    batch, config = scenario.batch, scenario.model.config
    B, T = batch.input_ids.shape
    mask = real(batch)
    too_long = config.max_position_embeddings <= T
    still = of_the_loss(without_dropout(scenario))
    relative = config.position_embedding_type != "absolute"
    if still is None or not relative or too_long or not mask.any(axis=1).all():
        return None
    assert batch.masked_positions is not None
    b, t = np.divmod(batch.masked_positions, T)
    front = np.zeros((B, 1), np.int64)
    later = Batch(
        np.concatenate([front, batch.input_ids], axis=1),
        np.concatenate([front.astype(bool), mask], axis=1),
        None if batch.token_type_ids is None else np.concatenate([front, batch.token_type_ids], axis=1),
        b * (T + 1) + t + 1,
        batch.target_ids,
        batch.first_row,
    )
    return unchanged(scenario.model, still, still._replace(batch=later))


def under_padding(scenario: Scenario) -> float | None:
    """Whatever ids stand there, nothing reads them."""
    batch, config = scenario.batch, scenario.model.config
    hidden, loss = ~real(batch), of_the_loss(scenario)
    if loss is None or not hidden.any() or hidden.all(axis=1).any():
        return None
    assert batch.masked_positions is not None
    hidden.ravel()[batch.masked_positions] = False  # there the loss reads a query
    ids = np.where(hidden, (batch.input_ids + 1) % config.vocab_size, batch.input_ids)
    return unchanged(scenario.model, loss, loss._replace(batch=batch._replace(input_ids=ids)))


def other_order_of_heads(scenario: Scenario) -> float | None:
    """Heads that trade places, with all their weights, give the same."""
    config = scenario.model.config
    if config.num_attention_heads == 1 or config.position_embedding_type == "alibi":  # a slope belongs to its head
        return None
    model, still = as_dtype(scenario.model, np.float64), without_dropout(scenario)
    order = np.roll(np.arange(config.num_attention_heads), 1)
    columns = np.arange(config.hidden_size).reshape(config.num_attention_heads, -1)[order].ravel()
    expected = {name: array.copy() for name, array in gradients(model, still).items()}
    before = readings(model, still)
    for tensors in (model.parameters, expected):
        for i in range(config.num_hidden_layers):
            for letter in "QKVG":
                for name in (f"W_{letter}_{i}", f"b_{letter}_{i}"):
                    if name in tensors:
                        of_heads = columns if tensors[name].shape[-1] == columns.size else order
                        tensors[name][...] = tensors[name][..., of_heads]
            tensors[f"W_O_{i}"][...] = tensors[f"W_O_{i}"][columns]
        if "relative_bias" in tensors:
            tensors["relative_bias"][...] = tensors["relative_bias"][:, order]
    return max(difference(readings(model, still), before), difference(gradients(model, still), expected))


def no_probability(scenario: Scenario) -> float | None:
    """Dropout with probability 0 is none."""
    if scenario.dropout is None:
        return None
    config = scenario.model.config.model_copy(update={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    model = MiniBERT(config, dtype=np.float64)
    model.parameters.buffer[...] = scenario.model.parameters.buffer
    return max(
        difference(readings(model, scenario), readings(model, without_dropout(scenario))),
        difference(gradients(model, scenario), gradients(scenario.model, without_dropout(scenario))),
    )


def same_bits(scenario: Scenario) -> float:
    """Two passes give the same bits, and change no weight."""
    before = scenario.model.parameters.buffer.copy()
    one, two = (gradients(scenario.model, scenario).buffer for _ in range(2))
    return float(np.sum(one != two) + np.sum(scenario.model.parameters.buffer != before))
