"""Reading what somebody else may have written: regular files only, of bounded length, and JSON that says one thing."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

LARGEST_JSON = 16 * 2**20
"""Bytes; the largest that is in use, a tokenizer.json of half a million pieces, has 10 MB."""

_MOST_VALUES = 2**20
"""In a JSON text; a small one can become forty times its size: `[],[],[],…`."""


def read_regular_file(path: Path, most_bytes: int | None = None) -> bytes:
    """The bytes of a file, or of the file that a link leads to, as in the Hugging Face Hub's cache.

    A pipe would wait for ever, a device has no end, and opening one can have effects: they are never opened.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `most_bytes`.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        wrong = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(wrong, "a folder" if wrong == errno.EISDIR else "a pipe or a device, no file", str(path))
    with open(path, "rb", opener=_without_waiting) as file:
        if most_bytes is None:
            return file.read()
        content = file.read(min(most_bytes, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes:,} bytes", str(path))
    return content


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text, its bytes being UTF-8.

    Raises:
        ValueError: it is no JSON, gives a name twice, is nested without end, has more than a million values, a number
            of thousands of digits, or half a character.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    if text.count(",") + text.count("[") + text.count("{") > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES:,} values")
    try:
        value = json.loads(text, object_pairs_hook=_once_each)
    except RecursionError:
        raise ValueError("brackets nested without end") from None
    if "\\ud" in text.lower():  # what JSON calls by two numbers, and nobody can write with one of them
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character, {error.object[error.start]!a}") from None
    return value


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice!r:.60} twice")
    return mapping
