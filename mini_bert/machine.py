"""What does this process run on: how many cores, which matrix kernel, and how much memory has it taken?

OpenBLAS, which NumPy's wheels carry, picks a kernel for the processor when it is loaded (`SkylakeX` with AVX-512,
`Haswell` with AVX2, …), and `OPENBLAS_CORETYPE` overrides its choice. A different kernel adds in a different order:
results agree to rounding, not to the bit, and their speed can differ by a factor of two. The kernel in use is therefore
recorded with every run and every benchmark, and a resume under another one says so.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


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


def _status(key: str) -> int | None:
    """A size in /proc/self/status; None where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return None
