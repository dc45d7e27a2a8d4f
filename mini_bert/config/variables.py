"""Settings from the environment: `MINI_BERT__TRAIN__LR=2e-3` is `train.lr`."""

from __future__ import annotations

from collections.abc import Mapping

from mini_bert.config.layers import Layer, Origin, layer_of, settings_of
from mini_bert.config.plain_yaml import read_flow
from mini_bert.config.wording import shown
from mini_bert.errors import ConfigError

PREFIX = "MINI_BERT__"
ENVIRONMENT = "MINI_BERT_ENVIRONMENT"
"""Names the environment whose overlays are read; like all variables with a single underscore it is no setting."""


def layer_of_variables(variables: Mapping[str, str]) -> Layer:
    """The settings among the variables, read by upper and lower case alike.

    Numbers and words stand as they are, `null` is none, a list is `a,b` or `[a, "b, c"]`.

    Raises:
        ConfigError: a variable with the prefix names no setting, is empty, or gives a setting a second time.
    """
    values: dict[str, dict[str, object]] = {}
    named: dict[tuple[str, str], str] = {}
    for variable in sorted(name for name in variables if name.upper().startswith(PREFIX)):
        section, separator, setting = variable[len(PREFIX) :].lower().replace("-", "_").partition("__")
        if not separator:
            raise ConfigError(
                variable if variable.isprintable() else shown(variable),
                got="a variable that names no setting",
                expected=f"{PREFIX}SECTION__SETTING, as in {PREFIX}TRAIN__LR",
            )
        if (section, setting) in named:
            raise ConfigError(variable, got=f"{named[section, setting]} as well", expected="one of the two")
        named[section, setting] = variable
        layer_of({section: {setting: None}}, lambda *_, variable=variable: Origin(variable))
        values.setdefault(section, {})[setting] = _value(variables[variable], section, setting, variable)
    return layer_of(values, lambda section, setting="": Origin(named.get((section, setting), "")))


def _value(text: str, section: str, setting: str, variable: str) -> object:
    """What the text of a variable means: the schema says whether a list is wanted, and turns text into numbers."""
    text = text.strip()
    if not text:
        raise ConfigError(variable, got="an empty value", expected="a value, or null", advice="Or unset the variable.")
    if text == "null":
        return None
    if not isinstance(settings_of(section)[setting].default, tuple):
        return text
    if not text.startswith("["):
        return [part.strip() for part in text.split(",")]
    value = read_flow(text, variable)
    if not isinstance(value, list):
        raise ConfigError(variable, got=shown(text), expected="a list: a,b or [a, b]")
    return value
