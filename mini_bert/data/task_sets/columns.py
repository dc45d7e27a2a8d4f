"""Lines of fields: the published tables of pairs and scores, whose quotes are letters like all others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from mini_bert.data.readers import Lines
from mini_bert.data.sources import fetch
from mini_bert.errors import DataError

_LARGEST = 1e100


def rows_of(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not blank; fields behind the first `columns` are left out.

    Raises:
        DataError: the file cannot be read, is not UTF-8, a line has fewer fields, or there is no line at all.
    """
    found = False
    for number, line in enumerate(Lines(path), start=1):
        if not line.strip():
            continue
        found = True
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < columns:
            raise DataError(
                f"{path}:{number}", got=f"{len(fields)} fields", expected=f"{columns}, with a tab between them"
            )
        yield number, fields[:columns]
    if not found:
        raise DataError(str(path), got="no line", expected=f"lines of {columns} fields")


def number_of(text: str, place: str) -> float:
    """A score.

    Raises:
        DataError: it is no number, or out of all bounds; names the place.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < _LARGEST:
        raise DataError(place, got=f"'{text}'", expected="a number", advice="Such a file has no line of headings.")
    return value


def fetched(name: str, *files: str) -> list[Path]:
    """Some files of a registered set, by the names that the registry gives them.

    Raises:
        DataError: the set or a file of it is not there and cannot be fetched.
        ChecksumError: a file holds other bytes than it should.
    """
    paths = {path.name: path for path in fetch(name)}
    return [paths[file] for file in files]
