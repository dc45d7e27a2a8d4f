"""Which hidden pieces are found, as tables, and a reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from mini_bert.reports.drawing import GREY, LINE_COLORS, drawn
from mini_bert.reports.quantities import difference, percent, within
from mini_bert.reports.table import NOTHING, Table

_TITLES = {
    "frequency": "by frequency rank of the right piece",
    "piece": "by kind of piece",
    "shown": "by what stands at the masked position",
    "position": "by position in the row",
    "part of speech": "by part of speech, in a treebank's sentences",
}


def masked_lm_breakdown_tables(result: Mapping[str, Any]) -> list[Table]:
    """A table for each way to take the masked tokens apart, and one of calibration."""
    return [*(_group_table(result, group) for group in result["groups"]), _calibration_table(result)]


def reliability_picture(result: Mapping[str, Any], path: Path) -> Path:
    """Write the reliability diagram (`.svg` or `.png`): accuracy over confidence, on the diagonal where they agree.

    Raises:
        InvalidInputError: another ending.
        MissingExtraError: matplotlib is not installed.
    """
    with drawn(path, width=5.2, height=5, font_size=9) as figure:
        axes = figure.add_axes((0.12, 0.1, 0.84, 0.82))
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        for color, name in zip(cycle(LINE_COLORS), ("model", *result["baselines"]), strict=False):
            if found := result["calibration"][name]:
                bins = found["bins"]
                x, y = [bin["confidence"] for bin in bins], [bin["accuracy"] for bin in bins]
                below = [max(0, bin["accuracy"] - bin["interval"][0]) for bin in bins]
                above = [max(0, bin["interval"][1] - bin["accuracy"]) for bin in bins]
                label = f"{_label(name)}: ECE {100 * found['error']:.1f} points"
                axes.errorbar(x, y, (below, above), color=color, marker="o", markersize=4, linewidth=1.2, label=label)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title="Bins of equal numbers")
        axes.legend(frameon=False)
    return path


def _group_table(result: Mapping[str, Any], group: Mapping[str, Any]) -> Table:
    baselines = result["baselines"]
    rows = tuple(
        (
            line["label"],
            f"{line['n']:,}",
            percent(line["share"]),
            within(line["scores"]["model"]["loss"], line["scores"]["model"]["loss_interval"], 2),
            within(line["scores"]["model"]["top1"], line["scores"]["model"]["top1_interval"], 1, 100, " %"),
            percent(line["scores"]["model"]["top5"]),
            *(
                cell
                for name in baselines
                for cell in (f"{line['scores'][name]['loss']:.2f}", percent(line["scores"][name]["top1"]))
            ),
        )
        for line in group["lines"]
    )
    beside = (heading for name in baselines for heading in (f"{_label(name)}: loss", "top-1"))
    columns = ("", "masked", "share", "loss, nats", "top-1", "top-5", *beside)
    notes = ("± is the larger half of the 95 % interval, over rows.",) if group is result["groups"][0] else ()
    return Table(f"Masked tokens {_TITLES.get(group['by'], group['by'])}: {group['n']:,}", columns, rows, notes)


def _calibration_table(result: Mapping[str, Any]) -> Table:
    rows = []
    for name in ("model", *result["baselines"]):
        if found := result["calibration"][name]:
            rows.append(
                (
                    _label(name),
                    f"{100 * found['error']:.2f}",
                    f"{100 * found['floor']:.2f}",
                    difference(found["overconfidence"], found["overconfidence_interval"], 2, 100),
                    f"{found['n']:,}",
                )
            )
    notes = (
        "ECE: mean distance of confidence and accuracy over 15 bins of equal numbers, where [MASK] stands. A model "
        "whose confidences are right would show the floor, by chance alone.",
    )
    columns = ("", "ECE, points", "floor", "confidence above accuracy", "masked")
    return Table("Calibration of the best piece", columns, tuple(rows) or ((NOTHING,) * 5,), notes)


def _label(name: str) -> str:
    return "Mini-BERT" if name == "model" else name
