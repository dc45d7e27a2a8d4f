"""Pictures: drawn with matplotlib where it is installed (extra `plots`), the same result to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, RED = "#3b6ea8", "#c8642b", "#3a8f5c", "#7b5ea7", "#b8433a"
GREY, LIGHT_GREY = "#8a8a8a", "#b8b8b8"
"""Of what stands beside: baselines, guides, what was left out of a choice."""
LINE_COLORS = (BLUE, ORANGE, GREEN, PURPLE, RED, "#4aa3a3", "#a68a3a", "#c26a9e")
"""Of lines of which none is to stand out."""

_WITHOUT_DATES: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".png": {"Software": None}}
"""By ending: what would differ from one writing to the next is left out of the file."""


def require_drawable(*paths: Path) -> None:
    """Say now, and not after minutes of work, that a picture cannot be drawn.

    Raises:
        InvalidInputError: one of `paths` ends in something else than `.svg` or `.png`.
        MissingExtraError: matplotlib is not installed.
    """
    for path in paths:
        if path.suffix not in _WITHOUT_DATES:
            raise InvalidInputError("path", got=path.name, expected="a name that ends in .svg or .png")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib", got="not installed", expected="the extra `plots`", advice='pip install "mini-bert[plots]"'
        ) from error


@contextmanager
def drawn(
    *paths: Path, width: float, height: float, layout: str | None = None, font_size: float | None = None, dpi: int = 144
) -> Iterator[Figure]:
    """A figure of `width` × `height` inches to draw on, which is written to each of `paths` when the block ends.

    Args:
        paths: `.svg` or `.png`.
        width: inches.
        height: inches.
        layout: matplotlib's layout engine; without one, axes are placed by hand.
        font_size: points; None: matplotlib's own.
        dpi: of a `.png`.

    Raises:
        InvalidInputError: another ending.
        MissingExtraError: matplotlib is not installed.
    """
    require_drawable(*paths)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": font_size}) if font_size else nullcontext():
        figure = Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]
        yield figure
        with rc_context({"svg.hashsalt": "mini-bert", "svg.fonttype": "none"}):
            for path in paths:
                figure.savefig(path, metadata=_WITHOUT_DATES[path.suffix], dpi=dpi)


def open_frame(axes: Axes) -> None:
    """Axes without the lines above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)
