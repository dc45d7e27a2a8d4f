"""Which theorems does a right BERT fulfil, whatever its weights, and does ours?

Those about one operation stand in `op_identities` and run on all of its cases. Those about the whole model run on
scenarios: paths of gradients, what changes nothing, parts and wholes, single variants of the block. Each compares two
ways to the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import NamedTuple

from mini_bert.model.feed_forward import ACTIVATIONS
from mini_bert.ops.contract import Case
from mini_bert.verification import (
    block_identities,
    invariance_identities,
    op_identities,
    path_identities,
    sum_identities,
)
from mini_bert.verification.evidence import IDENTITY, Evidence, Measured, attempt, worst_evidence
from mini_bert.verification.op_identities import OPERATION_IDENTITIES, Call, OperationIdentity
from mini_bert.verification.scenario import (
    Scenario,
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


MODEL_IDENTITIES = (
    ModelIdentity("the tied gradient is the sum of its two uses", path_identities.tied_table),
    ModelIdentity("the three embedding tables collect the same gradient", path_identities.three_tables),
    ModelIdentity("a sublayer adds to the residual stream", path_identities.residual_forward),
    ModelIdentity(
        "the residual stream's gradient is that of the sum plus that through the sublayer",
        path_identities.residual_backward,
    ),
    ModelIdentity("attention weights sum to 1, and are 0 on padding", path_identities.weights_of_attention),
    ModelIdentity("padding behind a row changes nothing", invariance_identities.more_padding),
    ModelIdentity("positions that are relative may all be later", invariance_identities.moved_along),
    ModelIdentity("the gradient of a table of distances sums to 0", path_identities.tables_of_distances),
    ModelIdentity("what stands under padding changes nothing", invariance_identities.under_padding),
    ModelIdentity("heads have no order", invariance_identities.other_order_of_heads),
    ModelIdentity("computing only what the loss reads changes nothing", sum_identities.saving_in_the_last_block),
    ModelIdentity("computing only what some task reads changes nothing", sum_identities.tasks_union),
    ModelIdentity("tasks add up, each times its weight", sum_identities.tasks_add_up),
    ModelIdentity("shards sum to the whole, dropout included", sum_identities.shards_add_up),
    ModelIdentity("the loss's backward pass adds to what is there", sum_identities.accumulates),
    ModelIdentity("the backward pass from hidden states adds to what is there", sum_identities.accumulates_from_logits),
    ModelIdentity("the gradient of the vocabulary's bias sums to 0", path_identities.vocabulary_bias),
    ModelIdentity("pre-LN sublayers that add nothing leave the embeddings", block_identities.silent_sublayers),
    ModelIdentity("the final norm makes rows of mean square 1", block_identities.final_norm),
    ModelIdentity("gates that are all 1 give the plain feed-forward network", block_identities.open_gates),
    ModelIdentity("blocks computed again give the same bits", block_identities.computed_again),
    ModelIdentity("dropout with probability 0 is none", invariance_identities.no_probability),
    ModelIdentity("two passes give the same bits and change no weight", invariance_identities.same_bits),
)
