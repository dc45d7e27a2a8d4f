"""Optuna's journal, in which a killed process leaves nothing behind that others wait for or stumble over.

Optuna's own lock is a file beside the journal: whoever is killed with it leaves it there, and all others wait, by a
relative path for ever. The operating system's lock of the journal itself goes with the process. Half a record, which a
full disk or a power cut leaves, would make all that follows it unreadable; whoever writes next removes it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from mini_bert import file_locks
from mini_bert.errors import MissingExtraError

_SHORTEST, _LONGEST = 0.0005, 0.05
"""Seconds between two attempts to have the lock."""
_READ_AT_ONCE = 4096


def journal(path: Path) -> Any:
    """The storage whose journal is at `path`, which is created where there is none.

    Raises:
        MissingExtraError: optuna is not installed.
    """
    optuna = require_optuna()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    lock = _Lock(path) if _has_locks(path) else None
    backend = optuna.storages.journal.JournalFileBackend(str(path.resolve()), lock_obj=lock)
    return optuna.storages.JournalStorage(backend)


def require_optuna() -> Any:
    """The module, silent.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "optuna", got="not installed", expected="the extra `study`", advice='pip install "mini-bert[study]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _Lock:
    """Of the journal, for as long as a record is written; Optuna asks for `acquire` and `release`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait until we have it, and let the journal end with a whole record."""
        descriptor, wait = os.open(self._path, os.O_RDWR), _SHORTEST
        while not file_locks.lock(descriptor):
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST)
        self._descriptor = descriptor
        os.ftruncate(descriptor, _end_of_last_line(descriptor))
        return True

    def release(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


def _end_of_last_line(descriptor: int) -> int:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        begin = max(0, end - _READ_AT_ONCE)
        os.lseek(descriptor, begin, os.SEEK_SET)
        newline = os.read(descriptor, end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _has_locks(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return file_locks.lock(descriptor) is not None
    finally:
        os.close(descriptor)
