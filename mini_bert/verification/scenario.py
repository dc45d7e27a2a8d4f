"""Under which conditions is a model checked, and what exactly is differentiated?

A scenario is a model, a batch, perhaps dropout, and a reading: the summed masked-language-model loss where the model
has that head, and for every other head its logits times a random cotangent (for a model without heads its hidden
states). The sum of these is the objective; its gradient is put together by the model's own backward passes.

Weights stand far from their initial values, where all weights of attention are alike and half of the gradients next to
nothing: to each, normal noise of deviation 1/√H is added. All numbers are such that float32 holds them, so that every
dtype stands at the same point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mini_bert.batch import Batch, Question
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.heads import HEADS
from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import HEAD_OF, LOSS_OF, task_losses_and_gradients
from mini_bert.model.trace import Cache
from mini_bert.ops import cross_entropy
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream

LOSS, TASKS, HIDDEN = "loss", "tasks", "hidden"
"""Names of readings that are no head's logits: two losses, of which the second is the weighted sum over several tasks,
and the hidden states."""

OF_ROWS = ("nsp", "sop", "classifier")
"""Heads with one answer a row."""

DROPOUT = RandomStream(seed=11, name="dropout", step=4)


class Scenario(NamedTuple):
    """What is differentiated, where."""

    name: str
    model: MiniBERT
    batch: Batch
    dropout: RandomStream | None
    cotangents: Mapping[str, Array]
    """By reading: `loss`, `hidden` or a head; what it is multiplied with in the objective."""

    def at(self, dtype: Any) -> MiniBERT:
        """The model in another dtype, with numbers of its own."""
        return as_dtype(self.model, dtype)


def as_dtype(model: MiniBERT, dtype: Any) -> MiniBERT:
    """A copy of `model` in `dtype`."""
    buffer = model.parameters.buffer.astype(dtype)
    return MiniBERT.from_parameters(Parameters(model.config, dtype, buffer))


def away_from_start(config: ModelConfig, seed: int = 0) -> MiniBERT:
    """A model in float64 whose weights have left their initial values."""
    model = MiniBERT(config, dtype=np.float64, seed=seed)
    noise = np.random.default_rng(seed).normal(size=model.parameters.buffer.size)
    model.parameters.buffer[...] += noise / math.sqrt(config.hidden_size)
    model.parameters.buffer[...] = model.parameters.buffer.astype(np.float32)
    return model


def make_scenario(
    name: str,
    model: MiniBERT,
    *,
    tokens: int,
    lengths: Sequence[int],
    masked: Sequence[int],
    segments: bool = True,
    dropout: bool = True,
    all_logits: bool = False,
    tasks: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Scenario:
    """A scenario with random tokens.

    Args:
        name: what reports call it.
        model: in float64.
        tokens: T, columns of the batch.
        lengths: real tokens of each row; what is behind them is padding.
        masked: how many positions of each row the loss reads.
        segments: whether rows have two segments.
        dropout: whether something is dropped out.
        all_logits: read the logits of the masked-language-model head at all positions, not the loss.
        tasks: read the weighted sum of these tasks' mean losses, and nothing else.
        seed: of everything that is drawn.
    """
    config, rng = model.config, np.random.default_rng(seed)
    B = len(lengths)
    ids = rng.integers(0, config.vocab_size, (B, tokens))
    mask = np.arange(tokens) < np.array(lengths)[:, None]
    types = None
    if segments and config.type_vocab_size > 1:
        types = (np.arange(tokens) >= rng.integers(1, max(tokens, 2), B)[:, None]).astype(np.int64)
    positions = np.sort(
        np.concatenate([b * tokens + rng.permutation(tokens)[:count] for b, count in enumerate(masked)])
    ).astype(np.int64)
    targets = rng.integers(0, config.vocab_size, positions.size)
    batch = Batch(ids, None if mask.all() else mask, types, positions, targets, first_row=4)
    shapes = {
        "mlm": (B, tokens, config.vocab_size),
        **dict.fromkeys(("nsp", "sop"), (B, 2)),
        **dict.fromkeys(("std", "rtd"), (B, tokens, 2)),
        "classifier": (B, config.num_labels),
        "token_classifier": (B, tokens, config.num_labels),
        HIDDEN: (B, tokens, config.hidden_size),
    }
    if tasks is not None:
        questions = tuple(_question(batch, task, weight, rng) for task, weight in tasks.items())
        scenario = Scenario(name, model, batch._replace(questions=questions), None, {TASKS: np.ones(())})
        return scenario._replace(dropout=DROPOUT if dropout else None)
    readings = [LOSS if head == "mlm" and not all_logits else head for head in config.heads] or [HIDDEN]
    cotangents = {
        reading: np.ones(()) if reading == LOSS else rng.normal(size=shapes[reading]).astype(np.float32).astype(float)
        for reading in readings
    }
    return Scenario(name, model, batch, DROPOUT if dropout else None, cotangents)


def _question(batch: Batch, task: str, weight: float, rng: np.random.Generator) -> Question:
    """Masked positions for `masked_lm`; some rows, or some real tokens, for the others."""
    B, T = batch.input_ids.shape
    if task == "masked_lm":
        assert batch.masked_positions is not None
        assert batch.target_ids is not None
        return Question(task, batch.masked_positions, batch.target_ids, weight, batch.masked_positions.size)
    real = np.ones((B, T), bool) if batch.attention_mask is None else batch.attention_mask
    places = np.arange(0, B * T, T) if HEAD_OF[task] in OF_ROWS else np.flatnonzero(real)
    positions = np.sort(rng.permutation(places)[: max(1, places.size * 2 // 3)])
    labels = rng.normal(size=positions.size) if task == "regression" else rng.integers(0, 2, positions.size)
    return Question(task, positions, labels, weight, positions.size)


def kink_distance(scenario: Scenario) -> float:
    """How near the input of an activation with a kink comes to it; infinite for activations without.

    Where a step of a difference crosses the kink of ReLU, or float32 rounds to its other side, there is no derivative
    to compare with.
    """
    model, batch = scenario.model, scenario.batch
    if model.config.hidden_act not in _WITH_A_KINK:
        return math.inf
    nearest = math.inf

    def tap(name: str, value: Array) -> Array:
        nonlocal nearest
        if name.endswith(".pre_activation") and not name.startswith("pooler"):
            nearest = min(nearest, float(np.abs(value).min()))
        return value

    B, T = batch.input_ids.shape
    run = Pass(B, T, batch.attention_mask, scenario.dropout, batch.first_row, tap)
    hidden, _ = model.encode_forward(batch.input_ids, batch.token_type_ids, run)
    if "mlm" in model.config.heads:
        HEADS["mlm"][0](hidden, model.parameters, model.config, run)
    return nearest


_WITH_A_KINK = ("relu",)


def readings(model: MiniBERT, scenario: Scenario) -> dict[str, Array]:
    """What the scenario reads of `model`, which may have another dtype than the scenario's own: forward passes only."""
    batch, config, found = scenario.batch, model.config, {}
    B, T = batch.input_ids.shape
    run = Pass(B, T, batch.attention_mask, scenario.dropout, batch.first_row)
    if LOSS in scenario.cotangents:
        assert batch.masked_positions is not None
        assert batch.target_ids is not None
        read = Reading.of(batch.masked_positions, B, T)
        hidden, _ = model.encode_forward(batch.input_ids, batch.token_type_ids, run, read)
        logits, _ = HEADS["mlm"][0](hidden, model.parameters, config, run)
        found[LOSS] = cross_entropy.forward(logits, targets=batch.target_ids)[0]
    if TASKS in scenario.cotangents:
        found[TASKS] = _all_tasks(model, batch, run)
    others = [reading for reading in scenario.cotangents if reading not in (LOSS, TASKS)]
    if others:
        hidden, _ = model.encode_forward(batch.input_ids, batch.token_type_ids, run)
        for reading in others:
            found[reading] = (
                hidden if reading == HIDDEN else HEADS[reading][0](hidden, model.parameters, config, run)[0]
            )
    return found


