"""Read a YAML file as plain values: nothing is built, nothing expands, nothing is silently lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from mini_bert.config.wording import shown
from mini_bert.errors import ConfigError

_MOST_BYTES = 65_536
"""A configuration is a page of text; a longer file is something else."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without tags (which build objects), aliases (a few expand to billions) and keys given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, "an alias, which is refused (`extends:` shares settings)", mark)
        return super().compose_node(parent, index)

    def construct_undefined(self, node: yaml.Node) -> None:
        raise ConstructorError(None, None, f"the tag {shown(node.tag)}, which is refused", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value).replace("-", "_")
            if name in seen:
                raise ConstructorError(None, None, f"the key {shown(key.value)} twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_PlainLoader.add_constructor(None, _PlainLoader.construct_undefined)


def read_mapping(path: Path) -> dict[Any, Any]:
    """The mapping that a file holds.

    Raises:
        ConfigError: the file cannot be read, is empty, longer than 64 KiB, not UTF-8, not YAML, no mapping, or uses
            tags, aliases or a key twice; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), got=error.strerror or "an unreadable file", expected="a readable file") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(
            str(path), got=f"more than {_MOST_BYTES:,} bytes", expected="a configuration of a page or two"
        )
    values = _parse(data, path)
    if not isinstance(values, dict):
        raise _refused(path, shown(values) if data.strip() else "an empty file")
    return values


def _parse(data: bytes, path: Path) -> object:
    try:
        return yaml.load(data.decode("utf-8-sig"), _PlainLoader)
    except UnicodeDecodeError as error:
        raise _refused(path, f"a byte at {error.start} that is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _refused(path, f"{error.problem or error.context}{line}") from None
    except yaml.reader.ReaderError as error:
        raise _refused(path, f"the character {chr(error.character)!r} at {error.position}") from None
    except (ValueError, OverflowError, RecursionError) as error:  # a date of month 99, 5,000 digits, 2,000 brackets
        raise _refused(path, f"a value that cannot be read ({type(error).__name__})") from None


def _refused(path: Path, got: str) -> ConfigError:
    return ConfigError(str(path), got=got, expected="a YAML mapping of sections, in UTF-8")
