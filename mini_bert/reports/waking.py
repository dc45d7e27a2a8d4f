"""When does attention wake up? Held-out loss beside the weight on neighbours, after more and more steps of trainings.

The histories are what `mini-bert evaluate RUN --milestones --only masked_lm,attention --json` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mini_bert.reports.drawing import LINE_COLORS, drawn, open_frame
from mini_bert.reports.headlines import headlines
from mini_bert.reports.quantities import percent
from mini_bert.reports.table import NOTHING, Table

_LOSS, _BESIDE = "masked_lm.loss", "attention.beside"


def waking_table(histories: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line a step: of each training, by its label, the loss in nats and the largest weight on a token beside."""
    curves = {label: _curves(history) for label, history in histories.items()}
    steps = sorted({step for curve in curves.values() for step in curve})
    rows = tuple(
        (
            f"{step:,}",
            *(
                cell
                for curve in curves.values()
                for cell in ((f"{curve[step][0]:.2f}", percent(curve[step][1])) if step in curve else (NOTHING,) * 2)
            ),
        )
        for step in steps
    )
    columns = ("steps", *(column for label in curves for column in (f"{label}: loss", "beside")))
    note = "Beside: the mean weight on the token before or behind, of the head that looks there most, in any layer."
    return Table("Held-out loss, and attention on a neighbour", columns, rows, (note,))


def waking_picture(histories: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draw the same: loss above, weight below.

    Raises:
        InvalidInputError: `path` ends in something else than `.svg` or `.png`.
        MissingExtraError: matplotlib is not installed.
    """
    with drawn(path, width=7, height=5.5, layout="constrained", dpi=150) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for (label, history), color in zip(histories.items(), LINE_COLORS, strict=False):
            steps, pairs = zip(*sorted(_curves(history).items()), strict=True)
            losses, weights = zip(*pairs, strict=True)
            style = {"color": color, "marker": "o", "markersize": 3, "label": label}
            above.plot(steps, losses, **style)
            below.plot(steps, [100 * weight for weight in weights], **style)
        above.set_ylabel("held-out loss, nats")
        below.set_ylabel("weight on a neighbour, %")
        below.set_xlabel("steps")
        below.set_ylim(bottom=0)
        above.legend(frameon=False)
        for axes in (above, below):
            open_frame(axes)
    return path


def _curves(history: Mapping[str, Any]) -> dict[int, tuple[float, float]]:
    """Loss and weight by step."""
    found = {}
    for step, assessment in zip(history["steps"], history["assessments"], strict=True):
        values = {line.key: line.value for part in assessment["parts"] if "result" in part for line in headlines(part)}
        loss, beside = values.get(_LOSS), values.get(_BESIDE)
        if loss is not None and beside is not None:
            found[step] = (loss, beside)
    return found
