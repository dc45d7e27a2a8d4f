"""Which runs are there, how far is each, how good, and what in its folder is needed no more?

A run is a folder with a log, a checkpoint or a manifest of ours; whatever else lies beside it is passed over. Nothing
here fails because a run is broken, half-written, or was made by an older version: what cannot be told is None.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mini_bert.config.plain_yaml import read_document
from mini_bert.errors import CheckpointError, ConfigError, DataError, InvalidInputError, RunInUseError, nearest
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import manifest as folder_manifest
from mini_bert.training import ownership, run_log, run_manifest
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to, remove_stale, retire, saved_in_turn, step_of
from mini_bert.training.metrics_log import FILE_NAME as METRICS_NAME
from mini_bert.training.metrics_log import Record, search_metrics

FINISHED = ("finished", "early stop")
"""How a manifest calls an end that was meant."""
FAILED = "failed: "
"""How it begins to say that an error ended the run."""


class RunSummary(NamedTuple):
    """A run in a few numbers."""

    name: str
    path: Path
    state: Literal["running", "finished", "stopped", "failed"]
    """A stopped run can go on; an error ended a failed one."""
    owner: str | None
    """`pid@host` of the process that trains in it."""
    step: int | None
    """Steps done, as far as its log or its checkpoints know."""
    steps: int | None
    """Steps in all."""
    loss: float | None
    """Held-out, of the last evaluation, nats."""
    best_loss: float | None
    """Held-out, the lowest after step 0, nats."""
    best_step: int | None
    checkpoints: int
    bytes: int
    """Of all its files."""
    changed: float | None
    """When a file last changed, seconds since 1970."""


class Contents(NamedTuple):
    """What can be read in a run's folder."""

    path: Path
    records: list[Record]
    damaged: list[int]
    """Lines of metrics.jsonl that are no records."""
    manifest: dict[str, Any] | None
    problem: str
    """Why there is no manifest; empty where none was written."""
    config: dict[str, Any]
    """As the run resolved it; empty where that is lost."""
    events: list[Record]
    """Of run.log."""

    def of(self, kind: str) -> list[Record]:
        """The records of a kind, oldest first."""
        return [record for record in self.records if record.get("kind") == kind]

    @property
    def end(self) -> dict[str, Any] | None:
        """How the newest start ended; None if nobody said."""
        starts = self.manifest["starts"] if self.manifest else []
        return starts[-1].get("end") if starts else None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    try:
        if (folder / METRICS_NAME).is_file() or (folder / ownership.LOCK_NAME).is_file():
            return True
        return bool(checkpoints(folder)) or run_manifest.read(folder) is not None
    except (OSError, DataError):
        return False


