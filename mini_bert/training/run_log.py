"""What happened in a run, beside its numbers? `run.log`: one JSON object a line, `{"time": …, "level": …, "event": …}`.

The log is a courtesy: a line that cannot be written is lost, and training goes on. A process that is killed while it
writes leaves at most one torn line, which the next writer cuts off.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from mini_bert.errors import StorageError
from mini_bert.foreign_files import parse_json, read_regular_file
from mini_bert.training.metrics_log import MetricsLog, Record

FILE_NAME = "run.log"


class RunLog:
    """Appends events to a file, which is made if it is not there; `with RunLog(path) as log: log.info("saved")`.

    Fields of an event are any values: what JSON has no form for is written as text.
    """

    def __init__(self, path: Path) -> None:
        self._file: MetricsLog | None = None
        with suppress(StorageError):
            self._file = MetricsLog(path)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something happened as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something is not as it should be, and training goes on."""
        self._write("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something ended the run."""
        self._write("error", event, fields)

    def close(self) -> None:
        """Close the file; what comes after goes nowhere."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if self._file is None:
            return
        head = {"time": utc_now(), "level": level, "event": event}
        with suppress(StorageError, RecursionError):  # a full disk; a value that contains itself
            self._file.write(head | fields | head)


def read_run_log(path: Path) -> list[Record]:
    """The events of a log, oldest first; none where there is no log. Lines that cannot be read are left out."""
    try:
        lines = read_regular_file(path).split(b"\n")[:-1]
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = parse_json(line)
        except ValueError:
            continue
        if isinstance(event, dict) and all(isinstance(event.get(name), str) for name in ("time", "level", "event")):
            events.append(event)
    return events


def utc_now() -> str:
    """The time in UTC, as ISO 8601 writes it, to the millisecond: `2025-11-21T12:33:01.250+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
