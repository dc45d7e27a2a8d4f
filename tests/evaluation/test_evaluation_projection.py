"""Budgets of 100,000 steps."""

from __future__ import annotations

import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.projection import (
    BUDGETS,
    GB,
    project,
    seconds_per_step,
)


def test_verdicts_stand_on_the_right_side_of_each_limit():
    result = project(
        step_seconds=0.2,
        training_bytes=0.4 * GB,
        training_bytes_estimated=0.15 * GB,
        evaluation_seconds=60,
        evaluation_bytes=3.1 * GB,
    )
    lines = {line["name"]: (line["value"], line["verdict"]) for line in result["budgets"]}
    assert lines == {
        "time of 100,000 steps": (20_000, "within budget"),
        "memory of training": (0.4 * GB, "within budget"),
        "the same, estimated from shapes": (0.15 * GB, "as hoped"),
        "time of evaluation": (60, "as hoped"),
        "memory of evaluation": (3.1 * GB, "over budget"),
    }
    assert project(step_seconds=0.0612)["budgets"][0]["verdict"] == "as hoped"
    assert project(step_seconds=0.4321)["budgets"][0]["verdict"] == "over budget"
    assert project(evaluation_bytes=1.0)["budgets"][4]["verdict"] == "within budget"


def test_what_was_not_measured_has_no_verdict():
    assert {line["verdict"] for line in project()["budgets"]} == {"not measured"}
    with pytest.raises(InvalidInputError, match="step_seconds"):
        project(step_seconds=0.0)
    with pytest.raises(InvalidInputError, match="training_bytes"):
        project(training_bytes=float("nan"))


def test_budgets_are_the_users():
    limits = [(43_200, 6_120), (10 * GB, 0.2 * GB), (10 * GB, 0.2 * GB), (3_600, 60), (3 * GB, None)]
    assert [(b.limit, b.hoped) for b in BUDGETS] == limits


def test_seconds_a_step_is_the_median_of_the_records():
    def record(step, seconds_a_step, kind="train"):
        return {"kind": kind, "step": step, "tokens": 4096 * step, "tokens_per_second": 4096 / seconds_a_step}

    records = [record(10, 9.0), record(20, 0.2), {"kind": "evaluation", "step": 20}, record(30, 0.3), record(35, 5.0)]
    assert seconds_per_step(records) == pytest.approx(0.3, rel=1e-12)
    assert seconds_per_step([]) is None
    assert seconds_per_step(records[:1]) is None
    assert seconds_per_step([record(10, 0.1), {**record(20, 0.1), "tokens_per_second": None}]) is None
