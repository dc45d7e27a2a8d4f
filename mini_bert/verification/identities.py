"""Which theorems does a right BERT fulfil, whatever its weights, and does ours?

Those about one operation stand in `op_identities` and run on all of its cases; those about the whole model stand here
and run on scenarios. Each compares two ways to the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.model.feed_forward import ACTIVATIONS
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.norms import norm_forward
from mini_bert.model.tasks import HEAD_OF, task_losses_and_gradients
from mini_bert.model.trace import Cache
from mini_bert.ops import softmax
from mini_bert.ops.contract import Array, Case
from mini_bert.verification import block_identities, op_identities
from mini_bert.verification.evidence import IDENTITY, Evidence, Measured, attempt, worst_evidence
from mini_bert.verification.gradient_check import gradient_errors
from mini_bert.verification.op_identities import OPERATION_IDENTITIES, Call, OperationIdentity, apart, cancels
from mini_bert.verification.scenario import (
    LOSS,
    OF_ROWS,
    TASKS,
    Scenario,
    as_dtype,
    full_pass,
    gradients,
    objective,
    readings,
)

PART = "identities"


class ModelIdentity(NamedTuple):
    """A theorem about the model; `error` is None for a model or batch that it says nothing about."""

    statement: str
    error: Callable[[Scenario], float | None]


def check_operation_identities(chosen: Mapping[str, ModuleType]) -> Iterator[Evidence]:
    """Every theorem about the chosen operations, each on all cases of those."""
    for identity in OPERATION_IDENTITIES:
        about = [name for name in chosen if _is_about(identity, name)]
        calls = [
            (f"{name}, {case.name}", partial(_of_case, identity, chosen[name], case))
            for name in about
            for case in chosen[name].CASES
        ]
        yield from _worst(f"{about[0] if len(about) == 1 else identity.operation}: {identity.statement}", calls)


def _is_about(identity: OperationIdentity, name: str) -> bool:
    if identity.operation == op_identities.ACTIVATIONS:
        return name in ACTIVATIONS
    return identity.operation in (op_identities.EVERY_OPERATION, name)


def _of_case(identity: OperationIdentity, operation: ModuleType, case: Case) -> float | None:
    return identity.error(Call.of(operation, case))


def check_model_identities(scenarios: Sequence[Scenario]) -> Iterator[Evidence]:
    """Every theorem about the model, each under all of the scenarios that it speaks of."""
    for identity in MODEL_IDENTITIES:
        calls = [(scenario.name, partial(identity.error, scenario)) for scenario in scenarios]
        yield from _worst(f"model: {identity.statement}", calls)


def _worst(subject: str, calls: Sequence[tuple[str, Callable[[], float | None]]]) -> Iterator[Evidence]:
    """One row for all calls that the theorem speaks of; none where it speaks of none."""
    rows = []
    for case, call in calls:
        spoken = True

        def measure(call: Callable[[], float | None] = call) -> Measured:
            nonlocal spoken
            error = call()
            spoken = error is not None
            return Measured(error or 0.0, 1)

        row = attempt(PART, subject, case, IDENTITY, IDENTITY.model_threshold, measure)
        rows += [row] if spoken else []
    if rows:
        yield worst_evidence(rows)


# --- what is compared -----------------------------------------------------------------------------------------------


def _difference(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The worst error of a tensor, as everywhere."""
    return max(error.error for error in gradient_errors(got, expected))


def _without_dropout(scenario: Scenario) -> Scenario:
    return scenario._replace(dropout=None)


def _of_the_loss(scenario: Scenario) -> Scenario | None:
    """The scenario that reads the loss alone; None where it does not read it at all."""
    if LOSS not in scenario.cotangents:
        return None
    return scenario._replace(cotangents={LOSS: scenario.cotangents[LOSS]})


