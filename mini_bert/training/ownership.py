"""Who is writing into this run folder, and is that process still there?

A process is named by host, number and start time: numbers are used again, and a folder may be shared between machines.
The lock is a file with that name in it, held with `flock`, which the operating system lets go when the process dies,
however it dies.

Stale rule: a lock is stale when its process ran on this host and is gone, or ran under this very kernel (a container
with a name of its own) and the kernel has let its lock go. A lock of another host is never broken, because nobody here
can know; delete the file by hand when that machine is known to have stopped. No clock is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from mini_bert import file_locks
from mini_bert.atomic_files import storage_errors, write_all
from mini_bert.errors import RunInUseError
from mini_bert.foreign_files import parse_json

LOCK_NAME = "lock"
_TOKEN = re.compile(r"(?P<pid>\d+)-(?P<host>[0-9a-f]{8})-(?P<started>\d+)")


class Owner(NamedTuple):
    """A process, told apart from every other."""

    host: str
    pid: int
    started: int
    """Clock ticks from boot to the start of the process; 0 where the system does not tell."""

    @property
    def token(self) -> str:
        """The owner as part of a file name: `pid-hash of host-started`."""
        return f"{self.pid}-{_short(self.host)}-{self.started}"

    def is_gone(self) -> bool:
        """Whether the process surely runs no more; False for other hosts, of which nothing is known."""
        return self.host == socket.gethostname() and _is_gone(self.pid, self.started)


def this_process() -> Owner:
    """The owner that we are."""
    return Owner(socket.gethostname(), os.getpid(), _start_time(os.getpid()) or 0)


def token_is_gone(name: str) -> bool:
    """Whether the owner whose token stands in `name` surely runs no more; False where none stands there."""
    found = _TOKEN.search(name)
    if found is None or found["host"] != _short(socket.gethostname()):
        return False
    return _is_gone(int(found["pid"]), int(found["started"]))


def _short(host: str) -> str:
    return hashlib.sha256(host.encode()).hexdigest()[:8]


def _is_gone(pid: int, started: int) -> bool:
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    now = _start_time(pid)
    return now is not None and now != started


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the process's start, -1 for a zombie, None where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return -1 if state in "ZX" else int(fields[18])


class RunLock:
    """While it is held (`with RunLock(folder):`), no other process trains in `folder`.

    Raises:
        RunInUseError: another process holds it; the message names host and process.
        StorageError: the lock file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while not self._acquired():
                pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._descriptor is not None
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()  # succeeds only where nothing was written
        os.close(self._descriptor)
        self._descriptor = None

    def _acquired(self) -> bool:
        """One attempt; False when the file was unlinked by its holder between our opening and locking it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            recorded, _ = _read_owner(descriptor)
            locked = file_locks.lock(descriptor)
            if locked is False:
                raise _in_use(self._path, recorded)
            if not file_locks.is_still_at(descriptor, self._path):
                os.close(descriptor)
                return False
            recorded, boot = _read_owner(descriptor)
            let_go = locked is True and boot != "" and boot == _boot_id()
            if recorded is not None and recorded != this_process() and not recorded.is_gone() and not let_go:
                raise _in_use(self._path, recorded)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            write_all(descriptor, json.dumps({**this_process()._asdict(), "boot": _boot_id()}).encode())
            os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True


def _read_owner(descriptor: int) -> tuple[Owner | None, str]:
    """Who is recorded, and under which start of which kernel; nobody where the record is torn or none."""
    try:
        record = parse_json(os.pread(descriptor, 4096, 0))
        return Owner(str(record["host"]), int(record["pid"]), int(record["started"])), str(record.get("boot", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None, ""


def _boot_id() -> str:
    """What the kernel calls itself since it was started; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _in_use(path: Path, owner: Owner | None) -> RunInUseError:
    who = f"process {owner.pid} on host {owner.host}" if owner else "another process"
    return RunInUseError(
        str(path.parent),
        got=f"a run folder that {who} is writing to",
        expected="a run that nobody else trains",
        advice=f"Wait for it, choose another --run name, or, when it surely stopped, delete {path}.",
    )
