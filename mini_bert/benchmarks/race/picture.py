"""The race as a picture: every held-out loss over the minutes of the clock. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

from pathlib import Path

from mini_bert.benchmarks.race.result import RaceResult
from mini_bert.reports.drawing import drawn

_COLORS = {"transformers": ("#8a8a8a", "#c06a00", "#d8a657"), "mini-bert": ("#7fb2d9", "#1b6ca8", "#0b3c5d")}


def draw(result: RaceResult, folder: Path) -> list[Path]:
    """Write `race.svg` and `race.png` to `folder`; returns both paths.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    written = [folder / "race.svg", folder / "race.png"]
    with drawn(*written, width=9, height=5, font_size=9) as figure:
        axes = figure.add_axes((0.08, 0.11, 0.89, 0.79))
        counts = {library: iter(colors) for library, colors in _COLORS.items()}
        for course in result.courses:
            color = next(counts[course.library])
            if not course.curve:
                continue
            minutes = [course.seconds(point.step) / 60.0 for point in course.curve]
            losses = [point.loss for point in course.curve]
            axes.plot(minutes, losses, color=color, lw=1.6, label=f"{course.title}: {losses[-1]:.2f} nats")
            axes.plot(minutes[-1], losses[-1], "o", color=color, ms=4)
            if course.library == "transformers":
                axes.axhline(losses[-1], color=color, lw=0.7, ls=":")
        axes.set_xscale("log")
        axes.set_xticks([0.25, 0.5, 1, 2, 5, 10, 20, 60], ["15 s", "30 s", "1", "2", "5", "10", "20", "60 min"])
        axes.minorticks_off()
        axes.set_ylabel("held-out loss, nats a masked piece")
        axes.set_xlabel("minutes of training on the clock")
        axes.spines[["top", "right"]].set_visible(False)
        if any(course.curve for course in result.courses):
            axes.legend(frameon=False, fontsize=8)
        title = f"{result.corpus}, {result.rows} x {result.tokens} tokens a step, {result.machine.processor}"
        figure.suptitle(f"{title}, {result.machine.threads} threads", x=0.01, ha="left", fontsize=10)
    return written
