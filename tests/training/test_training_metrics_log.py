"""The metrics log: at most its last line is torn, and a resume leaves no step twice (R21)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from mini_bert.errors import DataError, StorageError
from mini_bert.training.metrics_log import MetricsLog, keep_until, read_metrics


def test_records_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"step": 1, "loss": 0.1 + 0.2})
        log.write({"step": 2, "loss": float("nan"), "name": "é\n"})
        log.sync()
    with MetricsLog(path) as log:
        log.write({"step": 3, "loss": float("inf")})
    assert read_metrics(path) == [
        {"step": 1, "loss": 0.1 + 0.2},
        {"step": 2, "loss": None, "name": "é\n"},
        {"step": 3, "loss": None},
    ]


def test_a_torn_last_line_is_dropped_with_a_warning_and_cut_by_the_next_writer(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for whole in (b"", b'{"step": 1}\n', b'{"step": 1, "x": "' + b"y" * 5000 + b'"}\n'):
        for torn in (b'{"step": 2, "lo', b"{" + b"z" * 9000):
            path.write_bytes(whole + torn)
            with pytest.warns(UserWarning, match="torn"):
                assert len(read_metrics(path)) == whole.count(b"\n")
            with MetricsLog(path) as log:
                log.write({"step": 2})
            assert path.read_bytes() == whole + b'{"step": 2}\n'


def test_any_other_damage_is_an_error_with_its_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for bad in (b"{", b"[]", b"\xff"):
        path.write_bytes(b'{"step": 1}\n' + bad + b"\n")
        with pytest.raises(DataError, match="line 2"):
            read_metrics(path)
    with pytest.raises(DataError, match="No such file"):
        read_metrics(tmp_path / "none")


def test_resume_removes_what_came_after(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert keep_until(path, 3) == []
    with MetricsLog(path) as log:
        log.write({"kind": "start"})
        for step in (1, 2, 3, 4):
            log.write({"step": step})
    with path.open("ab") as file:
        file.write(b'{"step"')
    assert keep_until(path, 2) == [{"kind": "start"}, {"step": 1}, {"step": 2}]
    assert read_metrics(path) == [{"kind": "start"}, {"step": 1}, {"step": 2}]


def test_a_full_disk_is_named_and_leaves_no_torn_line(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    write = os.write
    with MetricsLog(path) as log:
        log.write({"step": 1})

        def half(descriptor, content):
            if len(content) > 5:
                return write(descriptor, content[:5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StorageError, match=r"metrics\.jsonl: got No space left.*MB free"):
            log.write({"step": 2})
        monkeypatch.setattr(os, "write", write)
        log.write({"step": 3})
    assert read_metrics(path) == [{"step": 1}, {"step": 3}]


WRITER = """
import sys
from pathlib import Path
from mini_bert.training.metrics_log import MetricsLog
log, step = MetricsLog(Path(sys.argv[1])), 0
while True:
    step += 1
    log.write({"step": step, "text": "x" * 3000})
    if step == 20:
        print("running", flush=True)
"""


def kill_while_writing(path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()


@pytest.mark.parametrize("trials", [3, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*torn:UserWarning")
def test_a_kill_tears_at_most_the_last_line(tmp_path, trials):
    for trial in range(trials):
        path = tmp_path / f"{trial}.jsonl"
        kill_while_writing(path)
        steps = [record["step"] for record in read_metrics(path)]
        assert len(steps) >= 20
        assert steps == list(range(1, len(steps) + 1))
