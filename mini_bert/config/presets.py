"""The presets that come with the package: YAML files by the names `model/tiny`, `training/pretraining`, …"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("presets")


def preset_names() -> list[str]:
    """All names, sorted.

    >>> preset_names()[:3]
    ['evaluation/downstream', 'evaluation/intrinsic', 'evaluation/probing']
    """
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.yaml"))


def preset_path(name: str) -> Path:
    """The file of a preset."""
    return _FOLDER / f"{name}.yaml"


def preset_purpose(name: str) -> str:
    """What a preset is for: the first line of its file."""
    with preset_path(name).open(encoding="utf-8") as file:
        return file.readline().strip("# \n")
