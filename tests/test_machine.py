from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

from mini_bert.machine import available_cores, blas_kernel, peak_bytes, resident_bytes


def library(version: str | None, architecture: str | None, user_api: str = "blas") -> dict[str, str | None]:
    return {"user_api": user_api, "internal_api": "openblas", "version": version, "architecture": architecture}


@pytest.mark.parametrize(
    ("libraries", "name"),
    [
        ([library("0.3.31", "SkylakeX")], "openblas 0.3.31 SkylakeX"),
        ([library(None, None)], "openblas ?"),
        ([library("0.3.31", "Haswell")] * 2 + [library("5", None, "openmp")], "openblas 0.3.31 Haswell"),
        ([library("2", "Zen"), library("1", "Zen")], "openblas 1 Zen; openblas 2 Zen"),
        ([], "unknown"),
    ],
)
def test_the_kernel_is_named(libraries: list[object], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: libraries)
    assert blas_kernel() == name


def test_this_machine_has_one() -> None:
    assert blas_kernel() not in {"", "unknown"}


def test_there_is_a_core_to_run_on() -> None:
    assert available_cores() >= 1


def test_peak_memory_sees_what_is_allocated_and_remembers_it() -> None:
    before = peak_bytes()
    assert before is not None
    block = np.ones(max(before, 100_000_000) // 8)
    peak = peak_bytes()
    assert peak is not None
    assert peak >= before + 0.5 * block.nbytes
    del block
    resident = resident_bytes()
    assert resident is not None
    assert resident <= peak


def test_importing_the_package_imports_no_numpy() -> None:
    """The command line imports it to print its help, and wants to be quick."""
    code = "import sys, mini_bert; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
