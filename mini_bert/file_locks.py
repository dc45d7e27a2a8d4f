"""Does this process hold the lock of a file? The operating system lets it go when the process dies, however it dies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock(descriptor: int) -> bool | None:
    """Whether we have the lock of an open file now; None where there are no locks. It goes with the descriptor."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in {errno.EWOULDBLOCK, errno.EACCES} else None
    return True


def is_still_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that `path` names: its holder may have unlinked it before we had its lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
