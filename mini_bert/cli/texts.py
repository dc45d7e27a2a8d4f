"""The texts that a verb works on: those given, or the lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from mini_bert.errors import InvalidInputError


def texts_or_lines(texts: Sequence[str]) -> Iterator[str]:
    """The texts; where there are none, or `-` stands for one, the lines of standard input that are not blank.

    Raises:
        InvalidInputError: standard input is not UTF-8, or there is no text at all.
    """
    found = False
    for text in texts or ("-",):
        for line in _lines() if text == "-" else (text,):
            found = True
            yield line
    if not found:
        raise InvalidInputError("text", got="nothing on standard input", expected="a text, or one a line")


def _lines() -> Iterator[str]:
    if sys.stdin is None or sys.stdin.isatty():
        print("Reading texts from standard input, one a line; Ctrl-D ends.", file=sys.stderr)
    try:
        for line in sys.stdin:
            if text := line.strip():
                yield text
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            "standard input", got=f"byte 0x{error.object[error.start]:02x}", expected="text in UTF-8"
        ) from None
