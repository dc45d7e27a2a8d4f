"""Read a YAML file as plain values: nothing is built, nothing expands, nothing is silently lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from mini_bert.config.wording import shown
from mini_bert.errors import ConfigError
from mini_bert.foreign_files import read_regular_file

_MOST_BYTES = 32_768
"""A configuration is a page of text; a longer file is something else."""
_MOST_BITS = 128


class _PlainLoader(yaml.SafeLoader):
    """YAML without tags (which build objects), aliases (a few expand to billions) and keys given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, "an alias, which is refused (`extends:` shares settings)", mark)
        return super().compose_node(parent, index)

    def construct_undefined(self, node: yaml.Node) -> None:
        raise ConstructorError(None, None, f"the tag {shown(node.tag)}, which is refused", node.start_mark)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number: int = super().construct_yaml_int(node)
        if number.bit_length() > _MOST_BITS:  # thousands of digits, with which Python does not even print it
            raise ConstructorError(None, None, f"a number beyond 2^{_MOST_BITS}", node.start_mark)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value).replace("-", "_")
            if name in seen:
                raise ConstructorError(None, None, f"the key {shown(key.value)} twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_PlainLoader.add_constructor(None, _PlainLoader.construct_undefined)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


class Document(NamedTuple):
    """What a file holds."""

    values: dict[Any, Any]
    lines: dict[tuple[str, ...], int]
    """The line of each key, by the keys that lead to it; hyphens as underscores."""


def read_document(path: Path) -> Document:
    """The mapping that a file holds.

    Raises:
        ConfigError: the file cannot be read, is empty, longer than 32 KiB, not UTF-8, not YAML, no mapping, or uses
            tags, aliases or a key twice; the message names the line.
    """
    try:
        data = read_regular_file(path, _MOST_BYTES)
    except OSError as error:
        got = error.strerror or "an unreadable file"
        raise ConfigError(str(path), got=got, expected="a configuration of a page or two") from None
    values, node = _parse(data, str(path), "a YAML mapping of sections, in UTF-8")
    if not isinstance(values, dict):
        raise ConfigError(
            str(path),
            got=shown(values) if data.strip() else "an empty file",
            expected="a YAML mapping of sections, in UTF-8",
        )
    return Document(values, dict(_lines(node)))


def read_flow(text: str, source: str) -> object:
    """The value of a YAML text of one line.

    Raises:
        ConfigError: it is no plain YAML; `source` is what the message calls it.
    """
    return _parse(text.encode("utf-8", "surrogateescape"), source, "a value in YAML")[0]


def _parse(data: bytes, source: str, expected: str) -> tuple[object, yaml.Node | None]:
    try:
        loader = _PlainLoader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node), node
    except UnicodeDecodeError as error:
        got = f"a byte at {error.start} that is not UTF-8"
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        got = f"{error.problem or error.context}{line}"
    except yaml.reader.ReaderError as error:
        got = f"the character {chr(error.character)!r} at {error.position}"
    except (ValueError, OverflowError, RecursionError) as error:  # a date of month 99, 5,000 digits, 2,000 brackets
        got = f"a value that cannot be read ({type(error).__name__})"
    raise ConfigError(source, got=got, expected=expected)


def _lines(node: yaml.Node | None, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Keys and their lines, as deep as settings of an environment stand."""
    if isinstance(node, yaml.MappingNode) and len(keys) < 4:
        for key, value in node.value:
            here = (*keys, str(key.value).replace("-", "_"))
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)
