"""What would PyTorch do in float32, if MKL used AVX-512 on this processor?

PyTorch multiplies float32 matrices with Intel's MKL. MKL asks whether the processor is Intel's own and takes its AVX2
kernels where it is not; none of MKL's documented variables changes that (docs/guide/speed.md lists what was tried). The
answer can be replaced from outside by preloading a library with a function of the same name. That is not documented
and nobody ships it, so contestants that use it are shown and do not count.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def environment(folder: Path, processor: dict[str, str]) -> dict[str, str] | None:
    """Variables for a process in which MKL uses AVX-512; None where it does so anyway or cannot, or without a compiler.

    Args:
        folder: where the library is put.
        processor: facts of /proc/cpuinfo.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    is_amd = processor.get("vendor_id") == "AuthenticAMD"
    if not is_amd or "avx512f" not in processor.get("flags", "").split() or compiler is None:
        return None
    source, library = folder / "mkl_avx512.c", folder / "mkl_avx512.so"
    source.write_text(_SOURCE, encoding="ascii")
    finished = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source)], capture_output=True, check=False
    )
    return {"LD_PRELOAD": str(library)} if finished.returncode == 0 else None