def find_runs(directory: Path) -> list[Path]:
    """The folders of all runs in a directory, by name.

    Raises:
        DataError: it is no directory that can be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and is_run(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(str(directory), got=error.strerror, expected="a folder of runs") from error


def find_run(name: str, directory: Path) -> Path:
    """The folder of a run that is named, or whose path is given.

    Raises:
        DataError: there is none; near names are suggested.
    """
    for folder in (directory / name, Path(name)):
        with suppress(OSError, ValueError):
            if name and folder.is_dir() and is_run(folder):
                return folder
    known = [path.name for path in find_runs(directory)]
    raise DataError(
        "NAME",
        got=repr(name),
        expected=f"a run in {directory}",
        advice=nearest(name, known) if known else f"There is none in {directory}; --directory names another place.",
    )


def holder(run: Path) -> ownership.Owner | None:
    """The other process that trains in a run's folder; None where there is none, or it is gone.

    Of other hosts nothing is known: a lock of theirs counts. The lock is only read, so nobody's start is in the way.
    """
    try:
        record = parse_json(read_regular_file(run / ownership.LOCK_NAME, LARGEST_JSON))
        owner = ownership.Owner(str(record["host"]), int(record["pid"]), int(record["started"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return None if owner.is_gone() or owner == ownership.this_process() else owner


def read_contents(run: Path) -> Contents:
    """All that a run says of itself."""
    records: list[Record] = []
    damaged: list[int] = []
    with suppress(DataError):
        records, _, damaged, _, _ = search_metrics(run / METRICS_NAME)
        records = [record for record in records if "step" in record]
    manifest, problem = None, ""
    try:
        manifest = run_manifest.read(run)
    except DataError as error:
        problem = str(error)
    config: Any = manifest["config"] if manifest else {}
    if not config and (run / "config.yaml").is_file():
        with suppress(ConfigError):
            config = read_document(run / "config.yaml").values
    config = {name: values for name, values in config.items() if isinstance(values, Mapping)}
    return Contents(run, records, damaged, manifest, problem, config, run_log.read_run_log(run / run_log.FILE_NAME))


def summaries(directory: Path) -> list[RunSummary]:
    """Every run in a directory, the one that changed last first.

    Raises:
        DataError: it is no directory that can be read.
    """
    found = [summary(read_contents(run)) for run in find_runs(directory)]
    return sorted(found, key=lambda run: run.changed or 0.0, reverse=True)


def summary(contents: Contents) -> RunSummary:
    """A run in a few numbers."""
    run, owner = contents.path, holder(contents.path)
    saved = [step_of(path) for path in _checkpoints(run)]
    reached = [record["step"] for record in contents.records[-1:]]
    step = max([*reached, *saved[:1]], default=None)
    steps = next((start.get("steps") for start in reversed(contents.of("start"))), None)
    steps = steps if type(steps) is int else contents.config.get("train", {}).get("steps")
    scored = [record for record in contents.of("evaluation") if type(record.get("loss")) is float]
    best = min((record for record in scored if record["step"] > 0), key=lambda record: record["loss"], default=None)
    size, changed = _extent(run)
    return RunSummary(
        run.name or run.resolve().name,
        run,
        _state(contents, owner is not None, step, steps, saved),
        f"{owner.pid}@{owner.host}" if owner else None,
        step,
        steps if type(steps) is int else None,
        scored[-1]["loss"] if scored else None,
        best["loss"] if best else None,
        best["step"] if best else None,
        len(saved),
        size,
        changed,
    )


class Prunable(NamedTuple):
    """What a run does not need."""

    checkpoints: list[Path]
    """Newest first."""
    leavings: list[Path]
    """What writers that died left half done."""
    bytes: int
    """Of both."""


def prunable(run: Path, keep: int = 1, keep_every: int | None = None) -> Prunable:
    """The checkpoints that a run does not need, and what killed writers left behind.

    What is needed: the `keep` newest that hold and whatever is newer than they are, those whose step is a multiple of
    `keep_every`, the best, and, unless the run is finished, the newest that holds of those that `train.save_every`
    asked for, to which it would go back from a loss spike. Where no checkpoint holds, none is to be removed.

    Raises:
        InvalidInputError: `keep` or `keep_every` is below 1.
        RunInUseError: the run is being trained.
    """
    for name, value in (("--keep", keep), ("--keep-every", 1 if keep_every is None else keep_every)):
        if value < 1:
            raise InvalidInputError(name, got=value, expected="at least 1")
    if (owner := holder(run)) is not None:
        raise RunInUseError(
            str(run),
            got=f"a run that process {owner.pid} on host {owner.host} is training",
            expected="a run that nobody trains",
            advice="While it trains, it keeps --train.keep-checkpoints of them by itself.",
        )
    found = _checkpoints(run)
    newest = list(islice(filter(holds, found), keep))
    needless: list[Path] = []
    if newest:
        contents, best = read_contents(run), pointed_to(run, "best")
        needed = {path for path in [*newest, best] if path is not None}
        needed |= {path for path in found if step_of(path) > step_of(newest[0])}
        if keep_every is not None:
            needed |= {path for path in found if step_of(path) % keep_every == 0}
        if summary(contents).state != "finished":
            needed |= set(islice(filter(holds, filter(saved_in_turn, found)), 1))
        needless = [path for path in found if path not in needed]
    staged = [*run.glob(".tmp-*"), *(run / "checkpoints").glob(".tmp-*")]
    leavings = [path for path in staged if path.is_file() or ownership.token_is_gone(path.name)]
    return Prunable(needless, leavings, sum(size_of(path) for path in [*needless, *leavings]))


def prune(run: Path, keep: int = 1, keep_every: int | None = None) -> Prunable:
    """Remove what `prunable` finds, while holding the run's lock; returns it.

    A kill in the middle leaves every other checkpoint as it was, and no half one under its name.

    Raises:
        InvalidInputError: `keep` or `keep_every` is below 1.
        RunInUseError: the run is being trained.
        StorageError: something cannot be removed.
    """
    with ownership.RunLock(run):
        leavings = prunable(run, keep, keep_every).leavings
        freed = sum(map(size_of, leavings))
        remove_stale(run)
        needless = prunable(run, keep, keep_every).checkpoints
        freed += sum(size_of(path) for path in needless)
        for path in needless:
            retire(path)
    return Prunable(needless, leavings, freed)


def holds(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint has the size and sha256 of its manifest."""
    try:
        folder_manifest.verify(checkpoint)
    except CheckpointError:
        return False
    return True


def _checkpoints(run: Path) -> list[Path]:
    try:
        return checkpoints(run)
    except OSError:
        return []


def _state(
    contents: Contents, running: bool, step: int | None, steps: int | None, saved: list[int]
) -> Literal["running", "finished", "stopped", "failed"]:
    if running:
        return "running"
    if contents.end is not None:
        ended = str(contents.end.get("ended"))
        return "finished" if ended in FINISHED else "failed" if ended.startswith(FAILED) else "stopped"
    if contents.events and contents.events[-1]["level"] == "error":
        return "failed"
    return "finished" if steps is not None and step == steps and steps in saved else "stopped"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return _extent(path)[0]


def _extent(path: Path) -> tuple[int, float | None]:
    """Bytes of a file, or of all files in a folder, and when one of them last changed; links are not followed."""
    total, changed = 0, None
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in files if path.is_dir() else [path]:
        with suppress(OSError):
            status = file.lstat()
            total += status.st_size
            changed = max(changed or 0.0, status.st_mtime)
    return total, changed
