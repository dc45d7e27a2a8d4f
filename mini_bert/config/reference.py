"""Every setting with its default, its values and its meaning, as the guide prints them: read off the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from mini_bert.config.layers import settings_of
from mini_bert.config.load import one_line
from mini_bert.config.schema import Config

_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
_KINDS = {int: "integer", float: "number", bool: "true, false", str: "text", type(None): "null"}


def markdown() -> str:
    """A table for each section."""
    lines: list[str] = []
    for section, defaults in Config().to_dict().items():
        kind: Any = Config.model_fields[section].annotation
        lines += [f"**{section}**: {(kind.__doc__ or '').partition(chr(10))[0]}", ""]
        lines += ["| setting | default | values | meaning |", "| :-- | :-- | :-- | :-- |"]
        for name, field in settings_of(section).items():
            cells = (f"`{name}`", f"`{one_line(defaults[name])}`", values_of(field), field.description)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def values_of(field: FieldInfo) -> str:
    """The values that a setting may have, in words.

    >>> values_of(settings_of("train")["in_flight"])
    'auto, integer ≥ 1'
    """
    limits = [*field.metadata, *_limits(field.annotation)]
    bounds = [
        form.format(_figure(getattr(limit, name)))
        for name, form in _BOUNDS.items()
        for limit in limits
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(_words(field.annotation, " and ".join(bounds)))


def _words(annotation: Any, bounds: str) -> list[str]:
    """The kinds of values of a type; bounds are those of the one number in it."""
    if annotation in (int, float):
        return [f"{_KINDS[annotation]} {bounds}".strip()]
    if annotation in _KINDS:
        return [_KINDS[annotation]]
    arguments = [inner for inner in get_args(annotation) if inner is not Ellipsis]
    if get_origin(annotation) is Literal:
        return list(map(str, arguments))
    if hasattr(annotation, "__metadata__"):
        return _words(arguments[0], bounds)
    inner = [word for argument in arguments for word in _words(argument, bounds)]
    if get_origin(annotation) is tuple:
        return ["list of texts" if inner == ["text"] else f"list of {', '.join(inner)}"]
    return inner


def _limits(annotation: Any) -> Iterator[Any]:
    """What stands in `Annotated` types within a type."""
    for inner in getattr(annotation, "__metadata__", ()):
        yield from getattr(inner, "metadata", ())
    for inner in get_args(annotation):
        yield from _limits(inner)


def _figure(bound: float) -> str:
    return "2^64" if bound == 2**64 else f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"
