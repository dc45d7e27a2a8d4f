"""Is the gradient of every parameter tensor right, under given conditions, by every oracle?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.verification import torch_oracle
from mini_bert.verification.evidence import (
    CENTRAL,
    DERIVATIVES,
    FLOAT32,
    LOOPS,
    TORCH,
    Evidence,
    Measured,
    Oracle,
    guarded,
    place,
    worst_evidence,
)
from mini_bert.verification.gradient_check import RULES, gradient_errors, sample_tensors
from mini_bert.verification.oracles import bert as loops
from mini_bert.verification.oracles import scalars
from mini_bert.verification.oracles.operations import cross_entropy
from mini_bert.verification.scenario import HIDDEN, LOSS, TASKS, Scenario, gradients, kink_distance, objective, readings

ALL_TENSORS = "all tensors"
"""The subject of a check that broke off."""


def check_tensors(
    part: str, scenario: Scenario, oracles: Sequence[Oracle] = DERIVATIVES, *, entries: int = 20, seed: int = 0
) -> Iterator[Evidence]:
    """Every parameter tensor × oracle, oracle by oracle; readings, such as the loss, are rows of their own.

    Args:
        part: the table that the rows belong to.
        scenario: model, batch and reading.
        oracles: which ones.
        entries: single entries of each tensor that the differences look at, beside one random direction.
        seed: of directions and entries.
    """
    for oracle in oracles:
        if reason := _why_not(oracle, scenario):
            for name in _in_reading_order(scenario.model.parameters):
                yield Evidence(part, name, oracle.name, scenario.name, None, oracle.model_threshold or 0.0, 0, reason)
            continue

        def rows(oracle: Oracle = oracle) -> Iterator[Evidence]:
            if oracle.name in RULES:
                return _by_differences(part, scenario, oracle, entries, seed)
            return _beside(part, scenario, oracle)

        yield from guarded(part, ALL_TENSORS, scenario.name, oracle, oracle.model_threshold, rows)


_LEAST_KINK_DISTANCE = {CENTRAL.name: 0.05, FLOAT32.name: 5e-6}
"""How far from a kink all has to be for what moves it: the step of a difference, or the rounding of float32."""


def _why_not(oracle: Oracle, scenario: Scenario) -> str:
    """Why an oracle cannot look at a scenario; empty where it can."""
    if oracle is TORCH and not torch_oracle.installed():
        return torch_oracle.NOT_INSTALLED
    least = _LEAST_KINK_DISTANCE.get(oracle.name, 0.0)
    if kink_distance(scenario) < least:
        return f"{scenario.model.config.hidden_act} gets a number nearer than {least:g} to its kink"
    return ""


def _in_reading_order(parameters: Parameters) -> dict[str, Array]:
    """Embeddings, layer after layer, heads."""
    rows = sorted(parameters.table, key=lambda row: (row.component != "embeddings", row.layer is None, row.layer or 0))
    return {row.name: parameters[row.name] for row in rows}


def check_condition(
    part: str, scenario: Scenario, oracles: Sequence[Oracle] = DERIVATIVES, *, entries: int = 20, seed: int = 0
) -> Iterator[Evidence]:
    """One row an oracle: the worst of all tensors, under the name of the scenario."""
    rows = check_tensors(part, scenario, oracles, entries=entries, seed=seed)
    for _, of_oracle in groupby(rows, key=lambda row: row.oracle):
        yield worst_evidence(of_oracle, subject=scenario.name, case="")


def _by_differences(part: str, scenario: Scenario, oracle: Oracle, entries: int, seed: int) -> Iterator[Evidence]:
    rule = RULES[oracle.name]
    exact = gradients(scenario.model, scenario)
    moved = scenario.at(rule.dtype)
    samples = sample_tensors(
        rule,
        lambda: objective(moved, scenario),
        _in_reading_order(moved.parameters),
        exact,
        seed=seed,
        entries=entries,
    )
    for errors in samples:
        measured = Measured.worst_of(errors)
        yield _row(part, errors[0].name, scenario, oracle, measured)


def _beside(part: str, scenario: Scenario, oracle: Oracle) -> Iterator[Evidence]:
    """The oracles that know all entries at once."""
    ours = _ours(scenario.model, scenario)
    got, expected = (
        (_ours(scenario.at(np.float32), scenario), ours)
        if oracle is FLOAT32
        else (ours, _ELSEWHERE[oracle.name](scenario))
    )
    in_order = {name: expected[1][name] for name in _in_reading_order(scenario.model.parameters)}
    for error in (*gradient_errors(got[0], expected[0]), *gradient_errors(got[1], in_order)):
        yield _row(part, error.name, scenario, oracle, Measured(error.error, error.compared, place(error)))


_Results = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Readings, and gradients."""


def _ours(model: MiniBERT, scenario: Scenario) -> _Results:
    return readings(model, scenario), gradients(model, scenario)


def _row(part: str, subject: str, scenario: Scenario, oracle: Oracle, measured: Measured) -> Evidence:
    assert oracle.model_threshold is not None
    error, compared, detail = measured
    return Evidence(part, subject, oracle.name, scenario.name, error, oracle.model_threshold, compared, detail)


def slow_readings_and_gradients(scenario: Scenario) -> tuple[dict[str, Array], dict[str, Array]]:
    """The readings by loops, and the derivative of the objective with respect to every number of every parameter."""
    batch = scenario.batch
    weights = {name: scalars.remembered(value.tolist()) for name, value in scenario.model.parameters.items()}

    def lists(array: Any) -> Any:
        return None if array is None else array.tolist()

    run = loops.Conditions(
        scenario.model.config, weights, lists(batch.attention_mask), scenario.dropout, batch.first_row
    )
    hidden = loops.hidden_states(run, batch.input_ids.tolist(), lists(batch.token_type_ids))
    found: dict[str, Array] = {}
    for reading in scenario.cotangents:
        if reading == LOSS:
            logits, T = loops.head_logits(run, "mlm", hidden), batch.input_ids.shape[1]
            read = [logits[position // T][position % T] for position in lists(batch.masked_positions)]
            nested = cross_entropy(read, targets=lists(batch.target_ids))
        elif reading == TASKS:
            nested = scalars.total(
                loops.task_loss(run, task, hidden, lists(positions), lists(labels)) * (weight / items)
                for task, positions, labels, weight, items in batch.questions
            )
        else:
            nested = hidden if reading == HIDDEN else loops.head_logits(run, reading, hidden)
        found[reading] = np.array(nested, dtype=object)
    terms = [value for array in found.values() for value in array.ravel()]
    factors = [factor for reading in found for factor in scenario.cotangents[reading].ravel().tolist()]
    slopes = scalars.gradients(scalars.dot(terms, factors), list(weights.values()))
    values = np.vectorize(scalars.value_of, otypes=[np.float64])
    return (
        {reading: np.asarray(values(array)) for reading, array in found.items()},
        {name: np.array(slope, np.float64) for name, slope in zip(weights, slopes, strict=True)},
    )


_ELSEWHERE: dict[str, Callable[[Scenario], _Results]] = {
    LOOPS.name: slow_readings_and_gradients,
    TORCH.name: torch_oracle.model_readings_and_gradients,
}
