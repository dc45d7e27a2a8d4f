"""A search for the learning rate as a curve: in the terminal, and as a picture (extra `plots`)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.atomic_files import replace_file, storage_errors
from mini_bert.errors import InvalidInputError
from mini_bert.reports.drawing import BLUE, GREEN, GREY, ORANGE, drawn, open_frame, require_drawable
from mini_bert.training.lr_finder import LearningRateCurve, Point, Proposal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 72, 14
_HEADROOM = 0.15
"""Of the height: how far above the first loss the picture reaches, where a diverging loss leaves it."""


def draw_text(curve: LearningRateCurve) -> str:
    """The smoothed losses over the rates in characters, with marks under the rates that the proposal speaks of.

    Raises:
        InvalidInputError: the curve has fewer than two points.
    """
    points = _drawable(curve.points)
    low, high = _span(points)
    left, right = (math.log10(points[end].smoothed_lr) for end in (0, -1))
    rows = [[" "] * _WIDTH for _ in range(_HEIGHT)]

    def column(lr: float) -> int:
        return round((_WIDTH - 1) * (math.log10(lr) - left) / (right - left))

    def row(loss: float) -> int:
        return round((_HEIGHT - 1) * (high - min(max(loss, low), high)) / (high - low))

    for before, after in pairwise(points):
        first, last = column(before.smoothed_lr), column(after.smoothed_lr)
        for at in range(first, last + 1):
            share = (at - first) / max(last - first, 1)
            rows[row(before.smoothed_loss + share * (after.smoothed_loss - before.smoothed_loss))][at] = "•"
    losses = [high - (high - low) * number / (_HEIGHT - 1) for number in range(_HEIGHT)]
    lines = [f"{loss:7.2f} │{''.join(cells).rstrip()}" for loss, cells in zip(losses, rows, strict=True)]
    return "\n".join([*lines, *_axis(left, right, column), *_marks(curve, column)])


def write(curve: LearningRateCurve, folder: Path, title: str = "") -> list[Path]:
    """Write `learning_rate.json`, and the curve as `learning_rate.svg` if it has two points; the folder is made.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the folder cannot be written.
    """
    require_drawable()
    written = [folder / "learning_rate.json"]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(written[0], (json.dumps(to_dict(curve), indent=1) + "\n").encode())
        if len(curve.points) > 1:
            written.append(folder / "learning_rate.svg")
            _write_picture(curve, written[1], title)
    return written


def to_dict(curve: LearningRateCurve) -> dict[str, Any]:
    """The curve as plain values."""
    return {
        "kind": "learning_rate_curve",
        "proposal": curve.proposal._asdict(),
        "stopped": curve.stopped,
        "points": [point._asdict() for point in curve.points],
    }


def _write_picture(curve: LearningRateCurve, path: Path, title: str) -> None:
    with drawn(path, width=7, height=4, layout="constrained") as figure:
        axes = figure.subplots()
        _draw(axes, curve.points, curve.proposal)
        axes.set_title(title, fontsize=10)


def _drawable(points: Sequence[Point]) -> list[Point]:
    if len(points) < 2:
        raise InvalidInputError("curve", got=f"{len(points)} points", expected="at least two")
    return list(points)


def _span(points: Sequence[Point]) -> tuple[float, float]:
    """The losses that are shown, lowest to a little above the first; one that diverges leaves at the top."""
    low = min(point.smoothed_loss for point in points)
    high = max(points[0].smoothed_loss, low + 1e-3)
    return low, high + _HEADROOM * (high - low)


def _axis(left: float, right: float, column: Any) -> list[str]:
    """The horizontal line, and a label under each power of ten."""
    ticks, labels = ["─"] * _WIDTH, [" "] * (_WIDTH + 6)
    for power in range(math.ceil(left - 1e-9), math.floor(right + 1e-9) + 1):
        at = column(10.0**power)
        ticks[at] = "┴"
        labels[at : at + 5] = f"1e{power}".ljust(5)
    return [f"{'':7} └{''.join(ticks)}", f"{'':9}{''.join(labels).rstrip()}"]


def _marks(curve: LearningRateCurve, column: Any) -> list[str]:
    proposal = curve.proposal
    named = {"proposed": proposal.lr, "steepest": proposal.steepest, "lowest": proposal.lowest}
    return [
        f"{'':9}{'':{column(lr)}}▲ {name} {lr:.2g}"
        for name, lr in named.items()
        if lr is not None and curve.points[0].smoothed_lr <= lr <= curve.points[-1].smoothed_lr
    ]


def _draw(axes: Axes, points: Sequence[Point], proposal: Proposal) -> None:
    rates, losses = [point.lr for point in points], [point.loss for point in points]
    axes.plot(rates, losses, color=GREY, linewidth=0.6, alpha=0.6, label="loss of each batch")
    smoothed = [(point.smoothed_lr, point.smoothed_loss) for point in points]
    axes.plot(*zip(*smoothed, strict=True), color=BLUE, linewidth=1.6, label="smoothed, lag taken out")
    for lr, name, color in (
        (proposal.steepest, "steepest", GREEN),
        (proposal.lowest, "lowest", GREY),
        (proposal.lr, "proposed", ORANGE),
    ):
        if lr is not None:
            axes.axvline(lr, color=color, linewidth=1, linestyle="--", label=f"{name}: {lr:.2g}")
    low, high = _span(points)
    axes.set_ylim(low - 0.05 * (high - low), high)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, nats a masked token")
    axes.legend(frameon=False, fontsize=8)
    open_frame(axes)
