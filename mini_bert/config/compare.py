"""Where do two configurations differ, and what says so in each?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.config.layers import Origin
from mini_bert.config.load import Resolved


class Difference(NamedTuple):
    """A setting that has two values."""

    setting: str
    """`section.name`."""
    values: tuple[Any, Any]
    origins: tuple[Origin | None, Origin | None]
    """None: the default."""


def differences(one: Resolved, other: Resolved) -> list[Difference]:
    """The settings whose values are not the same, in the schema's order."""
    first, second = one.config.to_dict(), other.config.to_dict()
    return [
        Difference(setting, (value, second[section][name]), (one.origins.get(setting), other.origins.get(setting)))
        for section, settings in first.items()
        for name, value in settings.items()
        if value != second[section][name]
        for setting in [f"{section}.{name}"]
    ]


def configuration_of(name: str, runs: Path = Path("runs")) -> str:
    """What to give `load_config` for a preset, a file, a run's folder or a run's name.

    >>> configuration_of("model/tiny")
    'model/tiny'
    """
    for folder in (Path(name), runs / name):
        try:
            if (folder / "config.yaml").is_file() and not folder.is_file():
                return str(folder / "config.yaml")
        except (OSError, ValueError):  # a name that no file can have
            break
    return name
