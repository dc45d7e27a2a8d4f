"""What fewer bits do, as a picture (extra `plots`), and as the file that pages are made from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.atomic_files import storage_errors
from mini_bert.reports.drawing import drawn, open_frame
from mini_bert.reports.numerics_forward import contributions, narrow_passes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = Mapping[str, Any]

_COLORS = {
    "float32": "#7a8793",
    "bfloat16": "#d1602b",
    "float16": "#2f6fb0",
    "float8_e5m2": "#8a5aa8",
    "float8_e4m3": "#3f9259",
}
"""By format."""
_GREY, _LIGHT, _DARK = "#8b8f94", "#f1f2f4", "#2b2f33"
_RECIPES = {
    "float32": (_COLORS["float32"], "-"),
    "bfloat16_master": (_COLORS["bfloat16"], "-"),
    "bfloat16_nearest": ("#a8321f", "--"),
    "bfloat16_stochastic": ("#eda25f", "-."),
    "float16_master": (_COLORS["float16"], "-"),
    "float16_large_batch": ("#17406d", "--"),
    "float16_scaled": ("#79b3e6", "-."),
}
"""Recipe of a training → colour and style of its line: shades of its format's colour."""
_SMOOTHED = 15
"""Steps of a running mean: batches differ more than recipes."""
_MOST_LABELS = 70
"""Intermediates that can still be named under the axis."""
_FLOAT16_SUBNORMAL, _FLOAT16_ZERO = -14, -25
"""Exponents below which float16 is subnormal, and zero."""


def write_numerics(result: Result, folder: Path) -> list[Path]:
    """Write `numerics.json`, and the picture as `numerics.svg` and `numerics.png`; the folder is made.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the folder cannot be written.
    """
    paths = [folder / f"numerics.{ending}" for ending in ("json", "svg", "png")]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(_json(result), encoding="utf-8")
        with drawn(*paths[1:], width=13, height=12.5, layout="constrained", dpi=110) as figure:
            _draw(figure, result)
    return paths


def _json(result: Result) -> str:
    """JSON whose innermost lists and objects stand on one line each."""
    text = json.dumps(result, indent=1, ensure_ascii=False)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text) + "\n"


def _draw(figure: Figure, result: Result) -> None:
    figure.get_layout_engine().set(hspace=0.05, wspace=0.04)  # type: ignore[union-attr]
    panels = figure.subplot_mosaic(
        [["way"] * 3, ["operations", "gradients", "scales"], ["training", "lost", "depth"]],
        height_ratios=[1.25, 1, 1],
    )
    narrow = narrow_passes(result)
    _draw_way(panels["way"], result)
    _draw_operations(panels["operations"], narrow[:1])
    _draw_gradients(panels["gradients"], result)
    _draw_scales(panels["scales"], narrow)
    _draw_training(panels["training"], result["training"])
    _draw_lost(panels["lost"], result["training"])
    _draw_depth(panels["depth"], result["depth"])
    for axes in panels.values():
        open_frame(axes)
        axes.tick_params(labelsize=8, color=_GREY)
        axes.title.set_fontweight("bold")
        axes.title.set_fontsize(10)
        axes.title.set_ha("left")
        axes.title.set_position((0.0, 1.0))


