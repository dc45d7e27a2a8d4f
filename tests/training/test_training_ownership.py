"""Two trainers on one run folder (R22): the second is refused by name, and only a dead owner's lock is broken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from mini_bert.errors import RunInUseError, StorageError
from mini_bert.training.ownership import Owner, RunLock, this_process, token_is_gone

HOLDER = """
import sys, time
from pathlib import Path
from mini_bert.training.ownership import RunLock, this_process
with RunLock(Path(sys.argv[1])):
    print(this_process().token, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def test_the_second_trainer_is_told_who_the_first_is(tmp_path, holder):
    token = holder.stdout.readline()
    with pytest.raises(RunInUseError, match=f"process {holder.pid} on host {socket.gethostname()}"), RunLock(tmp_path):
        pass
    assert not token_is_gone(f".tmp-40-{token}-abcd")
    holder.send_signal(signal.SIGKILL)
    # A killed process that nobody has waited for is a zombie: gone, though its number is still taken.
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert token_is_gone(f".tmp-40-{token}-abcd")
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_the_lock_is_not_reentrant_and_leaves_no_empty_folder(tmp_path):
    run = tmp_path / "run"
    with RunLock(run), pytest.raises(RunInUseError), RunLock(run):
        pass
    assert not run.exists()
    with RunLock(run):
        (run / "config.yaml").write_text("")
    assert [path.name for path in run.iterdir()] == ["config.yaml"]


def test_stale_rule(tmp_path):
    mine, lock = this_process(), tmp_path / "lock"
    (tmp_path / "config.yaml").write_text("")
    assert not mine.is_gone()
    reused = mine._replace(started=mine.started - 1)
    assert reused.is_gone()
    assert token_is_gone(f".tmp-3-{reused.token}-00")
    elsewhere = Owner("another-host", 1, 1)
    assert not elsewhere.is_gone()
    assert not token_is_gone(f".tmp-3-{elsewhere.token}-00")
    assert not token_is_gone(".tmp-unknown")

    lock.write_text(json.dumps(reused._asdict()))
    with RunLock(tmp_path):
        pass
    lock.write_text("not a record")
    with RunLock(tmp_path):
        pass
    lock.write_text(json.dumps(elsewhere._asdict()))
    with pytest.raises(RunInUseError, match=r"process 1 on host another-host.*delete"), RunLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"), RunLock(tmp_path / "file" / "run"):
        pass
