"""Hostile files of torch: refused by name, and nothing done: no call, no import, no second, no memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mini_bert
from mini_bert.errors import CheckpointError
from mini_bert.interop import torch_pickle
from mini_bert.verification.reliability.hostile_files import archives as hostile_archives
from mini_bert.verification.reliability.hostile_files import pickles as hostile_files
from mini_bert.verification.reliability.hostile_files import tensors as hostile_tensors

KINDS = (
    hostile_files.calls,
    hostile_tensors.tensors,
    hostile_files.floods,
    hostile_files.sequences,
    hostile_archives.archives,
)
FILES = {name: hostile for kind in KINDS for name, hostile in kind().items()}


def test_there_are_many_and_no_name_hides_another():
    assert len(FILES) == sum(len(kind()) for kind in KINDS)
    assert len(hostile_files.calls()) >= 60


@pytest.mark.parametrize("name", FILES)
def test_refused_for_its_own_reason(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(FILES[name].content)
    with pytest.raises(CheckpointError, match=FILES[name].refusal) as refused:
        torch_pickle.load(tmp_path / "pytorch_model.bin")
    assert len(str(refused.value)) < 1000
    assert re.search("[\x00-\x1f]", str(refused.value)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]


CHILD = """
    import copyreg, json, os, resource, signal, sys
    from pathlib import Path
    from mini_bert.errors import CheckpointError
    from mini_bert.interop import torch_pickle

    copyreg.add_extension(os.system.__module__, "system", 0xF0)
    copyreg._extension_cache[0xF0] = os.system
    megabyte = 2**20
    here = Path("/proc/self/statm")
    if here.exists():
        now = int(here.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 200 * megabyte, resource.RLIM_INFINITY))
    signal.signal(signal.SIGVTALRM, lambda *_: sys.exit("more than a second of the processor"))
    torch_pickle.load(Path("good.bin"))
    before, refused = set(sys.modules), []
    for path in sorted(Path("files").iterdir()):
        signal.setitimer(signal.ITIMER_VIRTUAL, 1)
        try:
            torch_pickle.load(path)
        except CheckpointError:
            refused.append(path.name)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps({"refused": len(refused), "imported": sorted(set(sys.modules) - before)}))
"""


def test_nothing_is_done_imported_or_wasted(tmp_path):
    """All of them in one process with 200 MB more of address space than it has, and a second of the processor each."""
    (tmp_path / "files").mkdir()
    (tmp_path / "good.bin").write_bytes(hostile_archives.PLAIN)
    for number, hostile in enumerate(FILES.values()):
        (tmp_path / "files" / f"{number:03}.bin").write_bytes(hostile.content)
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(mini_bert.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == {"refused": len(FILES), "imported": []}
    assert {path.name for path in tmp_path.iterdir()} == {"files", "good.bin"}


def test_the_canary_sings_where_the_deed_is_done(tmp_path, monkeypatch):
    """What the absence of `canary` says: the same pickle, read by Python's own module, makes the file."""
    import pickle

    monkeypatch.chdir(tmp_path)
    pickle.loads(hostile_files.program(hostile_files.call("os", "system", hostile_files.text(hostile_files.DEED))))
    assert (tmp_path / "canary").exists()


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    (tmp_path / "folder.bin").mkdir()
    (tmp_path / "loop.bin").symlink_to("loop.bin")
    (tmp_path / "endless.bin").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.bin")
    pipe = os.open(tmp_path / "pipe.bin", os.O_RDWR)
    os.write(pipe, b"whoever opens the pipe finds something in it")
    for path in tmp_path.iterdir():
        with pytest.raises(CheckpointError, match="no such file"):
            torch_pickle.load(path)
    os.close(pipe)


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "blob").write_bytes(hostile_archives.PLAIN)
    (tmp_path / "pytorch_model.bin").symlink_to("blob")
    assert list(torch_pickle.load(tmp_path / "pytorch_model.bin")) == ["x"]
