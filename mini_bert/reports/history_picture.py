"""What a model knew after more and more steps: a picture of what `mini-bert evaluate RUN --milestones --json` gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mini_bert.errors import InvalidInputError
from mini_bert.reports.drawing import BLUE, GREY, drawn, open_frame
from mini_bert.reports.headlines import Headline, headlines

_SHOWN = {
    "masked_lm.loss": "held-out loss, nats",
    "pos": "parts of speech, %",
    "blimp": "BLiMP, %",
    "sst2": "SST-2, %",
}
"""Headline → title of its panel."""


def history_picture(history: Mapping[str, Any], path: Path) -> Path:
    """Draw the main figures over steps, on a logarithmic axis, with their intervals and the best floor.

    Args:
        history: a result of kind `history`.
        path: where to; `.svg` or `.png`.

    Raises:
        InvalidInputError: nothing in `history` is drawn here, or another ending.
        MissingExtraError: matplotlib is not installed.
    """
    curves = {key: curve for key in _SHOWN if (curve := _curve(history, key))}
    if not curves:
        raise InvalidInputError("history", got="none of them", expected=f"one of {', '.join(_SHOWN)}")
    first = min((step for curve in curves.values() for step in curve if step), default=1)
    with drawn(path, width=3.6 * len(curves), height=3.2, layout="constrained", dpi=150) as figure:
        for axes, (key, curve) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
            scale = 100 if _SHOWN[key].endswith("%") else 1
            steps, lines = zip(*sorted(curve.items()), strict=True)
            axes.plot(steps, [scale * line.value for line in lines], color=BLUE, marker="o", markersize=3)
            around = [line.interval or (line.value, line.value) for line in lines]
            low, high = ([scale * ends[side] for ends in around] for side in (0, 1))
            axes.fill_between(steps, low, high, color=BLUE, alpha=0.15, linewidth=0)
            if (floor := lines[-1].baseline) is not None:
                axes.axhline(scale * floor[1], color=GREY, linewidth=0.8, linestyle="--")
                axes.annotate(
                    floor[0],
                    (1, scale * floor[1]),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                    color=GREY,
                    fontsize=8,
                )
            axes.set_xscale("symlog", linthresh=first)
            axes.set_xlim(left=-0.15 * first)
            axes.set_title(_SHOWN[key], loc="left", fontsize=10)
            axes.set_xlabel("steps")
            open_frame(axes)
    return path


def _curve(history: Mapping[str, Any], key: str) -> dict[int, Headline]:
    """The headline of this key by step, where it has a value."""
    return {
        step: line
        for step, assessment in zip(history["steps"], history["assessments"], strict=True)
        for part in assessment["parts"]
        if "result" in part
        for line in headlines(part)
        if line.key == key and line.value is not None
    }
