"""How does a file get onto the disk whole, or not at all?

A file is written beside its final place, flushed to the disk, and then renamed: POSIX renames are atomic, so a reader,
a crash or a full disk sees the old file or the new one, never a part of one. Every failure becomes a `StorageError`
that names the path and the space that is left.
"""

# ruff: noqa: PTH102, PTH105, PTH108  (the calls of `os` themselves: experiments let each of them fail)

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from mini_bert.errors import StorageError

Buffer: TypeAlias = bytes | memoryview
"""Bytes, or the memory of an array as bytes."""


def _storage_error(path: Path, error: OSError) -> StorageError:
    """What went wrong when `path` was written, with the space that is left where it lies."""
    folder = path if path.is_dir() else path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB free"
    except OSError:
        free = "free space unknown"
    return StorageError(
        str(path),
        got=f"{error.strerror or error} while writing ({free} in {folder})",
        expected="a writable place with enough space",
        advice="What was saved before is untouched.",
    )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into `StorageError`s about `path`."""
    try:
        yield
    except OSError as error:
        raise _storage_error(path, error) from error


def write_all(descriptor: int, content: Buffer) -> None:
    """Write every byte; `os.write` may take fewer than it is given."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_synced(path: Path, *parts: Buffer) -> None:
    """Write a new file, one part behind the other, and flush it to the disk; for a folder that nobody reads yet.

    Raises:
        StorageError: the file could not be written.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            for part in parts:
                write_all(descriptor, part)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk.

    Raises:
        StorageError: the operating system could not flush it.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and flush each new name to the disk: what is saved in it is not lost with it.

    Raises:
        StorageError: the folder cannot be made.
    """
    missing = []
    with storage_errors(path):
        while not path.exists():
            missing.append(path)
            path = path.parent
    for folder in reversed(missing):
        with storage_errors(folder), suppress(FileExistsError):
            os.mkdir(folder)
        sync(folder.parent)


def require_place(path: Path) -> None:
    """Make the folder that a file will lie in, and try it: said now, and not after the work that the file is to hold.

    Raises:
        StorageError: it cannot be written there.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise StorageError(str(path), got="a folder", expected="the name of a file")
    trial = path.with_name(f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    with storage_errors(path):
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.unlink(trial)


def replace_file(path: Path, content: bytes) -> None:
    """Give `path` new content in one atomic step.

    Raises:
        StorageError: the file could not be written; the old one, if any, is as it was.
    """
    staged = path.with_name(f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        write_synced(staged, content)
        with storage_errors(path):
            os.replace(staged, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(staged)
        raise
    sync(path.parent)
