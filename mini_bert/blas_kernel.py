"""Which matrix kernel does NumPy multiply with?

OpenBLAS, which NumPy's wheels carry, picks a kernel for the processor when it is loaded (`SkylakeX` with AVX-512,
`Haswell` with AVX2, …), and `OPENBLAS_CORETYPE` overrides its choice. A different kernel adds in a different order:
results agree to rounding, not to the bit, and their speed can differ by a factor of two. The kernel in use is therefore
recorded with every run and every benchmark, and a resume under another one says so.
"""

from __future__ import annotations


def kernel_in_use() -> str:
    """The BLAS library, its version and its kernel, e.g. `openblas 0.3.31 SkylakeX`."""
    import numpy  # noqa: F401  (loads the library that is asked about)
    from threadpoolctl import threadpool_info

    libraries = {
        f"{entry['internal_api']} {entry.get('version') or '?'} {entry.get('architecture') or ''}".strip()
        for entry in threadpool_info()
        if entry["user_api"] == "blas"
    }
    return "; ".join(sorted(libraries)) or "unknown"
