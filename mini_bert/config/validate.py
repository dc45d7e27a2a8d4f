"""Everything that is wrong with a configuration file, at once, each with its line."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mini_bert.config.layers import Layer, Origin
from mini_bert.config.load import load_config, merge, read_layers
from mini_bert.config.no_effect import without_effect
from mini_bert.config.schema import Config
from mini_bert.config.wording import config_error
from mini_bert.errors import ConfigError

_MOST_PROBLEMS = 100


def problems_of(source: str | Path) -> list[str]:
    """The messages of all problems of a source, of what it extends and of each of its environments, without doubles.

    Settings are looked at one by one where they stand, and then together, as each environment puts them together.
    """
    found: list[ConfigError] = []
    with suppress(_Enough):
        layers = read_layers(str(source), partial(_note, found))
        for layer in layers:
            found += _wrong_settings(layer)
        if not found:
            for environment in dict.fromkeys(layer.environment for layer in layers):
                found += _contradictions([layer for layer in layers if layer.environment in (None, environment)])
    return list(dict.fromkeys(map(str, found)))


def notes_of(source: str | Path) -> list[str]:
    """What is said of settings without effect in a source without problems, by itself and in its environments."""
    environments = dict.fromkeys(layer.environment for layer in read_layers(str(source)))
    notes = [without_effect(load_config([source], environment=environment)) for environment in environments]
    return list(dict.fromkeys(note for found in notes for note in found))


class _Enough(Exception):
    """Nobody reads more."""


def _note(found: list[ConfigError], problem: ConfigError) -> None:
    found.append(problem)
    if len(found) >= _MOST_PROBLEMS:
        raise _Enough


def _wrong_settings(layer: Layer) -> list[ConfigError]:
    """Values of a wrong type or out of bounds."""
    wrong = []
    for section, settings in layer.sections.items():
        for name, findings in groupby(_findings(section, settings), lambda finding: str((*finding["loc"], "")[0])):
            if name:
                error = config_error(findings, ())
                argument = f"{section}.{name}"
                wrong.append(layer.origins[argument].error(argument, error.got, error.expected, error.advice))
    return wrong


def _contradictions(layers: list[Layer]) -> list[ConfigError]:
    """Settings that are right by themselves and do not go together, the first of each section."""
    merged, origins = merge(layers)
    wrong = []
    for section, settings in merged.items():
        for finding in _findings(section, settings):
            error = config_error([finding], ())
            argument = f"{section}.{error.argument}"
            nearby = next(origin for name, origin in origins.items() if name.startswith(f"{section}."))
            place = origins.get(argument, Origin(nearby.source))
            wrong.append(place.error(argument, error.got, error.expected, error.advice))
    return wrong


def _findings(section: str, settings: dict[str, Any]) -> list[Any]:
    """What pydantic finds, which a section's own initialiser would cut down to the first."""
    kind: Any = Config.model_fields[section].annotation
    try:
        BaseModel.__init__(kind.__new__(kind), **settings)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []
