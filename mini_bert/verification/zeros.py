"""Which gradients are zero by nature, and are they?

Three things have none. The bias of the keys, where positions do not turn it: it adds the same to all scores of a query,
and softmax does not see what all scores have in common. Rows of a table that nothing in the batch names. Parts that the
reading does not go through. Everything else has one: a tensor that has none without such a reason is a mistake, even if
every oracle agrees, since a parameter that forward and backward both forget has a derivative of zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model.parameters import Parameters
from mini_bert.ops import relative_bias
from mini_bert.ops.contract import Array
from mini_bert.verification.evidence import ZERO, Evidence, Measured, attempt
from mini_bert.verification.scenario import HIDDEN, LOSS, TASKS, Scenario, gradients, objective

PART = "zeros"

NEXT_TO_NOTHING = 1e-12
"""Share of the largest tensor below which a gradient counts as zero: rounding."""


class Zero(NamedTuple):
    """A tensor, or rows of one, whose gradient is zero by nature."""

    tensor: str
    rows: tuple[int, ...] | None
    """Rows of a table; None: the whole tensor."""
    reason: str
    exact: bool
    """Zero to the bit, since nobody writes there; otherwise a sum that cancels, but for rounding."""

    @property
    def name(self) -> str:
        """`b_K_0`; `position_embeddings, 3 rows`."""
        if self.rows is None:
            return self.tensor
        return f"{self.tensor}, {len(self.rows):,} row{'s' * (len(self.rows) != 1)}"


def true_zeros(scenario: Scenario) -> list[Zero]:
    """What has no gradient under these conditions."""
    config, batch = scenario.model.config, scenario.batch
    B, T = batch.input_ids.shape
    types = np.zeros((B, T), np.int64) if batch.token_type_ids is None else batch.token_type_ids
    zeros = []
    for i in range(config.num_hidden_layers):
        if config.use_bias and config.position_embedding_type != "rotary":  # turned, it is not the same for all keys
            common = "softmax does not see what all scores of a query have in common"
            zeros.append(Zero(f"b_K_{i}", None, common, False))
        if T == 1:
            alone = "one key alone has the weight 1, whatever its score"
            silent = [f"{name}_{i}" for name in ("W_Q", "b_Q", "W_K", "relative_keys")]
            silent += [f"b_K_{i}"] * (config.position_embedding_type == "rotary") + ["relative_bias"] * (i == 0)
            zeros += [Zero(name, None, alone, True) for name in silent if name in scenario.model.parameters]
    asked = [question.task for question in batch.questions] if TASKS in scenario.cotangents else []
    read_as_decoder = bool({LOSS, "mlm"} & set(scenario.cotangents)) or "masked_lm" in asked
    tables = {"segment_embeddings": types.ravel(), **_places_or_distances(config, T)}
    if not read_as_decoder:
        tables["token_embeddings"] = batch.input_ids.ravel()
    for table, named in tables.items():
        others = np.setdiff1d(np.arange(scenario.model.parameters[table].shape[0]), named)
        if others.size:
            zeros.append(Zero(table, tuple(others.tolist()), "nothing in the batch names them", True))
    if HIDDEN in scenario.cotangents:
        unread = "the hidden states are read, not the pooler"
        zeros += [Zero(name, None, unread, True) for name in ("W_pooler", "b_pooler")]
    return zeros


def _places_or_distances(config: ModelConfig, T: int) -> dict[str, Array]:
    """Tables of positions, and which of their rows T tokens can name."""
    distances = np.arange(1 - T, T)
    if config.position_embedding_type == "absolute":
        return {"position_embeddings": np.arange(T)}
    if config.position_embedding_type == "relative_key" and T > 1:
        reached = distances + config.max_position_embeddings - 1
        return {f"relative_keys_{i}": reached for i in range(config.num_hidden_layers)}
    if config.position_embedding_type == "t5_bias" and T > 1:
        settings = config.relative_attention_num_buckets, config.relative_attention_max_distance
        return {"relative_bias": relative_bias.bucket(distances, *settings)}
    return {}


def check_zeros(scenario: Scenario, seed: int = 0) -> Iterator[Evidence]:
    """Every true zero by a test of its own, and that nothing else is zero."""
    exact = gradients(scenario.model, scenario)
    norms = {name: float(np.linalg.norm(array.ravel())) for name, array in exact.items()}
    largest = max((norm for norm in norms.values() if math.isfinite(norm)), default=0.0)
    known = true_zeros(scenario)
    for zero in known:
        measure = partial(_measure, scenario, zero, exact, largest, seed)
        yield attempt(PART, zero.name, scenario.name, ZERO, 0.0 if zero.exact else NEXT_TO_NOTHING, measure)
    whole = {zero.tensor for zero in known if zero.rows is None}
    silent = [name for name, norm in norms.items() if norm <= NEXT_TO_NOTHING * largest and name not in whole]
    detail = f"zero without a reason: {', '.join(silent)}" if silent else "every other tensor has a gradient"
    yield Evidence(PART, "no other tensor", ZERO.name, scenario.name, float(len(silent)), 0.0, len(norms), detail)


def _measure(scenario: Scenario, zero: Zero, exact: Parameters, largest: float, seed: int) -> Measured:
    """The gradient beside the largest tensor of the call, or what a long step changes, whichever is larger."""
    gradient = _part(exact[zero.tensor], zero)
    size = float(np.abs(gradient).max() if zero.exact else np.linalg.norm(gradient.ravel())) / largest
    model = scenario.at(np.float64)
    before = float(objective(model, scenario))
    rng = np.random.default_rng(seed)
    moved = _part(model.parameters[zero.tensor], zero)
    moved = moved + rng.normal(size=moved.shape)
    if zero.rows is None:
        model.parameters[zero.tensor][...] = moved
    else:
        model.parameters[zero.tensor][list(zero.rows)] = moved
    change = abs(float(objective(model, scenario)) - before) / max(abs(before), 1.0)
    said = f"{size:.1e} of the largest tensor; a step of 1 in every number changes the objective by {change:.1e}"
    return Measured(max(size, change), gradient.size, f"{zero.reason}; {said}")


def _part(array: Array, zero: Zero) -> Array:
    return array if zero.rows is None else array[list(zero.rows)]
