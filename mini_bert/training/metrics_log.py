"""`metrics.jsonl`, the truth about a run: one JSON object a line, one `os.write` a line.

A process that is killed while it writes can leave one torn line, the last. The reader drops it with a warning, and the
next writer cuts it off. A resumed run first removes the records after the step that it restored, so that no step stands
there twice; a log that is damaged elsewhere is kept beside the new one, and does not hold up the run.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import stat
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from mini_bert.atomic_files import replace_file, storage_errors, write_all
from mini_bert.errors import DataError
from mini_bert.foreign_files import read_regular_file

FILE_NAME = "metrics.jsonl"

Record = dict[str, Any]


class MetricsLog:
    """Appends records to a file, which is made if it is not there; `with MetricsLog(path) as log: log.write({...})`.

    Raises:
        StorageError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn = True
        """Whether the file may end within a line."""
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # a pipe takes records until it is full
                    raise OSError(errno.EINVAL, "a pipe or a device", str(path))
                self._cut_torn_line()
            except BaseException:
                os.close(self._descriptor)
                raise

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; numbers that are not finite become null, which is what JSON has for them.

        Raises:
            StorageError: it could not be written; the log is as it was, or is made so before the next record.
        """
        line = json.dumps(_plain(record), allow_nan=False).encode() + b"\n"
        with storage_errors(self._path):
            if self._torn:
                self._cut_torn_line()
            self._torn = True
            try:
                write_all(self._descriptor, line)
                self._torn = False
            except OSError:
                with suppress(OSError):
                    self._cut_torn_line()
                raise

    def sync(self) -> None:
        """Flush what was written to the disk."""
        with storage_errors(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cut_torn_line(self) -> None:
        """Shorten the file to the end of its last whole line."""
        end = os.fstat(self._descriptor).st_size
        position = end
        while position > 0:
            start = max(0, position - 4096)
            newline = os.pread(self._descriptor, position - start, start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != end:
            os.ftruncate(self._descriptor, position)
        self._torn = False


class Found(NamedTuple):
    """What can be read of a log."""

    records: list[Record]
    """Oldest first."""
    lines: list[bytes]
    """Those of the records, without their ends."""
    damaged: list[int]
    """Numbers, from 1, of whole lines that are no records."""
    torn: bool
    """Whether the last line has no end: its writer was killed, or is writing it now."""
    content: bytes
    """All that the file holds."""


def search_metrics(path: Path) -> Found:
    """All records that a log holds, whatever else is in it.

    Raises:
        DataError: the log is not there, or cannot be read.
    """
    try:
        content = read_regular_file(path)
    except OSError as error:
        raise DataError(str(path), got=error.strerror, expected="a run's metrics.jsonl") from error
    *lines, rest = content.split(b"\n")
    found = Found([], [], [], bool(rest), content)
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is None:
            found.damaged.append(number)
        else:
            found.records.append(record)
            found.lines.append(line)
    return found


def read_metrics(path: Path) -> list[Record]:
    """All records of a log, oldest first; a torn last line is dropped with a warning.

    Raises:
        DataError: no such file, or a line other than the last is not a record: a JSON object whose step is a number.
    """
    found = search_metrics(path)
    if found.damaged:
        number = found.damaged[0]
        line = found.content.split(b"\n")[number - 1]
        raise DataError(f"{path}, line {number}", got=repr(line[:80]), expected="a JSON object")
    if found.torn:
        warnings.warn(f"{path}: the last line was torn when its writer died; it is left out", stacklevel=2)
    return found.records


def keep_until(path: Path, step: int, warn: Callable[[str], None] = warnings.warn) -> list[Record]:
    """Remove from the log what happened after `step`, atomically; returns the records that are left.

    Whole lines that are no records (a flipped bit, a power cut) are left out too; the log as it was is then kept as
    `metrics.damaged-<n>.jsonl`.

    Args:
        path: the log.
        step: the step that was restored; -1 removes everything.
        warn: told in a sentence of lines that are no records.

    Raises:
        DataError: the log cannot be read.
        StorageError: the shortened log cannot be written; the log is as it was.
    """
    if not path.exists():
        return []
    found = search_metrics(path)
    if found.damaged and step >= 0:
        names = (path.with_name(f"metrics.damaged-{number}.jsonl") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        replace_file(aside, found.content)
        warn(
            f"{path}: {len(found.damaged)} damaged lines, the first is line {found.damaged[0]}. They are left out; "
            f"the log as it was is {aside}."
        )
    kept = [(line, record) for line, record in zip(found.lines, found.records, strict=True) if _at(record) <= step]
    shortened = b"".join(line + b"\n" for line, _ in kept)
    if shortened != found.content:
        replace_file(path, shortened)
    return [record for _, record in kept]


def _at(record: Record) -> int:
    return int(record.get("step", 0))


def _record(line: bytes) -> Record | None:
    """The record in a line; None where there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step", 0)) is not int:
        return None
    return record


def _plain(value: Any) -> Any:
    """What JSON has a form for, at any depth; what is not finite becomes null, and anything else text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and hasattr(value, "dtype") and not getattr(value, "shape", ()):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
