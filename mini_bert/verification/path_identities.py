"""Theorems about the paths that gradients take: the tied table, the residual stream, attention, sums that vanish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mini_bert.model.bert import MiniBERT
from mini_bert.model.norms import norm_forward
from mini_bert.model.trace import Cache
from mini_bert.ops.contract import Array
from mini_bert.verification.compared_passes import (
    on_hidden,
    random,
    taps,
)
from mini_bert.verification.op_identities import apart, cancels
from mini_bert.verification.scenario import (
    LOSS,
    Scenario,
    gradients,
)


def tied_table(scenario: Scenario) -> float | None:
    """The gradient of the table of tokens is the sum of those of its two uses."""
    config, ids = scenario.model.config, scenario.batch.input_ids
    if "mlm" not in config.heads:
        return None
    cotangent = random((*ids.shape, config.vocab_size))
    cache, grads, seen = taps(scenario, "mlm", cotangent)
    as_decoder = np.einsum("btv,bth->vh", cotangent, cache["mlm.output"])
    as_table = np.zeros_like(as_decoder)
    np.add.at(as_table, ids, seen["embeddings.token"])
    return apart(grads.gradients["token_embeddings"], as_decoder + as_table)


def three_tables(scenario: Scenario) -> float:
    """Whatever row was looked up, all three tables collect the gradient of their sum."""
    _, grads, seen = on_hidden(scenario)
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


def residual_forward(scenario: Scenario) -> float:
    """A sum is the stream and what the sublayer adds."""
    cache, _, _ = on_hidden(scenario)
    return max(apart(cache[s.total], cache[s.stream] + cache[s.added]) for s in _sublayers(scenario))


def residual_backward(scenario: Scenario) -> float:
    """The stream's gradient is that of the sum and that through the sublayer."""
    cache, _, seen = on_hidden(scenario)
    worst = 0.0
    for sublayer in _sublayers(scenario):
        through, past = _through(sublayer, cache, seen, scenario.model.parameters), seen[sublayer.total]
        if sublayer.entering == sublayer.stream:
            worst = max(worst, apart(seen[sublayer.stream], past + through))
            continue
        direction = random(past.shape)
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


def weights_of_attention(scenario: Scenario) -> float:
    """They sum to 1, and are 0 on padding."""
    cache, mask = on_hidden(scenario)[0], scenario.batch.attention_mask
    worst = 0.0
    for i in range(scenario.model.config.num_hidden_layers):
        weights = cache[f"layer_{i}.attention.attention_weights"]
        worst = max(worst, apart(weights.sum(axis=-1), np.ones(weights.shape[:-1])))
        if mask is not None:
            hidden = ~mask & mask.any(axis=1, keepdims=True)
            worst = max(worst, float(np.abs(weights * hidden[:, None, None, :]).max()))
    return worst


def vocabulary_bias(scenario: Scenario) -> float | None:
    """A constant added to all logits changes no loss."""
    if LOSS not in scenario.cotangents:
        return None
    return cancels(gradients(scenario.model, scenario)["b_vocabulary"])


def tables_of_distances(scenario: Scenario) -> float | None:
    """What a whole table adds is added to all scores of a query, and softmax does not see it."""
    grads = gradients(scenario.model, scenario)
    tables = [array for name, array in grads.items() if name.startswith("relative_")]
    return max(cancels(table, axis=0) for table in tables) if tables else None
