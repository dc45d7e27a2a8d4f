"""The texts that a verb works on: those given, or the lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from mini_bert.errors import InvalidInputError


def texts_or_lines(texts: Sequence[str]) -> Iterator[str]:
    """The texts; where there are none, or `-` stands for one, the lines of standard input that are not blank.

    Raises:
        InvalidInputError: a text is not UTF-8, or there is none at all.
    """
    found = False
    for text in texts or ("-",):
        for line in _lines() if text == "-" else (text,):
            found = True
            yield _whole(line)
    if not found:
        raise InvalidInputError("text", got="nothing on standard input", expected="a text, or one a line")


def _whole(text: str) -> str:
    """The text; Python lets bytes that are no UTF-8 through as lone surrogates, which no model has ever seen."""
    strange = next((letter for letter in text if "\ud800" <= letter <= "\udfff"), None)
    if strange is not None:
        raise InvalidInputError("text", got=f"byte 0x{ord(strange) & 0xFF:02x}", expected="text in UTF-8")
    return text


def _lines() -> Iterator[str]:
    if sys.stdin is None:  # it was closed
        return
    if sys.stdin.isatty():
        print("Reading texts from standard input, one a line; Ctrl-D ends.", file=sys.stderr)
    try:
        for line in sys.stdin:
            if text := line.strip():
                yield text
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            "standard input", got=f"byte 0x{error.object[error.start]:02x}", expected="text in UTF-8"
        ) from None