def _taps(scenario: Scenario, head: str | None, cotangent: Array) -> tuple[Cache, MiniBERTGradients, dict[str, Array]]:
    """A pass over all positions, its gradients, and the gradient of every intermediate by name."""
    seen: dict[str, Array] = {}

    def tap(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    grads = MiniBERTGradients(scenario.model)
    cache = full_pass(scenario.model, _without_dropout(scenario), head)
    (grads.backward_from_hidden if head is None else grads.backward_from_logits)(cotangent, cache, tap=tap)
    return cache, grads, seen


def _random(shape: tuple[int, ...]) -> Array:
    return np.asarray(np.random.default_rng(5).normal(size=shape))


def _on_hidden(scenario: Scenario) -> tuple[Cache, MiniBERTGradients, dict[str, Array]]:
    return _taps(scenario, None, _random((*scenario.batch.input_ids.shape, scenario.model.config.hidden_size)))


# --- the theorems ---------------------------------------------------------------------------------------------------


def _tied(scenario: Scenario) -> float | None:
    config, ids = scenario.model.config, scenario.batch.input_ids
    if "mlm" not in config.heads:
        return None
    cotangent = _random((*ids.shape, config.vocab_size))
    cache, grads, seen = _taps(scenario, "mlm", cotangent)
    as_decoder = np.einsum("btv,bth->vh", cotangent, cache["mlm.output"])
    as_table = np.zeros_like(as_decoder)
    np.add.at(as_table, ids, seen["embeddings.token"])
    return apart(grads.gradients["token_embeddings"], as_decoder + as_table)


def _three_tables(scenario: Scenario) -> float:
    _, grads, seen = _on_hidden(scenario)
    total = seen["embeddings.sum"].sum(axis=(0, 1))
    named = [f"{name}_embeddings" for name in ("token", "position", "segment")]
    return max(apart(grads.gradients[name].sum(axis=0), total) for name in named if name in grads.gradients)


class _Sublayer(NamedTuple):
    """One sublayer beside the residual stream, by the names of intermediates."""

    layer: int
    part: str
    stream: str
    """What it is added to."""
    entering: str
    """What it reads: the stream, or the stream's norm."""
    added: str
    total: str
    """The sum."""


def _sublayers(scenario: Scenario) -> Iterator[_Sublayer]:
    """Along the residual stream."""
    stream, pre = "embeddings.output", scenario.model.config.norm_placement == "pre"
    for i in range(scenario.model.config.num_hidden_layers):
        for part, behind in (("attention", "attention.output"), ("feed_forward", "output")):
            name = f"layer_{i}.{part}"
            if pre:
                total = f"{name}.sum" if part == "attention" else f"layer_{i}.output"
                yield _Sublayer(i, part, stream, f"{name}.input", f"{name}.projection", total)
                stream = total
            else:
                yield _Sublayer(i, part, stream, stream, f"{name}.projection", f"{name}.sum")
                stream = f"layer_{i}.{behind}"


def _residual_forward(scenario: Scenario) -> float:
    cache, _, _ = _on_hidden(scenario)
    return max(apart(cache[s.total], cache[s.stream] + cache[s.added]) for s in _sublayers(scenario))


def _residual_backward(scenario: Scenario) -> float:
    cache, _, seen = _on_hidden(scenario)
    worst = 0.0
    for sublayer in _sublayers(scenario):
        through, past = _through(sublayer, cache, seen, scenario.model.parameters), seen[sublayer.total]
        if sublayer.entering == sublayer.stream:
            worst = max(worst, apart(seen[sublayer.stream], past + through))
            continue
        direction = _random(past.shape)
        moved = _moved_norm(scenario.model, sublayer, cache[sublayer.stream], direction)
        slopes = np.array([((seen[sublayer.stream] - past) * direction).sum(), (through * moved).sum()])
        sizes = np.linalg.norm(through.ravel()) * np.linalg.norm(moved.ravel())
        worst = max(worst, apart(seen[sublayer.entering], through), abs(slopes[0] - slopes[1]) / float(sizes))
    return worst


def _through(sublayer: _Sublayer, cache: Cache, seen: Mapping[str, Array], w: Mapping[str, Array]) -> Array:
    """The gradient of what a sublayer reads, from those of what its linear maps made of it."""
    i, name = sublayer.layer, f"layer_{sublayer.layer}.{sublayer.part}"
    if sublayer.part == "attention":
        shape = seen[sublayer.stream].shape
        joined = (seen[f"{name}.{x}"].swapaxes(1, 2).reshape(shape) @ w[f"W_{x}_{i}"].T for x in "QKV")
        return np.asarray(sum(joined) + _through_gate(cache, seen, w, i))
    through = seen[f"{name}.pre_activation"] @ w[f"W1_{i}"].T
    return np.asarray(through + seen[f"{name}.gate"] @ w[f"W3_{i}"].T) if f"{name}.gate" in seen else through


def _moved_norm(model: MiniBERT, sublayer: _Sublayer, stream: Array, direction: Array) -> Array:
    """How the norm before a sublayer changes along a direction of the stream, by the complex step."""
    layer = model.parameters.layers[sublayer.layer]
    first = sublayer.part == "attention"
    gamma, beta = (layer.gamma1, layer.beta1) if first else (layer.gamma2, layer.beta2)
    normalised, _ = norm_forward(stream + 1e-30j * direction, gamma, beta, model.config)
    return np.asarray(normalised.imag / 1e-30)


def _through_gate(cache: Cache, seen: Mapping[str, Array], w: Mapping[str, Array], layer: int) -> Any:
    """What the stream gets by way of the gate on attention's context; 0 where there is none."""
    name = f"layer_{layer}.attention.gate"
    if name not in cache:
        return 0.0
    g = cache[name]
    return (seen[name] * g * (1.0 - g)) @ w[f"W_G_{layer}"].T


def _real(batch: Batch) -> Array:
    """The attention mask, also where the batch has none."""
    return np.ones(batch.input_ids.shape, bool) if batch.attention_mask is None else batch.attention_mask


def _more_padding(scenario: Scenario) -> float | None:
    """Not where a row is padding only, which looks at all of it alike."""
    batch, config = scenario.batch, scenario.model.config
    B, T = batch.input_ids.shape
    mask = _real(batch)
    too_long = config.max_position_embeddings <= T
    still = _of_the_loss(_without_dropout(scenario))
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
    return _unchanged(scenario.model, still, still._replace(batch=longer))


def _moved(scenario: Scenario) -> float | None:
    """All rows one place later, with padding in front; says nothing about a table of positions."""
    batch, config = scenario.batch, scenario.model.config
    B, T = batch.input_ids.shape
    mask = _real(batch)
    too_long = config.max_position_embeddings <= T
    still = _of_the_loss(_without_dropout(scenario))
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
    return _unchanged(scenario.model, still, still._replace(batch=later))


def _tables_of_distances(scenario: Scenario) -> float | None:
    """What a whole table adds is added to all scores of a query, and softmax does not see it."""
    grads = gradients(scenario.model, scenario)
    tables = [array for name, array in grads.items() if name.startswith("relative_")]
    return max(cancels(table, axis=0) for table in tables) if tables else None


def _unchanged(model: MiniBERT, one: Scenario, other: Scenario) -> float:
    """Whether readings and gradients are the same."""
    return max(
        _difference(readings(model, other), readings(model, one)),
        _difference(gradients(model, other), gradients(model, one)),
    )


def _under_padding(scenario: Scenario) -> float | None:
    batch, config = scenario.batch, scenario.model.config
    hidden, loss = ~_real(batch), _of_the_loss(scenario)
    if loss is None or not hidden.any() or hidden.all(axis=1).any():
        return None
    assert batch.masked_positions is not None
    hidden.ravel()[batch.masked_positions] = False  # there the loss reads a query
    ids = np.where(hidden, (batch.input_ids + 1) % config.vocab_size, batch.input_ids)
    return _unchanged(scenario.model, loss, loss._replace(batch=batch._replace(input_ids=ids)))


def _other_order_of_heads(scenario: Scenario) -> float | None:
    config = scenario.model.config
    if config.num_attention_heads == 1 or config.position_embedding_type == "alibi":  # a slope belongs to its head
        return None
    model, still = as_dtype(scenario.model, np.float64), _without_dropout(scenario)
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
    return max(_difference(readings(model, still), before), _difference(gradients(model, still), expected))


def _saving(scenario: Scenario) -> float | None:
    batch, config = scenario.batch, scenario.model.config
    read = _of_the_loss(scenario)
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
    return max(apart(loss, mean * count), _difference(gradients(scenario.model, read), grads.gradients))


def _tasks_union(scenario: Scenario) -> float | None:
    if TASKS not in scenario.cotangents:
        return None
    model, batch, grads = scenario.model, scenario.batch, MiniBERTGradients(scenario.model)
    total = 0.0
    for task, positions, labels, weight, items in batch.questions:
        head = HEAD_OF[task]
        cache = full_pass(model, scenario, head)
        logits = cache["logits"]
        places = positions // batch.input_ids.shape[1] if head in OF_ROWS else positions
        probs = softmax.stable_softmax(logits).reshape(-1, logits.shape[-1])[places]
        dlogits = np.zeros_like(logits)
        dlogits.reshape(-1, logits.shape[-1])[places] = weight / items * (probs - np.eye(logits.shape[-1])[labels])
        grads.backward_from_logits(dlogits, cache)
        total -= weight / items * float(np.log(probs[np.arange(labels.size), labels]).sum())
    sums = task_losses_and_gradients(model, batch, MiniBERTGradients(model), scenario.dropout)
    ours = sum(q.weight * sums[q.task].loss / q.items for q in batch.questions)
    return max(apart(ours, total), _difference(gradients(model, scenario), grads.gradients))


def _tasks_add_up(scenario: Scenario) -> float | None:
    if TASKS not in scenario.cotangents:
        return None
    batch, grads = scenario.batch, MiniBERTGradients(scenario.model).gradients
    for question in batch.questions:
        alone = scenario._replace(batch=batch._replace(questions=(question._replace(weight=1.0),)))
        grads.buffer[...] += question.weight * gradients(scenario.model, alone).buffer
    return _difference(gradients(scenario.model, scenario), grads)


def _shards(scenario: Scenario) -> float:
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
    return max(apart(value, float(objective(scenario.model, scenario))), _difference(grads, whole))


def _accumulates(scenario: Scenario) -> float | None:
    loss = _of_the_loss(scenario)
    if loss is None:
        return None
    once = gradients(scenario.model, loss)
    grads = MiniBERTGradients(scenario.model)
    start = _random(grads.gradients.buffer.shape) * np.abs(once.buffer).max()
    grads.gradients.buffer[...] = start
    for _ in range(2):
        scenario.model.mlm_loss_and_gradients(scenario.batch, grads, scenario.dropout)
    return apart(grads.gradients.buffer, start + 2.0 * once.buffer)


def _accumulates_from_logits(scenario: Scenario) -> float:
    once = _on_hidden(scenario)[1].gradients
    cache = full_pass(scenario.model, _without_dropout(scenario), None)
    grads = MiniBERTGradients(scenario.model)
    start = _random(grads.gradients.buffer.shape) * np.abs(once.buffer).max()
    grads.gradients.buffer[...] = start
    cotangent = _random((*scenario.batch.input_ids.shape, scenario.model.config.hidden_size))
    for _ in range(2):
        grads.backward_from_hidden(cotangent, cache)
    return apart(grads.gradients.buffer, start + 2.0 * once.buffer)


def _vocabulary_bias(scenario: Scenario) -> float | None:
    if LOSS not in scenario.cotangents:
        return None
    return op_identities.cancels(gradients(scenario.model, scenario)["b_vocabulary"])


def _weights_of_attention(scenario: Scenario) -> float:
    cache, mask = _on_hidden(scenario)[0], scenario.batch.attention_mask
    worst = 0.0
    for i in range(scenario.model.config.num_hidden_layers):
        weights = cache[f"layer_{i}.attention.attention_weights"]
        worst = max(worst, apart(weights.sum(axis=-1), np.ones(weights.shape[:-1])))
        if mask is not None:
            hidden = ~mask & mask.any(axis=1, keepdims=True)
            worst = max(worst, float(np.abs(weights * hidden[:, None, None, :]).max()))
    return worst


def _no_probability(scenario: Scenario) -> float | None:
    if scenario.dropout is None:
        return None
    config = scenario.model.config.model_copy(update={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    model = MiniBERT(config, dtype=np.float64)
    model.parameters.buffer[...] = scenario.model.parameters.buffer
    return max(
        _difference(readings(model, scenario), readings(model, _without_dropout(scenario))),
        _difference(gradients(model, scenario), gradients(scenario.model, _without_dropout(scenario))),
    )


def _same_bits(scenario: Scenario) -> float:
    before = scenario.model.parameters.buffer.copy()
    one, two = (gradients(scenario.model, scenario).buffer for _ in range(2))
    return float(np.sum(one != two) + np.sum(scenario.model.parameters.buffer != before))


MODEL_IDENTITIES = (
    ModelIdentity("the tied gradient is the sum of its two uses", _tied),
    ModelIdentity("the three embedding tables collect the same gradient", _three_tables),
    ModelIdentity("a sublayer adds to the residual stream", _residual_forward),
    ModelIdentity(
        "the residual stream's gradient is that of the sum plus that through the sublayer", _residual_backward
    ),
    ModelIdentity("attention weights sum to 1, and are 0 on padding", _weights_of_attention),
    ModelIdentity("padding behind a row changes nothing", _more_padding),
    ModelIdentity("positions that are relative may all be later", _moved),
    ModelIdentity("the gradient of a table of distances sums to 0", _tables_of_distances),
    ModelIdentity("what stands under padding changes nothing", _under_padding),
    ModelIdentity("heads have no order", _other_order_of_heads),
    ModelIdentity("computing only what the loss reads changes nothing", _saving),
    ModelIdentity("computing only what some task reads changes nothing", _tasks_union),
    ModelIdentity("tasks add up, each times its weight", _tasks_add_up),
    ModelIdentity("shards sum to the whole, dropout included", _shards),
    ModelIdentity("the loss's backward pass adds to what is there", _accumulates),
    ModelIdentity("the backward pass from hidden states adds to what is there", _accumulates_from_logits),
    ModelIdentity("the gradient of the vocabulary's bias sums to 0", _vocabulary_bias),
    ModelIdentity("pre-LN sublayers that add nothing leave the embeddings", block_identities.silent_sublayers),
    ModelIdentity("the final norm makes rows of mean square 1", block_identities.final_norm),
    ModelIdentity("gates that are all 1 give the plain feed-forward network", block_identities.open_gates),
    ModelIdentity("blocks computed again give the same bits", block_identities.computed_again),
    ModelIdentity("dropout with probability 0 is none", _no_probability),
    ModelIdentity("two passes give the same bits and change no weight", _same_bits),
)
