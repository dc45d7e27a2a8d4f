"""A study as a picture: differences to the baseline with their intervals, and the loss curves (extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mini_bert.errors import InvalidInputError
from mini_bert.reports.drawing import GREEN, GREY, LINE_COLORS, RED, drawn, open_frame
from mini_bert.reports.learning_rate_sensitivity import sensitivity_of, sensitivity_picture
from mini_bert.reports.study import budget, measures_time, ranked

_CURVES = 8
"""Pieces whose curves are drawn: the baseline and the best."""
_LATER = 0.2
"""Share of the budget from which on curves are told apart."""
_WIDTH_OF_A_LETTER = 0.0058
"""Of nine points, as a share of the picture's width."""


def study_picture(result: Mapping[str, Any], path: Path) -> Path:
    """Write the picture; its kind is that of `path`: `.svg` or `.png`. The same result gives the same file.

    Raises:
        InvalidInputError: another ending, or nothing has been tried yet.
        MissingExtraError: matplotlib is not installed.
    """
    compared = [entry for entry in ranked(result) if entry["difference"] is not None]
    if not any(trial["train_losses"] for trial in result["trials"]):
        raise InvalidInputError("result", got="no trial with a loss", expected="a study that has been run")
    if rates := sensitivity_of(result):
        return sensitivity_picture(rates, path, f"{result['study']['name']}: {budget(result['study'])}")
    height = max(3.6, 1.4 + 0.24 * len(compared))
    with drawn(path, width=12, height=height, font_size=9) as figure:
        edge = 0.55 / height
        names = 0.02 + _WIDTH_OF_A_LETTER * max(map(len, (entry["piece"] for entry in compared)), default=0)
        left = figure.add_axes((names, edge, 0.54 - names, 1 - 2 * edge - 0.02))
        right = figure.add_axes((0.6, edge, 0.38, 1 - 2 * edge - 0.02))
        _differences(left, result, compared)
        _curves(right, result)
        figure.suptitle(f"{result['study']['name']}: {budget(result['study'])}", x=0.01, y=0.99, ha="left", fontsize=11)
    return path


def _differences(axes: Any, result: Mapping[str, Any], compared: list[Mapping[str, Any]]) -> None:
    """A point each; a thick line for the interval with one spread, a thin one for the piece's own."""
    for place, entry in enumerate(compared):
        verdict = entry["verdict"]
        color = GREEN if verdict.endswith("helps") else RED if verdict.endswith("hurts") else GREY
        for interval, width in ((entry["interval"], 0.8), (entry["pooled_interval"], 3)):
            if interval is not None:
                axes.plot(interval, (place, place), color=color, linewidth=width, solid_capstyle="butt", clip_on=True)
        axes.plot(entry["difference"], place, "o", color=color, markersize=4)
    middles = [entry["difference"] for entry in compared]
    pooled = [end for entry in compared for end in entry["pooled_interval"] or ()]
    span = [0.0, *middles, *pooled]
    margin = 0.08 * ((max(span) - min(span)) or 1.0)
    axes.set_xlim(min(span) - margin, max(span) + margin)  # an interval of two seeds goes far beyond
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_yticks(range(len(compared)), [entry["piece"] for entry in compared])
    axes.invert_yaxis()
    unit = "seconds" if measures_time(result) else "nats of held-out loss"
    axes.set_xlabel(f"difference to the baseline, {unit}: left is better; 95 %")
    open_frame(axes)


def _curves(axes: Any, result: Mapping[str, Any]) -> None:
    """Held-out loss (or training loss, where the plateau is timed) over the share of the budget, a line a trial."""
    key = "train_losses" if measures_time(result) else "held_out_losses"
    chosen = [entry["piece"] for entry in ranked(result) if entry["seeds"]][:_CURVES]
    later: list[float] = []
    for piece, color in zip(chosen, LINE_COLORS, strict=False):
        label: str | None = piece
        for trial in (trial for trial in result["trials"] if trial["piece"] == piece):
            points = [(step / trial["steps"], loss) for step, loss in trial[key] if loss is not None]
            if points:
                later += [loss for share, loss in points if share >= _LATER]
                axes.plot(*zip(*points, strict=True), color=color, linewidth=1, label=label, marker=".", markersize=3)
                label = None
    if later:  # from the loss of guessing all fall alike
        axes.set_ylim(
            min(later) - 0.05 * (max(later) - min(later)) - 0.01, max(later) + 0.35 * (max(later) - min(later))
        )
    axes.set_xlabel("share of the budget")
    axes.set_ylabel("training loss, nats" if measures_time(result) else "held-out loss, nats")
    if chosen:
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    open_frame(axes)
