"""What a study over a grid of learning rates says of them: a table, and a picture (extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.analysis.learning_rate_sensitivity import (
    LEVEL,
    Sensitivity,
    analyze_learning_rate_sensitivity,
    trials_of_study,
)
from mini_bert.errors import InvalidInputError
from mini_bert.reports.drawing import BLUE, GREY, ORANGE, drawn, open_frame
from mini_bert.reports.quantities import number, signed
from mini_bert.reports.table import NOTHING, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VALLEY = "#e8eef5"
"""Behind the rates that are nearly as good as the best."""
_FEWEST = 3
"""Rates that every seed has tried; of fewer there is nothing to say."""


def sensitivity_of(study: Mapping[str, Any]) -> Sensitivity | None:
    """What the result of a study says of its rates; None if its trials differ in more, or too few are done.

    Rates that some seed has not tried yet are left out.
    """
    if any(set(trial["settings"]) != {"train.lr"} for trial in study["trials"]):
        return None
    trials = trials_of_study(study)
    tried: dict[float, set[int]] = {}
    for trial in trials:
        tried.setdefault(trial["lr"], set()).add(trial["seed"])
    seeds = set().union(*tried.values()) if tried else set()
    whole = {lr for lr, found in tried.items() if found == seeds}
    if len(whole) < _FEWEST:
        return None
    return analyze_learning_rate_sensitivity([trial for trial in trials if trial["lr"] in whole])


def sensitivity_table(found: Sensitivity) -> Table:
    """A line a rate: mean loss, its interval, the distance to the best; what follows from all of them beneath."""
    assert found.rates
    rows = tuple(
        (
            f"{rate.lr:.2g}",
            number(rate.mean),
            NOTHING if rate.interval is None else f"{rate.interval.low:.3f} … {rate.interval.high:.3f}",
            NOTHING if rate.mean is None or found.best_loss is None else signed(rate.mean - found.best_loss),
            f"{rate.diverged}" if rate.diverged else "",
        )
        for rate in found.rates
    )
    strong = tuple(i for i, rate in enumerate(found.rates) if rate.lr == found.best)
    columns = ("learning rate", "held-out loss, nats", "95 %", "above the best", "diverged")
    return Table("Sensitivity to the learning rate", columns, rows, (found.message,), strong=strong)


def sensitivity_picture(found: Sensitivity, path: Path, title: str = "") -> Path:
    """Write the losses over the rates; the picture's kind is that of `path`: `.svg` or `.png`.

    Raises:
        InvalidInputError: another ending, or every trial diverged.
        MissingExtraError: matplotlib is not installed.
    """
    if found.best_loss is None:
        raise InvalidInputError("trials", got="none that has a loss", expected="at least one")
    with drawn(path, width=7, height=4, layout="constrained", dpi=150) as figure:
        axes = figure.subplots()
        _draw(axes, found, found.best_loss)
        axes.set_title(title, fontsize=10)
    return path


def _draw(axes: Axes, found: Sensitivity, lowest: float) -> None:
    valley = found.valley
    assert valley is not None
    axes.axvspan(
        valley.low, valley.high, color=_VALLEY, label=f"within {LEVEL:g} nats: a factor of {valley.factor:.1f}"
    )
    if found.optimum is not None:
        axes.axvline(found.optimum, color=ORANGE, linewidth=1, linestyle="--", label=f"optimum: {found.optimum:.2g}")
    means = [(rate.lr, rate.mean) for rate in found.rates if rate.mean is not None]
    axes.plot(*zip(*means, strict=True), color=BLUE, linewidth=1.4, marker="o", markersize=4, label="mean over seeds")
    for rate in found.rates:
        axes.plot([rate.lr] * len(rate.losses), list(rate.losses.values()), ".", color=GREY, markersize=4)
    top = max(mean for _, mean in means)
    above = top + 0.08 * max(top - lowest, LEVEL)
    lost = [rate.lr for rate in found.rates if rate.diverged]
    if lost:
        axes.plot(lost, [above] * len(lost), "x", color=ORANGE, label="diverged")
    axes.set_xscale("log")
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel("held-out loss at the end, nats")
    axes.legend(frameon=False, fontsize=8)
    open_frame(axes)
