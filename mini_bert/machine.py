"""What does this process run on: how many cores, which matrix kernel, how much memory has it taken, how much is left?

OpenBLAS, which NumPy's wheels carry, picks a kernel for the processor when it is loaded (`SkylakeX` with AVX-512,
`Haswell` with AVX2, …), and `OPENBLAS_CORETYPE` overrides its choice. A different kernel adds in a different order:
results agree to rounding, not to the bit, and their speed can differ by a factor of two. The kernel in use is therefore
recorded with every run and every benchmark, and a resume under another one says so.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
"""Variables that keep a BLAS to one thread; it reads them when it is loaded."""
_NO_LIMIT = 1 << 60
"""A limit from here on is none: version 1 of control groups writes 9223372036854771712, `ulimit` 2⁶⁴ − 1."""


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_kernel() -> str:
    """The BLAS library, its version and its kernel, e.g. `openblas 0.3.31 SkylakeX`."""
    import numpy  # noqa: F401  (loads the library that is asked about)
    from threadpoolctl import threadpool_info

    libraries = {
        f"{entry['internal_api']} {entry.get('version') or '?'} {entry.get('architecture') or ''}".strip()
        for entry in threadpool_info()
        if entry["user_api"] == "blas"
    }
    return "; ".join(sorted(libraries)) or "unknown"


def resident_bytes() -> int | None:
    """The resident size of this process (VmRSS; where there is no /proc, the largest so far)."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int | None:
    """The largest resident size of this process so far (VmHWM, or `ru_maxrss`); None where the system does not tell."""
    if (peak := _status("VmHWM")) is not None:
        return peak
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def address_space() -> tuple[int, int]:
    """Bytes of addresses that this process has, and the most that it had so far (VmSize, VmPeak); 0 where unknown."""
    return _status("VmSize") or 0, _status("VmPeak") or 0


def available_bytes(root: Path = Path("/")) -> int | None:
    """What this process may still take: the least that the machine, its control groups and `ulimit` leave it.

    Memory of a control group that only caches files counts as free, as the kernel gives it back on demand.

    Args:
        root: where /proc and /sys are.

    Returns:
        bytes, 0 where a limit is overdrawn; None where the system does not tell.
    """
    left = [_kilobytes(root / "proc/meminfo", "MemAvailable"), *_left_in_groups(root), *_left_by_ulimit()]
    return max(0, min(known)) if (known := [size for size in left if size is not None]) else None


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group with a limit leaves: those of this process and the groups around them."""
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, name = [*line.split(":", 2), "", ""][:3]
        if not controllers and name:
            names = ("memory.max", "memory.current", "inactive_file")
            tops = [mount, mount / "unified"]
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            tops = [mount / "memory"]
        else:
            continue
        for top in tops:
            group = Path(os.path.normpath(f"{top}/{name}"))  # a name may begin with "/.." inside a container
            for folder in {group, *group.parents, top}:
                if folder.is_relative_to(top) and (left := _left_in_group(folder, *names)) is not None:
                    yield left


def _left_in_group(folder: Path, limit_name: str, used_name: str, cached_name: str) -> int | None:
    cached = sum(int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(f"{cached_name} "))
    with suppress(OSError, ValueError):  # no such file; "max"
        limit = int((folder / limit_name).read_text(encoding="ascii"))
        used = int((folder / used_name).read_text(encoding="ascii"))
        if limit < _NO_LIMIT:
            return limit - used + cached
    return None


def _left_by_ulimit() -> Iterator[int]:
    """What the limits of address space (`ulimit -v`) and of data (`ulimit -d`) leave."""
    with suppress(ImportError):
        import resource

        for kind, used in ((resource.RLIMIT_AS, _status("VmSize")), (resource.RLIMIT_DATA, _status("VmData"))):
            limit = resource.getrlimit(kind)[0]
            if used is not None and limit != resource.RLIM_INFINITY and 0 <= limit < _NO_LIMIT:
                yield limit - used


def _status(key: str) -> int | None:
    """A size in /proc/self/status; None where there is none."""
    return _kilobytes(Path("/proc/self/status"), key)


def _kilobytes(path: Path, key: str) -> int | None:
    """The size, in bytes, on the line `key: 123 kB`; None where there is none."""
    return next((int(line.split()[1]) * 1024 for line in _lines(path) if line.startswith(f"{key}:")), None)


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system; none where there is no such file."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def processor_name() -> str:
    """What the processor calls itself; its architecture where it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