def _draw_way(axes: Axes, result: Result) -> None:
    """Relative error of every intermediate, in order of computation."""
    names = [point["name"] for point in result["passes"][0]["forward"]]
    blocks = [name.partition(".")[0] for name in names]
    for number, block in enumerate(dict.fromkeys(block for block in blocks if block.startswith("layer_"))):
        first, last = blocks.index(block), len(blocks) - 1 - blocks[::-1].index(block)
        if number % 2 == 0:
            axes.axvspan(first - 0.5, last + 0.5, color=_LIGHT, zorder=0)
        axes.annotate(
            f"block {number}", ((first + last) / 2, 1.0), xycoords=("data", "axes fraction"), xytext=(0, -4),
            textcoords="offset points", ha="center", va="top", fontsize=9, color=_GREY,
        )  # fmt: skip
    for pass_ in result["passes"]:
        errors = [point["error"] or math.nan for point in pass_["forward"]]
        color = _COLORS[pass_["format"]]
        axes.plot(errors, color=color, linewidth=1.6, marker="o", markersize=3)
        _name_line(axes, len(errors) - 1, errors[-1], pass_["format"], color)
        broken = [i for i, point in enumerate(pass_["forward"]) if point["error"] is None]
        for i in broken[:1]:
            axes.axvline(i, color=color, linestyle=":", linewidth=1)
    _name_steepest(axes, result)
    native = [point["error"] or math.nan for point in result["native_float32"]]
    axes.plot(native, color=_COLORS["float32"], linewidth=1, linestyle=":")
    _name_line(axes, len(native) - 1, native[-1], "NumPy's\nfloat32", _COLORS["float32"])
    axes.set_yscale("log")
    axes.set_ylim(top=4 * axes.get_ylim()[1])
    axes.set_xlim(-0.8, len(names) + 3.2)
    axes.set_title("Error of every intermediate against float64, ‖x̂ − x‖ / ‖x‖")
    if len(names) <= _MOST_LABELS:
        labels = [name.partition(".")[2] if name.startswith("layer_") else name for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=7)
    else:
        axes.set_xticks([])


def _name_steepest(axes: Axes, result: Result) -> None:
    """Say where the error grows most within one operation, at the highest of the lines."""
    points = max((pass_["forward"] for pass_ in result["passes"]), key=lambda points: points[0]["error"] or 0.0)
    steepest = max(range(len(points)), key=lambda i: points[i]["growth"] or 0.0)
    if points[steepest]["growth"] and points[steepest]["error"]:
        axes.annotate(
            f"{points[steepest]['operation']}: × {points[steepest]['growth']:.1f}",
            (steepest, points[steepest]["error"]), xytext=(0, 8), textcoords="offset points", ha="center",
            fontsize=9, color=_DARK,
        )  # fmt: skip


def _draw_operations(axes: Axes, narrow: Sequence[Result]) -> None:
    """Whose rounding the error at the logits is made of."""
    axes.set_title("Whose rounding is it? Share of the\nsquared error at the logits")
    for pass_ in narrow:
        squares = {name: error**2 for name, error in contributions(pass_).items() if error}
        total = sum(squares.values())
        shares = sorted(((100 * square / total, name) for name, square in squares.items()), reverse=True)[:12][::-1]
        names = ["rounded parameters" if name == "parameters" else name for _, name in shares]
        bars = axes.barh(names, [share for share, _ in shares], color=_COLORS[pass_["format"]], height=0.7)
        axes.bar_label(bars, fmt="%.0f %%", fontsize=8, padding=2, color=_DARK)
        axes.set_xlabel(f"{pass_['format']}, one rounded at a time, %", fontsize=8)
        axes.set_xlim(0, 1.18 * shares[-1][0])


def _draw_gradients(axes: Axes, result: Result) -> None:
    """How large gradients are, and what float16 holds of them."""
    exponents = result["gradient_exponents"]
    lowest = exponents["lowest"]
    for name, color in (("intermediates", "#9aa3ab"), ("parameters", "#4b5660")):
        counts = exponents[name]
        total = sum(counts) or 1
        axes.stairs(
            [100 * count / total for count in counts], range(lowest, lowest + len(counts) + 1),
            fill=name == "intermediates", color=color, alpha=0.55 if name == "intermediates" else 1.0,
            linewidth=1.4, label=name,
        )  # fmt: skip
    axes.set_xlim(-48, 6)
    axes.axvspan(-48, _FLOAT16_ZERO, color=_COLORS["float16"], alpha=0.22, linewidth=0)
    axes.axvspan(_FLOAT16_ZERO, _FLOAT16_SUBNORMAL, color=_COLORS["float16"], alpha=0.10, linewidth=0)
    for x, text in (((-48 + _FLOAT16_ZERO) / 2, "zero"), ((_FLOAT16_ZERO + _FLOAT16_SUBNORMAL) / 2, "subnormal")):
        axes.annotate(
            f"{text} in\nfloat16", (x, 1.0), xycoords=("data", "axes fraction"), xytext=(0, -3),
            textcoords="offset points", ha="center", va="top", fontsize=7.5, color=_COLORS["float16"],
        )  # fmt: skip
    axes.margins(y=0.25)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("E, of gradients from 2^E to 2^(E+1); mean loss, not scaled", fontsize=8)
    axes.set_ylabel("% of those that are not zero", fontsize=8)
    axes.set_title("How small are gradients?")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_scales(axes: Axes, narrow: Sequence[Result]) -> None:
    """Gradient error by loss scale."""
    for pass_ in narrow:
        lines = pass_["loss_scales"]
        color = _COLORS[pass_["format"]]
        errors = [math.nan if line["error"] is None else line["error"] for line in lines]
        powers = [math.log2(line["scale"]) for line in lines]
        axes.plot(powers, errors, color=color, marker="o", markersize=4, linewidth=1.6, label=pass_["format"])
        infinite = [power for power, line in zip(powers, lines, strict=True) if line["error"] is None]
        if infinite:
            axes.plot(
                infinite, [0.06] * len(infinite), transform=axes.get_xaxis_transform(), color=color, marker="x",
                linestyle="none", markersize=6, label=f"{pass_['format']} overflows",
            )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("loss scale, log₂", fontsize=8)
    axes.set_title("Error of the whole gradient by loss scale")
    axes.legend(frameon=False, fontsize=8)


