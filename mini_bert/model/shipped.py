"""Models that come with the package: folders like any other, for the first minute without training or network."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "shipped"
DEFAULT = "mini-bert"
"""What is meant where no model is named."""


def shipped_models() -> list[str]:
    """Their names."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def shipped_model(name: str | Path) -> Path | None:
    """The folder of the model of this name; None if none comes with the package."""
    return FOLDER / str(name) if str(name) in shipped_models() else None
