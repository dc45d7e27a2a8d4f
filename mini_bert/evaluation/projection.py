"""How long would 100,000 steps take, how much memory, and is that within the budget?

Time is extrapolated from measured seconds a step: every step of a fixed batch shape costs the same. Memory is not
extrapolated: it does not grow with the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.schema import Config

STEPS = 100_000
"""The full training run that the budgets are about."""

GB = 10**9

Verdict = Literal["as hoped", "within budget", "over budget", "not measured"]


class Budget(NamedTuple):
    """What a quantity may be, and what was hoped for."""

    name: str
    unit: Literal["bytes", "seconds"]
    limit: float
    hoped: float | None = None
    remark: str = ""


BUDGETS = (
    Budget("time of 100,000 steps", "seconds", 12 * 3600, 1.7 * 3600),
    Budget("memory of training", "bytes", 10 * GB, 0.2 * GB, "hoped for is what the first version took"),
    Budget("the same, estimated from shapes", "bytes", 10 * GB, 0.2 * GB),
    Budget("time of evaluation", "seconds", 3600, 60),
    Budget("memory of evaluation", "bytes", 3 * GB),
)


def seconds_per_step(records: Sequence[Mapping[str, Any]]) -> float | None:
    """The median seconds a step of a run's records of kind `train` (keys `step`, `tokens`, `tokens_per_second`).

    None if they do not say. `tokens` counts from the run's beginning: a record's own are the difference to the one
    before. The median, because a laptop does other things too.
    """
    rates = []
    records = [record for record in records if record.get("kind", "train") == "train"]
    for before, record in pairwise(records):
        if all(record.get(key) and before.get(key) for key in ("step", "tokens", "tokens_per_second")):
            steps, tokens = record["step"] - before["step"], record["tokens"] - before["tokens"]
            if steps > 0 and tokens > 0:
                rates.append(tokens / steps / record["tokens_per_second"])
    return sorted(rates)[len(rates) // 2] if rates else None


def project(
    *,
    step_seconds: float | None = None,
    training_bytes: float | None = None,
    training_bytes_estimated: float | None = None,
    evaluation_seconds: float | None = None,
    evaluation_bytes: float | None = None,
) -> dict[str, Any]:
    """Lay measurements beside the budgets: plain values for JSON, one line a budget with a verdict.

    Raises:
        InvalidInputError: a measurement is not positive.
    """
    measured = {
        "step_seconds": step_seconds,
        "training_bytes": training_bytes,
        "training_bytes_estimated": training_bytes_estimated,
        "evaluation_seconds": evaluation_seconds,
        "evaluation_bytes": evaluation_bytes,
    }
    for name, value in measured.items():
        if value is not None and not value > 0:
            raise InvalidInputError(name, got=value, expected="a positive number, or None where it was not measured")
    values = (
        None if step_seconds is None else step_seconds * STEPS,
        training_bytes,
        training_bytes_estimated,
        evaluation_seconds,
        evaluation_bytes,
    )
    lines = [
        {**budget._asdict(), "value": value, "verdict": verdict(value, budget)}
        for budget, value in zip(BUDGETS, values, strict=True)
    ]
    return {"kind": "projection", "steps": STEPS, "step_seconds": step_seconds, "budgets": lines}


def estimate_training_bytes(config: Config, threads: int, process_bytes: int = 60_000_000) -> int:
    """Peak memory of training, from shapes alone: within 15 % of what is measured, for models of every size.

    With n tokens and m masked ones in a shard, as many shards in flight as there are threads, 4 bytes each:

        parameters, two moments, a gradient a shard             P (3 + shards)
        kept by each block but the last, for the way back       n (8 H + 2 I + A T)
        kept by the last block                                  3 n H + m (8 H + 2 I)
        kept by embeddings and head                             2 n H + 2 m V
        at work at the peak                                     4 n I + m V + V H

    Args:
        config: model, batch size, shards, masking rate.
        threads: worker threads.
        process_bytes: interpreter and libraries, measured before.
    """
    from mini_bert.model.parameters import parameter_table

    model, train = config.model, config.train
    L, H, A, I, V, T = (
        model.num_hidden_layers,
        model.hidden_size,
        model.num_attention_heads,
        model.intermediate_size,
        model.vocab_size,
        model.max_position_embeddings,
    )
    n = -(-train.batch_size // train.shards) * T
    m = config.masking.rate * n
    block = n * (8 * H + 2 * I + A * T)
    if model.hidden_dropout_prob or model.attention_probs_dropout_prob:
        block += n * (A * T + (A * T + 2 * H) / 4)
    in_flight = (L - 1) * block + 3 * n * H + m * (8 * H + 2 * I) + 2 * n * H + 2 * m * V + 4 * n * I + m * V + V * H
    parameters = sum(math.prod(row.shape) for row in parameter_table(model))
    return process_bytes + int(4 * (parameters * (3 + train.shards) + in_flight * min(threads, train.shards)))


def verdict(value: float | None, budget: Budget) -> Verdict:
    """Where a value stands."""
    if value is None:
        return "not measured"
    if value > budget.limit:
        return "over budget"
    return "as hoped" if budget.hoped is not None and value <= budget.hoped else "within budget"