def _draw_training(axes: Axes, training: Result) -> None:
    """Loss over steps, by recipe, at the lower rate."""
    rate = training["curves"][0]["rate"]
    for curve in training["curves"]:
        if curve["rate"] == rate:
            color, style = _RECIPES[curve["name"]]
            losses = [math.nan if loss is None else loss for loss in curve["losses"]]
            axes.plot(*_running_mean(losses), color=color, linestyle=style, linewidth=1.5, label=curve["label"])
    axes.set_xlabel("steps", fontsize=8)
    axes.set_ylabel("training loss, nats", fontsize=8)
    axes.set_title(f"A small model learning, rate {rate:g}")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.55 * (top - bottom))  # room for the legend
    axes.legend(frameon=False, fontsize=7.5, loc="upper right")


def _draw_lost(axes: Axes, training: Result) -> None:
    """Share of the weights that an update did not move."""
    for curve in training["curves"]:
        if curve["weights"] != "float32" and not curve["stochastic"]:
            color, _ = _RECIPES[curve["name"]]
            style = "-" if curve["rate"] == training["curves"][0]["rate"] else ":"
            shares = [100 * share for share in curve["lost"]]
            axes.plot(shares, color=color, linestyle=style, linewidth=1.5, label=f"rate {curve['rate']:g}")
    axes.set_ylim(0, 102)
    axes.set_xlabel("steps", fontsize=8)
    axes.set_ylabel("% of all updates that are not zero", fontsize=8)
    axes.set_title("Updates lost by bfloat16 weights,\nrounded to nearest")
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)


def _draw_depth(axes: Axes, depths: Sequence[Result]) -> None:
    """Error behind each block of a deep model, beside √L."""
    finite = [line for line in depths if None not in line["errors"]]
    for line in finite:
        blocks = range(1, len(line["errors"]) + 1)
        axes.plot(blocks, line["errors"], color=_COLORS[line["format"]], linewidth=1.6, label=line["format"])
        root = [line["errors"][-1] * math.sqrt(L / len(line["errors"])) for L in blocks]
        axes.plot(
            blocks, root, color=_GREY, linewidth=0.9, linestyle="--", label="∝ √L" if line is finite[-1] else None
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [L for L in (1, 2, 4, 8, 16, 32) if finite and len(finite[0]["errors"]) >= L]
    axes.set_xticks(ticks, [str(L) for L in ticks])
    axes.set_xlabel("blocks", fontsize=8)
    axes.set_title("Error behind L fresh blocks")
    axes.legend(frameon=False, fontsize=8)


def _name_line(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    if math.isfinite(y):
        axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9, color=color)


def _running_mean(values: Sequence[float]) -> tuple[list[int], list[float]]:
    width = min(_SMOOTHED, len(values))
    steps = range(width, len(values) + 1)
    return list(steps), [sum(values[step - width : step]) / width for step in steps]
