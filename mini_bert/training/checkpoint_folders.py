"""Which checkpoints does a run have, which of them hold, and which may go?

A checkpoint has its name, `checkpoint-<step>`, only while it is whole. What is being written or removed is called
`.tmp-<step>-<owner>-<random>`; what is left of such a folder when its owner died is removed at the next start.
"""

# ruff: noqa: PTH104, PTH108  (the calls of `os` themselves: experiments let each of them fail)

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mini_bert.atomic_files import storage_errors, sync
from mini_bert.errors import CheckpointError, StorageError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import manifest
from mini_bert.training import ownership

FOLDER = "checkpoints"
STATE_NAME = "training_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class Newest(NamedTuple):
    """The newest checkpoint of a run that is what it was when it was written."""

    path: Path | None
    """None where no checkpoint holds."""
    rejected: tuple[str, ...]
    """Why each newer one was passed over."""


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, newest first, whether they hold or not."""
    if not (run / FOLDER).is_dir():
        return []
    found = [path for path in (run / FOLDER).iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name.

    Raises:
        CheckpointError: the name is not that of a checkpoint.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise CheckpointError(str(checkpoint), got=f"a folder named {checkpoint.name}", expected="checkpoint-<step>")
    return int(match[1])


def newest_verified(run: Path) -> Newest:
    """The newest checkpoint of a run whose every file has the size and sha256 of its manifest.

    A training may go on meanwhile: when what it had is gone, it is asked again what there is now.
    """
    while True:
        rejected, there = [], checkpoints(run)
        for path in there:
            try:
                manifest.verify(path)
            except CheckpointError as error:
                rejected.append(str(error))
            else:
                return Newest(path, tuple(rejected))
        if there == checkpoints(run):
            return Newest(None, tuple(rejected))


def remove_stale(run: Path) -> None:
    """Remove what writers that died left half done; call it while holding the run's lock.

    Folders go when the owner in their name is gone. Single files go always: only the lock's holder writes them.
    A whole checkpoint whose writer died before it had its name, while nothing else has that name, is given it.

    Raises:
        StorageError: the folder cannot be changed.
    """
    for path in [*run.glob(".tmp-*"), *(run / FOLDER).glob(".tmp-*")]:
        if path.is_symlink() or path.is_file():
            with suppress(FileNotFoundError):
                os.unlink(path)
            continue
        gone = ownership.token_is_gone(path.name) or ownership.this_process().token in path.name
        if gone and not _named_late(path):
            _delete(path)


def pointed_to(run: Path, pointer: str) -> Path | None:
    """The checkpoint that the file `latest` or `best` names, if it is there."""
    try:
        name = (run / pointer).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    path = run / FOLDER / name
    return path if _NAME.fullmatch(name) and path.is_dir() else None


def temporary(folder: Path, step: int) -> Path:
    """A name in `folder` for what is no checkpoint of that step yet, or no longer; never given twice."""
    return folder / f".tmp-{step}-{ownership.this_process().token}-{secrets.token_hex(4)}"


def give_name(staged: Path, final: Path) -> None:
    """Let a whole folder be the checkpoint `final`, read it back, and only then let go of what had that name.

    Raises:
        StorageError: it could not be named, or was read back otherwise; the name is with whom it was before.
    """
    before = temporary(final.parent, step_of(final))
    with storage_errors(final):
        if os.path.lexists(final):  # damaged, or of another course of this run
            os.rename(final, before)
    try:
        with storage_errors(final):
            os.rename(staged, final)
        sync(final.parent)
        try:
            verified(final)
        except CheckpointError as error:
            if isinstance(error.__cause__, OSError):
                with storage_errors(final):
                    raise error.__cause__ from None
            raise StorageError(
                str(final),
                got=f"other bytes than were written ({error})",
                expected="a disk that keeps what it is given",
                advice="Older checkpoints were kept. Check the disk.",
            ) from error
    except StorageError:
        with suppress(OSError):
            if not staged.exists():
                os.rename(final, staged)
            if os.path.lexists(before):
                os.rename(before, final)
        raise
    _delete(before)


def rotate(run: Path, keep: int) -> None:
    """Keep the newest `keep` checkpoints that hold, and the best; remove those that are older.

    Raises:
        StorageError: one could not be removed.
    """
    best, held = pointed_to(run, "best"), 0
    for path in checkpoints(run):
        if held >= keep:
            if path != best:
                retire(path)
            continue
        with suppress(CheckpointError):
            verified(path)
            held += 1


def saved_in_turn(checkpoint: Path) -> bool:
    """Whether `train.save_every` asked for it, rather than a signal, the end of a run, or a best loss."""
    try:
        return bool(parse_json(read_regular_file(checkpoint / STATE_NAME, LARGEST_JSON))["progress"]["in_turn"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def retire_newer(run: Path, step: int) -> None:
    """Remove the checkpoints after `step`, the newest first: those of a course that was left.

    Raises:
        StorageError: one could not be removed.
    """
    for path in checkpoints(run):
        if step_of(path) > step:
            retire(path)


def verified(checkpoint: Path) -> dict[str, Any]:
    """As `manifest.verify`, unless this process did so before and no file was touched since.

    Raises:
        CheckpointError: a file is missing, has another size or other bytes.
    """
    marks = _marks(checkpoint)
    known = _seen.get(checkpoint)
    if known is not None and known[0] == marks:
        return known[1]
    promised = manifest.verify(checkpoint)
    for path in [path for path in _seen if path.parent == checkpoint.parent and not path.exists()]:
        del _seen[path]
    _seen[checkpoint] = marks, promised
    return promised


_Marks: TypeAlias = "dict[str, tuple[int, ...]]"

_seen: dict[Path, tuple[_Marks, dict[str, Any]]] = {}
"""What this process has verified: a checkpoint's manifest, and the marks of its files before it was read."""


def _marks(folder: Path) -> _Marks:
    """What changes whenever a file is written, replaced or removed: inode, size and times of each."""
    try:
        with os.scandir(folder) as entries:
            stats = {entry.name: entry.stat() for entry in entries}
    except OSError:
        return {}
    return {name: (it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns) for name, it in stats.items()}


def retire(checkpoint: Path) -> None:
    """Remove a checkpoint so that a kill in the middle leaves nothing under its name."""
    retired = temporary(checkpoint.parent, step_of(checkpoint))
    with storage_errors(checkpoint):
        os.rename(checkpoint, retired)
    _delete(retired)


def _delete(path: Path) -> None:
    """Remove what has no name any more; what cannot be removed now is removed at the next start."""
    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            os.unlink(path)
        else:
            os.unlink(path / manifest.FILE_NAME)  # first: what is half removed shall not look whole
    shutil.rmtree(path, ignore_errors=True)


def _named_late(folder: Path) -> bool:
    """Whether a folder that its writer left behind was a whole checkpoint without a name, and has it now."""
    try:
        final = folder.parent / f"checkpoint-{manifest.verify(folder)['step']}"
        if os.path.lexists(final) or step_of(final) < 0:
            return False
    except (CheckpointError, KeyError):
        return False
    for path in [*folder.iterdir(), folder]:
        sync(path)
    with storage_errors(final):
        os.rename(folder, final)
    sync(final.parent)
    return True
