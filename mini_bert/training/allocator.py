"""Memory that a step frees is memory that the next step asks for: tell the allocator to keep it.

A training step makes and drops some hundred arrays of a few megabytes. By default glibc gives such memory back to the
system at once and fetches it anew, zeroed page by page: 18,000 page faults a step at the default size, about a tenth
of its time. Preallocated workspaces would avoid that too, at the price of threading them through every function.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024
_KEPT = 1024 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Have malloc reuse freed arrays of up to 32 MiB instead of returning them; for the life of the process.

    All threads share one heap, as far as they have none yet. With a heap each, what a shard's thread has freed an
    evaluation could not use, nor could all of it be given back: 450 MB instead of 335 at the default size. A step asks
    for some hundred arrays, so that the threads hardly ever wait for each other (440 ms of processor time either way).

    Returns whether the C library took the advice: glibc does, others (macOS, Windows, musl) manage without it.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    advice = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, _KEPT))
    return all(bool(mallopt(kind, value)) for kind, value in advice)


def give_freed_memory_back() -> None:
    """Return what is kept to the system once, for when memory is wanted elsewhere, or has run out."""
    if (trim := _of_glibc("malloc_trim")) is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library, where it is one that has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
