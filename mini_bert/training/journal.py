"""Who is told what happens in a run? `metrics.jsonl` (the truth), `run.log`, trackers, and whoever asked for reports.

In a job of several ranks the first one writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mini_bert.atomic_files import replace_file, storage_errors
from mini_bert.config.schema import Config
from mini_bert.errors import MiniBertError, StorageError
from mini_bert.training.metrics_log import MetricsLog, Record, keep_until
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import Report
from mini_bert.training.run_log import RunLog
from mini_bert.training.trackers import Tracker, open_trackers


class Journal:
    """What a run says of itself; a context manager. All ranks keep one, and the first writes it down.

    Fields: `report`, who is told; `losses`, step and loss of each record of training steps; `newest`, the last record
    of each kind.
    """

    def __init__(self, run: Path, config: Config, report: Report, ranks: Ranks) -> None:
        self.report = report
        self.losses: list[tuple[int, float]] = []
        self.newest: dict[str, Record] = {}
        self._run, self._config, self._ranks = run, config, ranks
        self._open = ExitStack()
        self._metrics: MetricsLog | None = None
        self._trackers: list[Tracker] = []
        self._held: list[Record] = []
        """Records that a full disk did not take."""

    def __enter__(self) -> Journal:
        if self._ranks.first:
            self._log = self._open.enter_context(RunLog(self._run / "run.log"))
            try:
                self._trackers = open_trackers(self._config.run.trackers, self._run, self._config)
            except MiniBertError:
                raise
            except Exception as error:  # whatever a foreign package raises
                self.warn(f"The trackers could not be opened: {type(error).__name__}: {error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._ranks.first:
            self._log.error("ended by an error", kind=type(error).__name__, message=str(error))
        for tracker in self._trackers:
            self._tell(tracker, tracker.close)
        self._close_metrics()
        self._open.close()

    def go_on_from(self, step: int, origin: Path | None = None) -> None:
        """Forget what was recorded after `step` (-1: everything); with `origin`, begin with that run's records."""
        self.losses, self.newest = [], {}
        for record in self._ranks.on_first(lambda: self._shorten(step, origin)):
            self._remember(record)

    def record(self, kind: str, step: int, values: Mapping[str, Any]) -> Record:
        """Write one record; it is returned, with NaN where the log has null."""
        record: Record = {"kind": kind, "step": step, **{key: plain(value) for key, value in values.items()}}
        if self._ranks.first:
            self._write(record)
        self._remember(record)
        return record

    def warn(self, message: str) -> None:
        """Something is not as it should be, and training goes on."""
        if self._ranks.first:
            self._log.warning("warning", message=message)
        self.tell("warned", message)

    def tell(self, event: str, *what: Any) -> None:
        """Report something (a method of `Report`); where nobody can be told any more, the run goes on in silence."""
        try:
            getattr(self.report, event)(*what)
        except OSError as error:  # a terminal that was closed, a pipe that nobody reads
            self.report = Report()
            if self._ranks.first:
                self._log.warning("reports are dropped", message=f"{type(error).__name__}: {error}")

    def note(self, event: str, **fields: Any) -> None:
        """A line of run.log alone."""
        if self._ranks.first:
            self._log.info(event, **fields)

    def sync(self) -> None:
        """Flush the records to the disk."""
        if self._metrics is not None:
            self._metrics.sync()

    def _shorten(self, step: int, origin: Path | None) -> list[Record]:
        self._close_metrics()
        path = self._run / "metrics.jsonl"
        if origin is not None and (origin / path.name).exists():
            with storage_errors(path):
                replace_file(path, (origin / path.name).read_bytes())
        records = keep_until(path, step, self.warn)
        self._metrics = MetricsLog(path)
        return records

    def _write(self, record: Record) -> None:
        assert self._metrics is not None
        try:
            for held in [*self._held, record]:
                self._metrics.write(held)
                self._held = self._held[1:]
        except StorageError as error:
            if self._config.train.on_save_error == "stop":
                raise
            if not self._held:
                self.warn(f"{error} Records are held until they can be written.")
            self._held.append(record)
        for tracker in list(self._trackers):
            self._tell(tracker, lambda tracker=tracker: tracker.log(record))  # type: ignore[misc]

    def _tell(self, tracker: Tracker, function: Callable[[], None]) -> None:
        """A tracker that fails is dropped: it is for looking at, and training is not."""
        try:
            function()
        except Exception as error:  # whatever a foreign package raises
            self._trackers = [other for other in self._trackers if other is not tracker]
            self.warn(f"The tracker {type(tracker).__name__} failed and is dropped: {type(error).__name__}: {error}")

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def _remember(self, record: Record) -> None:
        self.newest[record["kind"]] = record
        loss = record.get("loss")
        if record["kind"] == "train" and loss is not None and math.isfinite(loss):
            self.losses.append((record["step"], loss))


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
