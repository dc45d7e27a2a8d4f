from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from mini_bert.machine import available_bytes, available_cores, blas_kernel, peak_bytes, resident_bytes


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
    block = np.ones((before + 100_000_000) // 8)
    peak = peak_bytes()
    assert peak is not None
    assert peak >= block.nbytes
    del block
    resident = resident_bytes()
    assert resident is not None
    assert resident <= peak


def test_importing_the_package_imports_no_numpy() -> None:
    """The command line imports it to print its help, and wants to be quick."""
    code = "import sys, mini_bert; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


MEMINFO = "MemTotal: 16000 kB\nMemFree: 10 kB\nMemAvailable: 9000 kB\n"
KB = 1024


def system(root: Path, groups: str, files: dict[str, object], meminfo: str = MEMINFO) -> Path:
    """A made-up /proc and /sys."""
    for name, content in {"proc/meminfo": meminfo, "proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def second_version(group: str, limit: object, used: int, cached: int = 0) -> dict[str, object]:
    folder = f"sys/fs/cgroup{group}"
    return {
        f"{folder}/memory.max": limit,
        f"{folder}/memory.current": used,
        f"{folder}/memory.stat": f"anon 5\ninactive_file {cached}\nactive_file 7",
    }


def first_version(group: str, limit: object, used: int, cached: int = 0) -> dict[str, object]:
    folder = f"sys/fs/cgroup/memory{group}"
    return {
        f"{folder}/memory.limit_in_bytes": limit,
        f"{folder}/memory.usage_in_bytes": used,
        f"{folder}/memory.stat": f"cache 5\ntotal_inactive_file {cached}",
    }


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/", {}, 9000 * KB),
        ("0::/a/b", second_version("/a/b", "max", 5), 9000 * KB),
        ("0::/a/b", second_version("/a/b", 1000, 400, cached=100), 700),
        ("0::/a/b", {**second_version("/a/b", 1000, 400), **second_version("/a", 900, 500)}, 400),
        ("0::/", second_version("", 1000, 1200), 0),
        ("0::/../outside", second_version("", 1000, 600), 400),
        ("0::/of/the/host", second_version("", 1000, 600), 400),
        ("4:memory:/a\n0::/", first_version("/a", 1000, 300), 700),
        ("4:cpu,memory:/a\n0::/", first_version("/a", 1000, 300, cached=50), 750),
        ("4:memory:/a", first_version("/a", 9223372036854771712, 300), 9000 * KB),
        ("4:memory:/a", {**first_version("/a", 9223372036854771712, 300), **first_version("", 800, 300)}, 500),
        ("4:cpu:/a", first_version("/a", 1000, 300), 9000 * KB),
        (
            "1:name=systemd:/\n0::/a",
            {
                f"sys/fs/cgroup/unified/a/{name}": value
                for name, value in (("memory.max", 1000), ("memory.current", 100), ("memory.stat", ""))
            },
            900,
        ),
        ("nonsense", {}, 9000 * KB),
        ("0::/a", {"sys/fs/cgroup/a/memory.max": "nonsense", "sys/fs/cgroup/a/memory.current": 1}, 9000 * KB),
    ],
)
def test_available_memory_is_what_the_tightest_limit_leaves(groups, files, left, tmp_path, monkeypatch):
    monkeypatch.setattr("mini_bert.machine._left_by_ulimit", lambda: iter(()))
    assert available_bytes(system(tmp_path, groups, files)) == left


def test_available_memory_is_unknown_where_nothing_tells(tmp_path, monkeypatch):
    monkeypatch.setattr("mini_bert.machine._left_by_ulimit", lambda: iter(()))
    assert available_bytes(tmp_path) is None


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_available_memory_is_what_ulimit_leaves(kind: str) -> None:
    code = (
        "import resource\n"
        "from mini_bert.machine import available_bytes\n"
        "before = available_bytes()\n"
        f"resource.setrlimit(resource.{kind}, (300_000_000, resource.RLIM_INFINITY))\n"
        "block = bytearray(100_000_000)\n"
        "print(before > 300_000_000 > 200_000_000 > available_bytes() > 50_000_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
