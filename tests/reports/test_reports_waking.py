"""Losses and the weight on neighbours stand at their steps, of the head that looks there most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_bert.reports.waking import waking_picture, waking_table


def history(steps: list[int], losses: list[float], previous: list[float]) -> dict[str, Any]:
    """As `evaluate --milestones` gives it; the second head looks behind itself at a fixed rate."""

    def line(name: str, loss: float) -> dict[str, Any]:
        between = {
            "loss_interval": [loss - 1, loss + 1],
            "top1": 0.1,
            "top1_interval": [0.0, 0.2],
            "top5": 0.3,
            "top5_interval": [0.2, 0.4],
        }
        return {"name": name, "label": name, "loss": loss, "perplexity": 2.0, **between}

    def head(number: int, before: float, behind: float) -> dict[str, Any]:
        return {"layer": 0, "head": number, "share": 0.9, "previous": before, "next": behind}

    def assessment(loss: float, weight: float) -> dict[str, Any]:
        masked = {"kind": "evaluation", "table": [line(name, loss) for name in ("model", "untrained", "bigram")]}
        attention = {"kind": "attention_entropy", "heads": [head(0, weight, 0.01), head(1, 0.02, 0.125)]}
        parts = (("masked_lm", masked), ("attention", attention))
        return {"parts": [{"name": name, "title": name, "result": result} for name, result in parts]}

    return {"steps": steps, "assessments": [assessment(*pair) for pair in zip(losses, previous, strict=True)]}


HISTORIES = {"table": history([0, 400], [9.0, 7.0], [0.01, 0.02]), "rotary": history([400], [5.5], [0.5])}


def test_a_line_a_step_and_two_columns_a_training() -> None:
    table = waking_table(HISTORIES)
    assert table.columns == ("steps", "table: loss", "beside", "rotary: loss", "beside")
    assert table.rows == (("0", "9.00", "12.5 %", "—", "—"), ("400", "7.00", "12.5 %", "5.50", "50.0 %"))


@pytest.mark.reference
def test_picture(tmp_path: Path) -> None:
    svg = waking_picture(HISTORIES, tmp_path / "waking.svg").read_text()
    for said in (">rotary<", ">table<", "held-out loss", "weight on a neighbour"):
        assert said in svg
