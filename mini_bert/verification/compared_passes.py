"""Passes whose numbers the theorems about the model compare, and how they are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.trace import Cache
from mini_bert.ops.contract import Array
from mini_bert.verification.gradient_check import gradient_errors
from mini_bert.verification.scenario import (
    LOSS,
    Scenario,
    full_pass,
    gradients,
    readings,
)


def difference(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The worst error of a tensor, as everywhere."""
    return max(error.error for error in gradient_errors(got, expected))


def without_dropout(scenario: Scenario) -> Scenario:
    """The same, with nothing dropped."""
    return scenario._replace(dropout=None)


def of_the_loss(scenario: Scenario) -> Scenario | None:
    """The scenario that reads the loss alone; None where it does not read it at all."""
    if LOSS not in scenario.cotangents:
        return None
    return scenario._replace(cotangents={LOSS: scenario.cotangents[LOSS]})


def taps(scenario: Scenario, head: str | None, cotangent: Array) -> tuple[Cache, MiniBERTGradients, dict[str, Array]]:
    """A pass over all positions, its gradients, and the gradient of every intermediate by name."""
    seen: dict[str, Array] = {}

    def tap(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    grads = MiniBERTGradients(scenario.model)
    cache = full_pass(scenario.model, without_dropout(scenario), head)
    (grads.backward_from_hidden if head is None else grads.backward_from_logits)(cotangent, cache, tap=tap)
    return cache, grads, seen


def random(shape: tuple[int, ...]) -> Array:
    """A cotangent or direction that nothing else is drawn like."""
    return np.asarray(np.random.default_rng(5).normal(size=shape))


def on_hidden(scenario: Scenario) -> tuple[Cache, MiniBERTGradients, dict[str, Array]]:
    """`taps` of a random cotangent on the last hidden states."""
    return taps(scenario, None, random((*scenario.batch.input_ids.shape, scenario.model.config.hidden_size)))


def real(batch: Batch) -> Array:
    """The attention mask, also where the batch has none."""
    return np.ones(batch.input_ids.shape, bool) if batch.attention_mask is None else batch.attention_mask


def unchanged(model: MiniBERT, one: Scenario, other: Scenario) -> float:
    """Whether readings and gradients are the same."""
    return max(
        difference(readings(model, other), readings(model, one)),
        difference(gradients(model, other), gradients(model, one)),
    )
