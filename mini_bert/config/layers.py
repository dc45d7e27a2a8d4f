"""What does one source say, in the names of the schema, and where does it say so?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from mini_bert.config.schema import Config
from mini_bert.config.wording import shown
from mini_bert.errors import ConfigError, nearest

BESIDE_SECTIONS = ("extends", "environments")
"""What may stand in a file beside the sections."""

Report = Callable[[ConfigError], None]
"""Hears of a problem: raises it, or notes it and goes on."""


class Origin(NamedTuple):
    """Where a setting stands."""

    source: str = ""
    """A preset, a file or a variable; empty: given directly, by an option or a program."""
    line: int | None = None
    environment: str | None = None
    """The overlay of this name in the file."""
    is_preset: bool = False

    def __str__(self) -> str:
        """As a listing shows it: `mine.yaml, line 7 (environment server)`."""
        if self.is_preset:
            return f"preset {self.source}"
        overlay = f" (environment {self.environment})" if self.environment else ""
        return (self.place() or "option") + overlay

    def place(self) -> str:
        """As a message names it: `mine.yaml, line 7`."""
        return f"{self.source}, line {self.line}" if self.line else self.source

    def error(self, argument: str, got: object, expected: str, advice: str = "") -> ConfigError:
        """An error about what stands here."""
        place = self.place()
        return ConfigError(f"{argument} in {place}" if place else argument, got=got, expected=expected, advice=advice)


class Layer(NamedTuple):
    """The settings of one source, or of one environment in it."""

    sections: dict[str, dict[str, object]]
    origins: dict[str, Origin]
    """By `section.setting`."""
    environment: str | None = None
    """Where this is an overlay: its name."""


def raise_it(problem: ConfigError) -> NoReturn:
    """The usual `Report`."""
    raise problem


def layer_of(
    values: Mapping[Any, object],
    origin: Callable[..., Origin],
    *,
    report: Report = raise_it,
    environment: str | None = None,
) -> Layer:
    """The values under the schema's names; what the schema does not know is reported.

    Args:
        values: section → setting → value.
        origin: where a section, or a setting of a section, stands: `origin("train")`, `origin("train", "lr")`.
        report: hears of unknown names.
        environment: of an overlay.
    """
    layer = Layer({}, {}, environment)
    for key, settings in values.items():
        section = _known(key, None, origin(key), report)
        if section is None or settings is None:  # a heading with nothing beneath it
            continue
        if not isinstance(settings, Mapping):
            report(origin(key).error(section, shown(settings), "settings indented beneath it"))
            continue
        into = layer.sections.setdefault(section, {})
        for key_of_setting, value in settings.items():
            place = origin(key, key_of_setting)
            name = _known(key_of_setting, section, place, report)
            if name is not None:
                into[name] = value
                layer.origins[f"{section}.{name}"] = place
    return layer


def settings_of(section: str) -> Mapping[str, Any]:
    """The fields of a section, by name."""
    kind: Any = Config.model_fields[section].annotation
    fields: Mapping[str, Any] = kind.model_fields
    return fields


def _known(key: object, section: str | None, origin: Origin, report: Report) -> str | None:
    """The key as the schema spells it: a section's name, or a setting's name within a section."""
    names = list(Config.model_fields if section is None else settings_of(section))
    choices = [*names, *BESIDE_SECTIONS] if section is None and origin.line else names
    name = key.replace("-", "_") if isinstance(key, str) else shown(key)
    if name in names:
        return name
    homes = [home for home in Config.model_fields if name in settings_of(home)]
    kind = "section" if section is None else f"setting of {section}"
    argument = name[:60] if name.isprintable() else shown(name)
    report(
        origin.error(
            argument if section is None else f"{section}.{argument}",
            f"an unknown {kind}",
            f"a {kind}",
            f"It belongs to the section {homes[0]}." if homes else nearest(name[:60], choices),
        )
    )
    return None
