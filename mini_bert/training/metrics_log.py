"""`metrics.jsonl`, the truth about a run: one JSON object a line, one `os.write` a line.

A process that is killed while it writes can leave one torn line, the last. The reader drops it with a warning, and the
next writer cuts it off. A resumed run first removes the records after the step that it restored, so that no step stands
there twice.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mini_bert.atomic_files import replace_file, storage_errors, write_all
from mini_bert.errors import DataError

Record = dict[str, Any]


class MetricsLog:
    """Appends records to a file, which is made if it is not there; `with MetricsLog(path) as log: log.write({...})`.

    Raises:
        StorageError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            _cut_torn_line(self._descriptor)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; numbers that are not finite become null, which is what JSON has for them."""
        line = json.dumps({key: _finite(value) for key, value in record.items()}, allow_nan=False)
        with storage_errors(self._path):
            try:
                write_all(self._descriptor, line.encode() + b"\n")
            except OSError:
                with suppress(OSError):
                    _cut_torn_line(self._descriptor)
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


def read_metrics(path: Path) -> list[Record]:
    """All records of a log, oldest first; a torn last line is dropped with a warning.

    Raises:
        DataError: no such file, or a line other than the last is not a JSON object.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), got=error.strerror, expected="a run's metrics.jsonl") from error
    *lines, rest = content.split(b"\n")
    if rest:
        warnings.warn(f"{path}: the last line was torn when its writer died; it is left out", stacklevel=2)
    return [_record(line, number, path) for number, line in enumerate(lines, 1)]


def keep_until(path: Path, step: int) -> list[Record]:
    """Remove from the log what happened after `step`, atomically; returns the records that are left.

    Raises:
        DataError: the log is damaged other than by a torn last line.
        StorageError: the shortened log cannot be written; the log is as it was.
    """
    if not path.exists():
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        records = read_metrics(path)
    kept = [record for record in records if record.get("step", 0) <= step]
    replace_file(path, b"".join(json.dumps(record).encode() + b"\n" for record in kept))
    return kept


def _record(line: bytes, number: int, path: Path) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}", got=repr(line[:80]), expected="a JSON object")
    return record


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cut_torn_line(descriptor: int) -> None:
    """Shorten the file to the end of its last whole line."""
    end = os.fstat(descriptor).st_size
    position = end
    while position > 0:
        start = max(0, position - 4096)
        newline = os.pread(descriptor, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != end:
        os.ftruncate(descriptor, position)