def _all_tasks(model: MiniBERT, batch: Batch, run: Pass) -> Array:
    """The weighted sum of the tasks' mean losses, with every position computed for every task."""
    hidden, _ = model.encode_forward(batch.input_ids, batch.token_type_ids, run)
    total = np.zeros((), model.dtype)
    for task, positions, labels, weight, items in batch.questions:
        head = HEAD_OF[task]
        logits, _ = HEADS[head][0](hidden, model.parameters, model.config, run)
        rows = logits[positions // run.T] if head in OF_ROWS else logits.reshape(-1, logits.shape[-1])[positions]
        total = total + weight / items * LOSS_OF[task].forward(rows, targets=labels)[0]
    return total


def objective(model: MiniBERT, scenario: Scenario) -> Any:
    """The sum of all readings times their cotangents."""
    found = readings(model, scenario)
    return sum((found[reading] * cotangent).sum() for reading, cotangent in scenario.cotangents.items())


def gradients(model: MiniBERT, scenario: Scenario) -> Parameters:
    """The gradient of the objective, by the model's own backward passes, in the model's dtype."""
    grads = MiniBERTGradients(model)
    for reading, cotangent in scenario.cotangents.items():
        if reading == LOSS:
            model.mlm_loss_and_gradients(scenario.batch, grads, scenario.dropout)
            continue
        if reading == TASKS:
            task_losses_and_gradients(model, scenario.batch, grads, scenario.dropout)
            continue
        cache = full_pass(model, scenario, None if reading == HIDDEN else reading)
        if reading == HIDDEN:
            grads.backward_from_hidden(cotangent, cache)
        else:
            grads.backward_from_logits(cotangent, cache)
    return grads.gradients


def full_pass(model: MiniBERT, scenario: Scenario, head: str | None) -> Cache:
    """The pass over all positions that `forward` or `encode` make, and with the scenario's dropout where it has one."""
    batch = scenario.batch
    inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    if scenario.dropout is None:
        return model.encode(*inputs)[1] if head is None else model.forward(*inputs, head=head)[1]
    B, T = batch.input_ids.shape
    run = Pass(B, T, batch.attention_mask, scenario.dropout, batch.first_row)
    hidden, saved = model.encode_forward(batch.input_ids, batch.token_type_ids, run)
    if head is None:
        last = f"layer_{model.config.num_hidden_layers - 1}.output"
        return Cache({last: hidden}, (saved, None), None)
    logits, head_saved = HEADS[head][0](hidden, model.parameters, model.config, run)
    return Cache({"logits": logits}, (saved, head_saved), head)
