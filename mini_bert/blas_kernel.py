"""Which matrix kernel does NumPy multiply with, and is it the best one this processor has?

OpenBLAS, which NumPy's wheels carry, picks its kernels by the processor's model number. It knows the AVX-512 kernels
as `SkylakeX` and gives them to Intel's processors; an AMD processor with AVX-512 (Zen 4 and later) gets the AVX2
kernels (`Haswell`) instead, and multiplies at about half its speed. OpenBLAS reads `OPENBLAS_CORETYPE` once, when it is
loaded, so the choice has to be made before NumPy is imported. This file imports nothing but the standard library.

A different kernel adds in a different order: results agree to rounding, not to the bit. The kernel in use is therefore
recorded with every run, and a resume under another one says so.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_AVX512_FLAGS = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def choose_avx512_kernel(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Ask OpenBLAS for its AVX-512 kernels where the processor has them and OpenBLAS would not take them by itself.

    Does nothing, and returns False, where NumPy is loaded already, where `OPENBLAS_CORETYPE` is set (the user's word
    goes first; `OPENBLAS_CORETYPE=Haswell` brings the default back), or where the processor is not an AMD processor
    with the AVX-512 subsets that the `SkylakeX` kernels use.
    """
    if "numpy" in sys.modules or "OPENBLAS_CORETYPE" in os.environ or platform.machine() not in {"x86_64", "AMD64"}:
        return False
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return False
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if facts.get("vendor_id") != "AuthenticAMD" or not set(facts.get("flags", "").split()) >= _AVX512_FLAGS:
        return False
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return True


def kernel_in_use() -> str:
    """The BLAS library, its version and its kernel, e.g. `openblas 0.3.31 SkylakeX`."""
    import numpy  # noqa: F401  (loads the library that is asked about)
    from threadpoolctl import threadpool_info

    libraries = [
        f"{entry['internal_api']} {entry.get('version') or '?'} {entry.get('architecture') or ''}".strip()
        for entry in threadpool_info()
        if entry["user_api"] == "blas"
    ]
    return "; ".join(sorted(set(libraries))) or "unknown"
