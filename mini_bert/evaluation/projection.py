"""How long would 100,000 steps take, how much memory, and is that within the budget?

Time is extrapolated from measured seconds a step: every step of a fixed batch shape costs the same. Memory is not
extrapolated: it does not grow with the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from mini_bert.errors import InvalidInputError

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


def verdict(value: float | None, budget: Budget) -> Verdict:
    """Where a value stands."""
    if value is None:
        return "not measured"
    if value > budget.limit:
        return "over budget"
    return "as hoped" if budget.hoped is not None and value <= budget.hoped else "within budget"
