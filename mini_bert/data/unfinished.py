"""Long work on a derived file: by one process at a time, and gone on with where the last one was stopped.

What is to become `tokens/KEY` is made in the folder `tokens/.unfinished-KEY`. The operating system holds its lock for
as long as the process lives: what a dead process left can be taken at once, what a living one has cannot, and a second
process waits for the first and takes its result. Files there are only appended to; a checkpoint says how much of each
counts, with its sha256, and what is behind that, or does not hold, is made again.

Where the file system knows no locks, each process has a folder of its own, which nobody goes on with.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mini_bert import file_locks
from mini_bert.atomic_files import replace_file, sync
from mini_bert.data.cache import cache_key, not_written
from mini_bert.errors import StorageError

BLOCK = 1 << 20
"""Bytes that share a CRC."""

_PREFIX = ".unfinished-"
_SECONDS_UNTIL_FORGOTTEN = 7 * 24 * 3600.0
_SECONDS_BETWEEN_LOOKS = 0.1
_GOES_ON = "Free some space and start again, which goes on from what is done; or set MINI_BERT_CACHE to another folder."


def workplace_of(target: Path) -> Path:
    """The folder in which `target` is made."""
    return target.with_name(_PREFIX + target.name)


@contextmanager
def claimed(target: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Path | None]:
    """The folder to make `target` in, with what dead processes left there, for this process alone.

    None where `target` is there by now: another process made it, and `waiting` was called now and then meanwhile. The
    folder is removed at the end if `target` is there; otherwise it stays for the next.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _forget_old(target.parent)
        workplace, lock = _claim(target, waiting)
    except OSError as error:
        raise not_written(target, error) from error
    try:
        yield None if target.exists() else workplace
    finally:
        if target.exists() or lock is None:
            _remove(workplace)
        if lock is not None:
            os.close(lock)


def _claim(target: Path, waiting: Callable[[], None]) -> tuple[Path, int | None]:
    """The folder and its lock, as soon as it is free."""
    workplace = workplace_of(target)
    while True:
        workplace.mkdir(exist_ok=True)
        try:
            lock = os.open(workplace / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # who had it has finished just now
            continue
        try:
            locked = file_locks.lock(lock)
            if locked and file_locks.is_still_at(lock, workplace / "lock"):
                return workplace, lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        if locked is None:
            _remove(workplace)
            return Path(tempfile.mkdtemp(prefix=f"{workplace.name}-", dir=target.parent)), None
        if not locked:
            waiting()
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _forget_old(folder: Path) -> None:
    """Remove what is finished, and what nobody has worked on for a week; what a living process holds stays."""
    for workplace in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            last = max(path.stat().st_mtime for path in (workplace, *workplace.iterdir()))
            finished = (folder / workplace.name.removeprefix(_PREFIX)).exists()
            if not finished and time.time() - last < _SECONDS_UNTIL_FORGOTTEN:
                continue
            lock = os.open(workplace / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if file_locks.lock(lock) is not False and file_locks.is_still_at(lock, workplace / "lock"):
                    _remove(workplace)
            finally:
                os.close(lock)


def _remove(workplace: Path) -> None:
    """Remove a folder that may be made anew by another process at this very moment."""
    with suppress(OSError):
        shutil.rmtree(workplace.rename(workplace.with_name(f"{_PREFIX}removed-{secrets.token_hex(8)}")))


class Journal:
    """Files below `folder/files` that are only appended to, and the state that belongs to what is in them.

    Fields: `state`, what the last checkpoint was given; empty where there is none of this `kind`, or where the files
    do not hold what they did then. The files are then empty too.

    Raises (all methods):
        StorageError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.files = folder / "files"
        self.state: dict[str, Any] = {}
        self._kind, self._record = kind, folder / "progress.json"
        self._open: dict[str, _AppendedFile] = {}
        try:
            self.files.mkdir(parents=True, exist_ok=True)
            self._restore()
        except OSError as error:
            raise self._failure(folder, error) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _restore(self) -> None:
        record = _read_record(self._record)
        if record and record["kind"] == self._kind:
            for name, (size, sha256) in record["files"].items():
                file = self._open[name] = _AppendedFile(self.files / name, keep=size)
                if (file.size, file.sha256) != (size, sha256):
                    self.close()
                    self._open = {}
                    break
            else:
                self.state = record["state"]
        for path in self.files.iterdir():
            if path.name not in self._open:
                path.unlink()

    def append(self, name: str, data: bytes) -> None:
        """Append to a file, which is made if it is not there."""
        try:
            if name not in self._open:
                self._open[name] = _AppendedFile(self.files / name)
            self._open[name].write(data)
        except OSError as error:
            raise self._failure(self.files / name, error) from error

    def checkpoint(self, state: Mapping[str, object]) -> None:
        """From now on, whatever happens, at least this much is there: what has been appended, and `state`."""
        try:
            for file in self._open.values():
                file.flush()
            sync(self.files)
        except OSError as error:
            raise self._failure(self.files, error) from error
        self.state = dict(state)
        files = {name: [file.size, file.sha256] for name, file in self._open.items()}
        record = {"kind": self._kind, "state": self.state, "files": files}
        replace_file(self._record, json.dumps({**record, "sha256": cache_key(record)}).encode())

    def seal(self) -> dict[str, dict[str, object]]:
        """Bring all files to the disk and close them: for each its size, its sha256 and a CRC of each `BLOCK`."""
        try:
            for file in self._open.values():
                file.flush()
                file.close()
        except OSError as error:
            raise self._failure(self.files, error) from error
        return {
            name: {"bytes": file.size, "sha256": file.sha256, "crc32_per_mib": file.crcs}
            for name, file in sorted(self._open.items())
        }

    def close(self) -> None:
        """Let go of the files; what was appended since the last checkpoint does not count."""
        for file in self._open.values():
            with suppress(OSError):  # the disk is full: what is still held cannot be written either
                file.close()

    def _failure(self, path: Path, error: OSError) -> StorageError:
        self.close()
        return not_written(path, error, _GOES_ON)


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
        claimed = record.pop("sha256")
        return record if claimed == cache_key(record) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


class _AppendedFile:
    """A file being written, with the sha256 and the block CRCs of all that is in it."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Go on behind the first `keep` bytes; `size` is less where there are fewer."""
        self._sha256 = hashlib.sha256()
        self.size = self._crc = 0
        self._crcs: list[int] = []
        self._unsynchronised = True
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        while block := self._file.read(min(BLOCK, keep - self.size)):
            self._count(block)
        self._file.seek(self.size)
        self._file.truncate()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def crcs(self) -> list[int]:
        return [*self._crcs, self._crc] if self.size % BLOCK else self._crcs

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._count(data)
        self._unsynchronised = True

    def _count(self, data: bytes) -> None:
        self._sha256.update(data)
        while data:
            room = BLOCK - self.size % BLOCK
            piece, data = data[:room], data[room:]
            self._crc = zlib.crc32(piece, self._crc)
            self.size += len(piece)
            if self.size % BLOCK == 0:
                self._crcs.append(self._crc)
                self._crc = 0

    def flush(self) -> None:
        if self._unsynchronised:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynchronised = False

    def close(self) -> None:
        self._file.close()
