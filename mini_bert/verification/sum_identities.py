"""Theorems about parts and wholes: what the loss reads, tasks, shards, gradients that are added to."""

from __future__ import annotations

import numpy as np

from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.tasks import HEAD_OF, task_losses_and_gradients
from mini_bert.ops import softmax
from mini_bert.verification.compared_passes import (
    difference,
    of_the_loss,
    on_hidden,
    random,
    without_dropout,
)
from mini_bert.verification.op_identities import apart
from mini_bert.verification.scenario import (
    LOSS,
    OF_ROWS,
    TASKS,
    Scenario,
    full_pass,
    gradients,
    objective,
    readings,
)


def saving_in_the_last_block(scenario: Scenario) -> float | None:
    """The loss and gradients of a pass over all positions, decoded everywhere."""
    batch, config = scenario.batch, scenario.model.config
    read = of_the_loss(scenario)
    if read is None:
        return None
    cache = full_pass(scenario.model, scenario, "mlm")
    targets = np.full(batch.input_ids.size, -100)
    targets[batch.masked_positions] = batch.target_ids
    grads = MiniBERTGradients(scenario.model)
    logits = cache["logits"].reshape(*batch.input_ids.shape, config.vocab_size)
    mean, dlogits = grads.compute_mlm_loss_and_gradients(logits, targets.reshape(batch.input_ids.shape))
    count = int((targets != -100).sum())
    grads.backward_from_logits(dlogits * count, cache)
    loss = float(readings(scenario.model, read)[LOSS])
    return max(apart(loss, mean * count), difference(gradients(scenario.model, read), grads.gradients))


def tasks_union(scenario: Scenario) -> float | None:
    """The losses and gradients of one whole pass a task."""
    if TASKS not in scenario.cotangents:
        return None
    model, batch, grads = scenario.model, scenario.batch, MiniBERTGradients(scenario.model)
    total = 0.0
    for task, positions, labels, weight, items in batch.questions:
        head = HEAD_OF[task]
        cache = full_pass(model, scenario, head)
        logits = cache["logits"]
        places = positions // batch.input_ids.shape[1] if head in OF_ROWS else positions
        dlogits, read = np.zeros_like(logits), logits.reshape(-1, logits.shape[-1])[places]
        if task == "regression":
            misses = read - labels[:, None]
            slopes, loss = 2 * misses, float((misses * misses).sum())
        else:
            probs = softmax.stable_softmax(read)
            slopes = probs - np.eye(logits.shape[-1])[labels]
            loss = -float(np.log(probs[np.arange(labels.size), labels]).sum())
        dlogits.reshape(-1, logits.shape[-1])[places] = weight / items * slopes
        grads.backward_from_logits(dlogits, cache)
        total += weight / items * loss
    sums = task_losses_and_gradients(model, batch, MiniBERTGradients(model), scenario.dropout)
    ours = sum(q.weight * sums[q.task].loss / q.items for q in batch.questions)
    return max(apart(ours, total), difference(gradients(model, scenario), grads.gradients))


def tasks_add_up(scenario: Scenario) -> float | None:
    """All tasks at once are the weighted sum of each alone."""
    if TASKS not in scenario.cotangents:
        return None
    batch, grads = scenario.batch, MiniBERTGradients(scenario.model).gradients
    for question in batch.questions:
        alone = scenario._replace(batch=batch._replace(questions=(question._replace(weight=1.0),)))
        grads.buffer[...] += question.weight * gradients(scenario.model, alone).buffer
    return difference(gradients(scenario.model, scenario), grads)


def shards_add_up(scenario: Scenario) -> float:
    """Rows one by one give the sums of the whole batch, dropout included."""
    rows = scenario.batch.input_ids.shape[0]
    grads = MiniBERTGradients(scenario.model).gradients
    value = 0.0
    for b in range(rows):
        cotangents = {
            reading: array if reading in (LOSS, TASKS) else array[b : b + 1]
            for reading, array in scenario.cotangents.items()
        }
        shard = scenario._replace(batch=scenario.batch.rows(b, b + 1), cotangents=cotangents)
        value += float(objective(scenario.model, shard))
        grads.buffer[...] += gradients(scenario.model, shard).buffer
    whole = gradients(scenario.model, scenario)
    return max(apart(value, float(objective(scenario.model, scenario))), difference(grads, whole))


def accumulates(scenario: Scenario) -> float | None:
    """The loss's backward pass adds to what is there."""
    loss = of_the_loss(scenario)
    if loss is None:
        return None
    once = gradients(scenario.model, loss)
    grads = MiniBERTGradients(scenario.model)
    start = random(grads.gradients.buffer.shape) * np.abs(once.buffer).max()
    grads.gradients.buffer[...] = start
    for _ in range(2):
        scenario.model.mlm_loss_and_gradients(scenario.batch, grads, scenario.dropout)
    return apart(grads.gradients.buffer, start + 2.0 * once.buffer)


def accumulates_from_logits(scenario: Scenario) -> float:
    """So does the one from hidden states."""
    once = on_hidden(scenario)[1].gradients
    cache = full_pass(scenario.model, without_dropout(scenario), None)
    grads = MiniBERTGradients(scenario.model)
    start = random(grads.gradients.buffer.shape) * np.abs(once.buffer).max()
    grads.gradients.buffer[...] = start
    cotangent = random((*scenario.batch.input_ids.shape, scenario.model.config.hidden_size))
    for _ in range(2):
        grads.backward_from_hidden(cotangent, cache)
    return apart(grads.gradients.buffer, start + 2.0 * once.buffer)
