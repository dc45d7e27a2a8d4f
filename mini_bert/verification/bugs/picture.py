"""Loss with and without each bug, one small picture a bug (extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mini_bert.errors import InvalidInputError
from mini_bert.reports.drawing import drawn
from mini_bert.verification.bugs.symptom import DEVIATIONS

_COLUMNS = 8
_GREY, _ORANGE, _BLUE = "#888888", "#c8642b", "#3b6ea8"


def draw(results: Mapping[str, Any], path: Path) -> Path:
    """Held-out loss over steps: grey without the bug, coloured with it; orange where the loss gives it away.

    Raises:
        InvalidInputError: nothing was measured.
        MissingExtraError: matplotlib is not installed.
    """
    bugs, without = results.get("bugs", {}), results.get("without")
    if not bugs or without is None:
        raise InvalidInputError("results", got="no bug", expected="what hunt measured")
    rows = -(-len(bugs) // _COLUMNS)
    with drawn(path, width=1.7 * _COLUMNS, height=1.3 * rows + 0.4, layout="constrained") as figure:
        panels = list(figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat)
        usual, bound = without["training"]["held_out"], DEVIATIONS * without["noise"]
        for panel, (name, record) in zip(panels, bugs.items(), strict=False):
            panel.plot(*zip(*usual, strict=True), color=_GREY, linewidth=1.0)
            held_out = [point for point in record["training"]["held_out"] or [] if point[1] is not None]
            if held_out:
                color = _BLUE if abs(held_out[-1][1] - usual[-1][1]) <= bound else _ORANGE
                panel.plot(*zip(*held_out, strict=True), color=color, linewidth=1.4)
            else:
                panel.text(0.5, 0.5, "does not run", ha="center", va="center", transform=panel.transAxes, fontsize=7)
            panel.set_title(name, fontsize=5.5)
            panel.tick_params(labelsize=6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_ylim(4.5, 6.6)
        for panel in panels[len(bugs) :]:
            panel.set_visible(False)
        figure.supxlabel("steps", fontsize=8)
        figure.supylabel("held-out loss, nats a hidden piece; grey: without the bug", fontsize=8)
    return path
