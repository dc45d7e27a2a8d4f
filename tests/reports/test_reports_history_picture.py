"""The figures of a history stand in the picture, each in a panel of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.reports.history_picture import history_picture


def assessment(loss: float) -> dict[str, Any]:
    def line(name: str, value: float) -> dict[str, Any]:
        shares = {"top1": 0.1, "top1_interval": [0.0, 0.2], "top5": 0.3, "top5_interval": [0.2, 0.4]}
        loss_and_interval = {"loss": value, "loss_interval": [value - 1, value + 1], "perplexity": 2.0}
        return {"name": name, "label": f"the {name}", **loss_and_interval, **shares}

    pairs = {"accuracy": 0.625, "interval": [0.5, 0.75]}
    grammar = {"kind": "minimal_pairs", "chance": 0.5, "sets": [{"name": "blimp", "total": {"pll": pairs}}]}
    masked = {"kind": "evaluation", "table": [line("model", loss), line("untrained", 9.0), line("bigram", 5.0)]}
    parts = (("masked_lm", masked), ("blimp", grammar))
    return {"parts": [{"name": name, "title": name, "result": result} for name, result in parts]}


@pytest.mark.reference
def test_a_panel_a_figure_with_its_floor(tmp_path: Path) -> None:
    history = {"steps": [0, 100, 1000], "assessments": [assessment(loss) for loss in (9.0, 7.0, 5.5)]}
    svg = history_picture(history, tmp_path / "history.svg").read_text()
    for said in ("held-out loss, nats", "BLiMP, %", ">the bigram<", ">chance<"):
        assert svg.count(said) == 1
    assert "SST-2" not in svg
    assert "\N{MINUS SIGN}" not in svg, "no step comes before the first"


def test_a_history_of_other_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="history"):
        history_picture({"steps": [0], "assessments": [{"parts": []}]}, tmp_path / "history.svg")
