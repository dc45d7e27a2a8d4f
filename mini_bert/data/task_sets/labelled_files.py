"""Files of labelled texts: a table with a header, or JSON lines.

    .tsv     fields between tabs; quotes are letters, as in GLUE's files
    .csv     fields between commas; quotes as in RFC 4180
    .jsonl   an object a line

each also with `.gz` behind. One column is the text (`sentence`, `text`, `sentence1`), one may be a second text
(`sentence2`, `text2`, `pair`), one is the label (`label`, `score`); further ones are passed over.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.data.readers import LONGEST_LINE, Lines
from mini_bert.errors import DataError, nearest
from mini_bert.foreign_files import parse_json

_TEXT = ("sentence", "text", "sentence1", "text1")
_PAIR = ("sentence2", "text2", "pair")
_LABEL = ("label", "score")
_SECRET = "Published test files write −1 where the label is kept secret: such a file cannot be scored here."
_MOST_CLASSES = 1000
_LARGEST_SCORE = 1e30
"""Squares of larger ones are no float32."""


class Row(NamedTuple):
    """A labelled text as it stands in a file."""

    place: str
    """File and line, for messages."""
    text: str
    pair: str | None
    label: str


def rows_of_file(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        DataError: it cannot be read, has no such columns, no row, or a row without text or label.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in _READERS:
        raise DataError(str(path), got=f"the suffix '{kind}'", expected=f"a file that ends in {', '.join(_READERS)}")
    rows: list[Row] = []
    try:
        for number, fields in _READERS[kind](path):
            rows.append(_row(path, number, fields))
    except csv.Error as error:
        raise DataError(str(path), got=str(error), expected="a CSV file") from error
    if not rows:
        raise DataError(str(path), got="no example", expected="a text and its label a line, below a header")
    if len({row.pair is None for row in rows}) > 1:
        raise DataError(str(path), got="pairs and single texts", expected="the same columns in every line")
    return rows


def class_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names of the classes that stand in the rows, in order; none where labels are scores.

    Labels are scores where one is a number with a fraction: then all have to be numbers. Whole numbers are in order of
    size, names of the alphabet.

    Raises:
        DataError: a label is missing or secret, all are the same, nearly each is another one, a score is no finite
            number, or a whole number is written in two ways.
    """
    numbers = [_number(row.label) for row in rows]
    fraction = any(number is not None and number % 1 for number in numbers)
    for row, number in zip(rows, numbers, strict=True):
        if not fraction:
            _demand(row)
        if number is None and (fraction or _is_number(row.label)):
            _score(row)  # says what is wrong with it
    if fraction:
        return ()
    counts = Counter(row.label for row in rows)
    if len(counts) < 2:
        raise DataError(rows[0].place.rpartition(":")[0], got=f"one label only, '{rows[0].label}'", expected="two")
    if len(counts) > min(_MOST_CLASSES, max(2, len(rows) // 2)):
        raise DataError(
            rows[0].place.rpartition(":")[0],
            got=f"{len(counts):,} different labels in {len(rows):,} lines, such as '{rows[0].label}'",
            expected="classes, or numbers with a decimal point",
        )
    if any(number is None for number in numbers):
        return tuple(sorted(counts))
    names = sorted(counts, key=float)
    for one, other in pairwise(names):
        if float(one) == float(other):
            place = next(row.place for row in rows if row.label == other)
            raise DataError(place, got=f"the label '{other}' beside '{one}'", expected="one name for each class")
    return tuple(names)


def labels_of(rows: Sequence[Row], classes: tuple[str, ...]) -> list[float]:
    """The class number, or the score, of each row. A class is called by its name.

    Where no name is a number, it may also be called by its number from 0.

    Raises:
        DataError: a label is missing, secret, or none of the classes; names the line.
    """
    if not classes:
        scores = [_score(row) for row in rows]
        if all(score == -1 for score in scores):
            raise DataError(rows[0].place, got=f"the score '{rows[0].label}'", expected="a score", advice=_SECRET)
        return scores
    known = {name: number for number, name in enumerate(classes)}
    numbered = not any(_number(name) is not None for name in classes)
    if numbered:
        known |= {str(number): number for number in range(len(classes))}
    labels: list[float] = []
    for row in rows:
        if row.label not in known:
            _demand(row)
            raise DataError(
                row.place,
                got=f"the label '{row.label}'",
                expected=f"one of {', '.join(classes)}" + (", or its number from 0" if numbered else ""),
                advice=nearest(row.label, classes),
            )
        labels.append(known[row.label])
    return labels


def _demand(row: Row) -> None:
    """Refuse what says that there is no label."""
    if row.label.lower() in ("", "nan", "none", "null", "-1", "-1.0", "-100"):
        raise DataError(row.place, got=f"the label '{row.label}'", expected="a label", advice=_SECRET)


def _score(row: Row) -> float:
    number = _number(row.label)
    if number is None or abs(number) > _LARGEST_SCORE:
        raise DataError(row.place, got=f"the score '{row.label}'", expected="a number, as all labels", advice=_SECRET)
    return number


def _is_number(label: str) -> bool:
    """Whether it is read as one, be it infinite."""
    try:
        float(label)
    except ValueError:
        return False
    return True


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _row(path: Path, number: int, fields: dict[str, Any]) -> Row:
    place = f"{path}:{number}"
    text, pair, label = (next((name for name in names if name in fields), None) for names in (_TEXT, _PAIR, _LABEL))
    if text is None or label is None:
        raise DataError(
            place,
            got=f"the columns {', '.join(map(str, fields)) or 'none'}",
            expected=f"a text ({', '.join(_TEXT)}) and a label ({', '.join(_LABEL)})",
            advice="Where the first line is no header, add one, as: sentence<tab>label.",
        )
    if pair is None and text.endswith("1"):
        raise DataError(place, got=f"{text} alone", expected=f"a second text beside it: {', '.join(_PAIR)}")
    texts = [fields[name] for name in (text, pair) if name is not None]
    for name, value in zip((text, pair), texts, strict=False):
        if not isinstance(value, str) or not value.strip():
            raise DataError(place, got=f"nothing in {name}", expected="a text")
    return Row(place, texts[0].strip(), texts[1].strip() if pair else None, _label(fields[label]))


def _label(value: Any) -> str:
    """A label as a table would write it: JSON's true is 1."""
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else str(value).strip()


def _tab_separated(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return _below_header(path, ((number, line.split("\t")) for number, line in _lines(path)))


def _comma_separated(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader((f"{line}\n" for _, line in _lines(path, blank=True)), strict=True)
    return _below_header(path, ((reader.line_num, fields) for fields in reader if fields))


def _below_header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    _, header = next(lines, (0, []))
    names = [name.strip().lower() for name in header]
    if len(set(names)) < len(names):
        raise DataError(f"{path}:1", got=f"the columns {', '.join(names)}", expected="each name once")
    for number, fields in lines:
        if len(fields) != len(names):
            raise DataError(f"{path}:{number}", got=f"{len(fields)} fields", expected=f"{len(names)}, as in the header")
        yield number, dict(zip(names, fields, strict=True))


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path, longest=-1):
        try:
            value = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}", got=str(error), expected="a JSON object") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}", got=type(value).__name__, expected="a JSON object")
        yield number, value


def _lines(path: Path, *, blank: bool = False, longest: int = LONGEST_LINE) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(Lines(path, longest), start=1):
        if blank or line.strip():
            yield number, line


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]] = {
    ".tsv": _tab_separated,
    ".csv": _comma_separated,
    ".jsonl": _json_lines,
}
