"""The one schema as command-line options: `--section.setting value`, and short names for the most used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

from mini_bert.config.schema import Config, Section
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.load import Resolved

Flag = FlagCreatePairsOff[bool]
"""`--json` alone, without a `--no-json`."""


def _default(value: object) -> str:
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"(default: {'none' if shown in (None, '') else shown})"


def _section_options(section: Section) -> Any:
    """A dictionary type with the settings of a section, none of which has to be there; help shows these values."""
    options = {
        name: Annotated[
            info.annotation, arg(help=info.description, help_behavior_hint=_default(getattr(section, name)))
        ]
        for name, info in type(section).model_fields.items()
    }
    return TypedDict(type(section).__name__, options, total=False)  # type: ignore[operator]


def _options(config: Config) -> Any:
    """A dictionary type with all sections: `{"train": {"lr": 1e-3}}` holds the settings that were given, only those."""
    sections = {name: _section_options(getattr(config, name)) for name in Config.model_fields}
    return TypedDict("Settings", sections, total=False)  # type: ignore[operator]


Settings: Any = _options(Config())


def option(text: str, metavar: str, name: str | None = None) -> Any:
    """An option of a verb whose default needs no mention."""
    return arg(help=text, metavar=metavar, name=name, help_behavior_hint="")


def refuse_beside(option: str, others: Mapping[str, bool]) -> None:
    """An option that would be passed over in silence is refused.

    Raises:
        InvalidInputError: one of `others` was given beside `option`.
    """
    for other, given in others.items():
        if given:
            raise InvalidInputError(other, got=f"it beside {option}", expected="one of the two")


def require_at_least_one(name: str, value: int | None) -> None:
    """Refuse a number of threads, workers or neighbours that is none; None stands for the default.

    Raises:
        InvalidInputError: `value` is below 1.
    """
    if value is not None and value < 1:
        raise InvalidInputError(name, got=value, expected="at least 1")


@dataclass(frozen=True)
class ConfigOptions:
    """Where a configuration comes from, for every verb that needs one."""

    config: Annotated[UseAppendAction[tuple[str, ...]], option("preset or YAML file; later wins", "PRESET|FILE")] = ()
    corpus: Annotated[
        UseAppendAction[tuple[tuple[str, ...], ...]],
        option("texts: names (mini-bert data list), files or patterns (.txt .gz .jsonl); NAME=2 weighs one", "CORPUS…"),
    ] = ()
    run_name: Annotated[str | None, option("name of the run, a folder in runs/", "NAME", name="run")] = None
    seed: Annotated[int | None, option("seed of every random draw", "INT")] = None
    threads: Annotated[int | None, option("worker threads; they change the time, never the result", "INT")] = None
    environment: Annotated[str | None, option("overlay of the files to use, e.g. server", "NAME")] = None
    settings: Annotated[Settings, arg(name="")] = field(default_factory=dict)

    def load(self, *beneath: str, overrides: Mapping[str, object] | None = None) -> Config:
        """The configuration: `beneath` first, then `--config`s, variables, options, and last `overrides`."""
        return self.resolve(*beneath, overrides=overrides).config

    def resolve(self, *beneath: str, overrides: Mapping[str, object] | None = None) -> Resolved:
        """As `load`, with the origin of each setting."""
        from mini_bert.config.load import resolve

        return resolve(
            [*beneath, *self.config],
            self._given() | dict(overrides or {}),
            environment=self.environment,
            variables=os.environ,
        )

    def chosen(self, section: str, setting: str) -> Any:
        """What an option, or else a variable, says of one setting; None where neither says anything."""
        from mini_bert.config.variables import layer_of_variables

        of_variables = layer_of_variables(os.environ).sections.get(section, {})
        return self._given().get(f"{section}.{setting}", of_variables.get(setting))

    def _given(self) -> dict[str, object]:
        """The settings that options give, by `section.setting`."""
        short = {
            "data.corpus": tuple(name for names in self.corpus for name in names) or None,
            "run.name": self.run_name,
            "run.seed": self.seed,
            "run.threads": self.threads,
        }
        given = {
            f"{section}.{name}": value for section, values in self.settings.items() for name, value in values.items()
        }
        return given | {name: value for name, value in short.items() if value is not None}


def beginning_from(preset: str) -> Any:
    """For `Annotated[ConfigOptions, …]` of a verb that begins from a preset: help shows its values as the defaults."""

    def options() -> type[ConfigOptions]:
        from mini_bert.config.load import load_config

        settings = Annotated[_options(load_config([preset], variables={})), arg(name="")]
        return make_dataclass(
            "ConfigOptions",
            [("settings", settings, field(default_factory=dict))],
            bases=(ConfigOptions,),
            frozen=True,
        )

    return arg(name="", constructor_factory=options)
