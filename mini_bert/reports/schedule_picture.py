"""All learning-rate schedules in one picture (extra `plots`): `python -m mini_bert.reports.schedule_picture PATH`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.optim.schedules import learning_rate
from mini_bert.reports.drawing import BLUE, LIGHT_GREY, drawn, open_frame

_STEPS = 400


class Shown(NamedTuple):
    """One panel: a schedule, and beside it, in grey, the same with one setting changed."""

    schedule: str
    settings: dict[str, Any]
    other: dict[str, Any]
    name: str
    """Of the other."""


PANELS = (
    Shown("linear", {}, {"min_lr_ratio": 0.2}, "min_lr_ratio 0.2"),
    Shown("constant", {}, {"warmup_ratio": 0.0}, "warmup_ratio 0"),
    Shown("cosine", {}, {"min_lr_ratio": 0.2}, "min_lr_ratio 0.2"),
    Shown("polynomial", {}, {"power": 4.0}, "power 4"),
    Shown("inverse_sqrt", {}, {"warmup_ratio": 0.02}, "warmup_ratio 0.02"),
    Shown("wsd", {}, {"decay_ratio": 0.5}, "decay_ratio 0.5"),
    Shown("one_cycle", {"warmup_ratio": 0.3}, {"warmup_ratio": 0.1}, "warmup_ratio 0.1"),
)


def draw_schedules(path: Path) -> Path:
    """Write the picture; the same code gives the same file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shares = [step / _STEPS for step in range(1, _STEPS + 1)]
    with drawn(path, width=11, height=4.6, font_size=9) as figure:
        panels = figure.subplots(2, 4, sharex=True, sharey=True)
        figure.subplots_adjust(0.05, 0.1, 0.99, 0.93, 0.08, 0.24)
        for axes, shown in zip(panels.flat, PANELS, strict=False):
            axes.plot(shares, _rates(shown, shown.other), color=LIGHT_GREY, linewidth=1.2, label=shown.name)
            label = ", ".join(f"{name} {value:g}" for name, value in shown.settings.items()) or "defaults"
            axes.plot(shares, _rates(shown, {}), color=BLUE, linewidth=1.8, label=label)
            axes.set_title(shown.schedule, fontsize=10, loc="left")
            axes.legend(frameon=False, fontsize=7, loc="lower center" if shown.schedule == "constant" else "best")
            open_frame(axes)
        panels[1, 3].set_axis_off()
        panels[0, 0].set_ylabel("share of the peak")
        panels[1, 0].set_ylabel("share of the peak")
        for axes in panels[1, :3]:
            axes.set_xlabel("share of all updates")
    return path


def _rates(shown: Shown, more: dict[str, Any]) -> list[float]:
    settings = {"steps": _STEPS, "peak": 1.0, "warmup_ratio": 0.1, **shown.settings, **more}
    return [learning_rate(step, schedule=shown.schedule, **settings) for step in range(1, _STEPS + 1)]


if __name__ == "__main__":
    print(draw_schedules(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results/schedules.svg")))
