"""Pydantic's findings in the words of this package: which setting, what was got, what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mini_bert.errors import ConfigError, nearest

_LONGEST = 60


def shown(value: object) -> str:
    """A value as a message shows it, in at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits, a list in itself
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def config_error(findings: Iterable[Mapping[str, Any]], known: Iterable[str]) -> ConfigError:
    """The first finding of a `pydantic.ValidationError.errors()` as a ConfigError.

    A value that fits none of several types gives one finding for each; these are joined by "or".

    Args:
        findings: at least one.
        known: the settings of the section, for the hint on a mistyped name.
    """
    findings = list(findings)
    first = findings[0]
    cause = first.get("ctx", {}).get("error")
    name = str(first["loc"][0]) if first["loc"] else ""
    if isinstance(cause, ConfigError):
        argument = f"{name}.{cause.argument}" if name else cause.argument
        return ConfigError(argument, got=f"{cause.got!s:.200}", expected=f"{cause.expected:.200}", advice=cause.advice)
    if first["type"] == "extra_forbidden":
        return ConfigError(name, got="an unknown setting", expected="a known one", advice=nearest(name, known))
    same = [finding for finding in findings if finding["loc"] and finding["loc"][0] == name]
    expected = dict.fromkeys(_expected(finding) for finding in same or [first])
    got = "nothing" if first["type"] == "missing" else shown(first["input"])
    return ConfigError(name, got=got, expected=" or ".join(expected))


_BOUNDS = {"greater_than_equal": "at least {ge}", "greater_than": "more than {gt}", "less_than_equal": "at most {le}"}
_BOUNDS |= {"less_than": "less than {lt}", "too_short": "at least {min_length} of them", "missing": "a value"}
_BOUNDS |= {"tuple_type": "a list", "dict_type": "a mapping", "model_type": "a mapping"}
_BOUNDS |= {"string_type": "text", "string_pattern_mismatch": "text that matches {pattern}"}


def _expected(finding: Mapping[str, Any]) -> str:
    """`Input should be a valid integer, unable to parse…` → `a valid integer`."""
    if finding["type"] in _BOUNDS:
        return _BOUNDS[finding["type"]].format_map(finding.get("ctx", {}))
    message = str(finding["msg"])
    return message.removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable to")[0]
