"""The learning curve of a run as a picture, from the records of its `metrics.jsonl` (extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mini_bert.errors import InvalidInputError
from mini_bert.reports.drawing import BLUE, GREY, ORANGE, drawn, open_frame


def learning_curve(
    records: Sequence[Mapping[str, Any]], path: Path, *, levels: Mapping[str, float] | None = None, title: str = ""
) -> Path:
    """Draw loss and masked accuracy over steps, and write the picture; its kind is that of `path`: `.svg` or `.png`.

    Args:
        records: of kinds `train` (step, loss, accuracy) and `evaluation` (step, loss, accuracy or top1).
        path: where to write.
        levels: label → loss in nats of baselines, drawn as horizontal lines.
        title: over the picture.

    Raises:
        InvalidInputError: no record has a loss, or another ending.
        MissingExtraError: matplotlib is not installed.
    """
    train, held_out = (
        [r for r in records if r.get("kind", "train") == kind and r.get("loss") is not None and "step" in r]
        for kind in ("train", "evaluation")
    )
    if not train and not held_out:
        raise InvalidInputError("records", got="no loss", expected="records with step and loss")
    with drawn(path, width=7, height=5.5, layout="constrained", dpi=150) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for axes, key in ((above, "loss"), (below, "accuracy")):
            scale = 1 if key == "loss" else 100
            for label, lines, style in (
                ("training", train, {"color": BLUE, "linewidth": 0.8}),
                ("held out", held_out, {"color": ORANGE, "marker": "o", "markersize": 4}),
            ):
                points = [(r["step"], scale * value) for r in lines if (value := r.get(key, r.get("top1"))) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), label=label, **style)
        for label, loss in (levels or {}).items():
            above.axhline(loss, color=GREY, linewidth=0.8, linestyle="--")
            above.annotate(
                label, (1, loss), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=GREY, fontsize=8
            )
        above.set_ylabel("loss, nats a masked token")
        below.set_ylabel("masked accuracy, %")
        below.set_xlabel("steps")
        below.set_ylim(bottom=0)
        above.legend(frameon=False)
        above.set_title(title)
        for axes in (above, below):
            open_frame(axes)
    return path
