"""The texts that a verb works on: those given, the lines of standard input, or of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mini_bert.errors import DataError, InvalidInputError

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT


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


def lines_of_file(path: Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        DataError: it cannot be read, is not UTF-8, or has no such line.
    """
    from mini_bert.data.readers import Lines

    lines = [text for line in Lines(path) if (text := line.strip())]
    if not lines:
        raise DataError(str(path), got="no line of text", expected="a text a line")
    return lines


def tell_what_is_cut(bert: MiniBERT, texts: Sequence[tuple[str, ...]]) -> None:
    """Say on standard error how many texts, or pairs, are longer than what the model reads of them."""
    from mini_bert.inference.tokenizer_of import tokenizer_of

    encode, read = tokenizer_of(bert).encode_ids, bert.config.max_position_embeddings
    long = sum(sum(len(encode(one)) + 1 for one in each) + 1 > read for each in texts)
    if long:
        what = "1 text is" if long == 1 else f"{long:,} texts are"
        print(f"{what} longer than the model's {read} positions; what is behind them is not read.", file=sys.stderr)


def _whole(text: str) -> str:
    """The text; Python lets bytes that are no UTF-8 through as lone surrogates, which no model has ever seen."""
    if not text.strip() or "\0" in text:
        raise InvalidInputError("text", got="a NUL byte" if text.strip() else "nothing", expected="a text")
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
