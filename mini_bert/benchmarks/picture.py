"""A benchmark result as a picture: speed, memory and scaling side by side. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mini_bert.benchmarks.result import BenchmarkResult, Entry, Quartiles
from mini_bert.benchmarks.tables import PRODUCTS
from mini_bert.reports.drawing import drawn

_PLACES = ((0.245, 0.245), (0.64, 0.13), (0.83, 0.155))
"""Left edge and width of the three axes, as shares of the figure."""

_OURS, _RIVAL, _SHOWN = "#1b6ca8", "#b8b8b8", "#e3e3e3"


def draw(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Write `benchmark.svg` and `benchmark.png` to `folder`; returns both paths.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    written = [folder / "benchmark.svg", folder / "benchmark.png"]
    with drawn(*written, width=13, height=5.2, font_size=9) as figure:
        # Placed by hand: an automatic layout is not the same to the last digit.
        speed, memory, scaling = (figure.add_axes((left, 0.14, width, 0.74)) for left, width in _PLACES)
        _speed(speed, result)
        _memory(memory, result)
        _scaling(scaling, result)
        figure.suptitle(
            f"Training Mini-BERT on {result.machine.threads} threads, {result.rows} x {result.tokens} tokens a step; "
            f"{result.machine.processor}, {result.machine.date}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
    return written


def _trained(result: BenchmarkResult) -> list[Entry]:
    return [entry for entry in result.training.finished() if entry.name not in PRODUCTS]


def _color(entry: Entry) -> str:
    return _OURS if entry.name.startswith("ours") else _RIVAL if entry.rival else _SHOWN


def _bars(axes: Any, entries: list[Entry], values: list[float], ends: list[float]) -> None:
    """A bar for each value, and the value as a number behind `ends`."""
    places = range(len(entries))
    axes.barh(places, values, color=[_color(entry) for entry in entries])
    for place, value, end in zip(places, values, ends, strict=True):
        axes.annotate(f"{value:,.0f}", (end, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.spines[["top", "right"]].set_visible(False)


def _speed(axes: Any, result: BenchmarkResult) -> None:
    entries = sorted(_trained(result), key=lambda entry: entry.quartiles.median)
    speeds = [result.tokens_per_second(entry) for entry in entries]
    _bars(axes, entries, [speed.median for speed in speeds], [speed.high for speed in speeds])
    errors = [[s.median - s.low for s in speeds], [s.high - s.median for s in speeds]]
    axes.errorbar([s.median for s in speeds], range(len(speeds)), xerr=errors, fmt="none", ecolor="#555555", lw=1)
    floor = result.rows * result.tokens / result.floor.seconds.median
    axes.axvline(floor, color=_OURS, ls=":", lw=1)
    axes.annotate(
        "matrix products alone", (floor, 0.01), xycoords=("data", "axes fraction"), rotation=90, ha="right", va="bottom"
    )
    axes.set_yticklabels([entry.title for entry in entries])
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("tokens a second: median and quartiles of alternating blocks")


def _memory(axes: Any, result: BenchmarkResult) -> None:
    entries = sorted(_trained(result), key=lambda entry: entry.peak_bytes)
    peaks = [entry.peak_bytes / 1e6 for entry in entries]
    _bars(axes, entries, peaks, peaks)
    axes.barh(range(len(entries)), [entry.imported_bytes / 1e6 for entry in entries], color="#00000030")
    axes.set_yticklabels([entry.name for entry in entries])
    axes.set_xlabel("peak memory, MB (darker: libraries alone)")


def _scaling(axes: Any, result: BenchmarkResult) -> None:
    milliseconds = [1e3 * Quartiles.of(seconds).median for seconds in result.scaling.seconds]
    axes.loglog(result.scaling.tokens, milliseconds, "o-", color=_OURS)
    axes.minorticks_off()
    axes.set_xticks(result.scaling.tokens, [f"{tokens:,}" for tokens in result.scaling.tokens], rotation=45)
    axes.set_yticks(milliseconds, [f"{time:,.0f}" for time in milliseconds])
    axes.set_xlabel("tokens a step")
    axes.set_title(f"ms a step: tokens to the power of {result.scaling.exponent:.2f}", fontsize=9, loc="right")
    axes.spines[["top", "right"]].set_visible(False)
