"""The metrics log: at most its last line is torn, and a resume leaves no step twice (R21)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_a_pipe_and_a_folder_are_no_log_and_hold_up_nobody(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(DataError, match=f"{name}: got a "):
            read_metrics(tmp_path / name)
        with pytest.raises(StorageError):
            MetricsLog(tmp_path / name)


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


def test_a_torn_line_that_cannot_be_cut_off_at_once_is_cut_off_before_the_next_record(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    write, truncate = os.write, os.ftruncate

    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with MetricsLog(path) as log:
        log.write({"step": 1})
        calls = []
        monkeypatch.setattr(
            os, "write", lambda file, content: fail() if calls else calls.append(write(file, b"{")) or 1
        )
        monkeypatch.setattr(os, "ftruncate", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            log.write({"step": 2})
        assert path.read_bytes().endswith(b"{")
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(StorageError):  # rather no record than one behind half of another
            log.write({"step": 3})
        monkeypatch.setattr(os, "ftruncate", truncate)
        log.write({"step": 4})
    assert read_metrics(path) == [{"step": 1}, {"step": 4}]


def test_any_value_is_written_as_json_has_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    nested = {"loss": np.float32(0.5), "top": [np.int64(3), float("nan"), {"x": float("-inf")}], "path": Path("a")}
    with MetricsLog(path) as log:
        log.write({"step": 1, "ok": True, "none": None, **nested})
    expected = {"step": 1, "ok": True, "none": None, "loss": 0.5, "top": [3, None, {"x": None}], "path": "a"}
    assert read_metrics(path) == [expected]


def test_what_is_kept_keeps_its_bytes_and_a_log_that_stays_as_it_is_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    lines = [b'{"step":1,  "x": 1e400}\n', b'{"step": 2}\n', b'{"step": 3}\n']
    path.write_bytes(b"".join(lines))
    assert [record["step"] for record in keep_until(path, 2)] == [1, 2]
    assert path.read_bytes() == lines[0] + lines[1]
    monkeypatch.setattr(os, "replace", lambda *paths: pytest.fail("written"))
    assert len(keep_until(path, 2)) == 2


def test_damaged_lines_hold_up_no_resume_and_are_kept_aside(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = b'{"step": 1}\n{"stop: 2}\n{"step": "3"}\n{"step": 4}\n{"step": 5}\n{"st'
    for number in (1, 2):
        path.write_bytes(whole)
        told: list[str] = []
        assert keep_until(path, 4, warn=told.append) == [{"step": 1}, {"step": 4}]
        aside = tmp_path / f"metrics.damaged-{number}.jsonl"
        assert len(told) == 1
        assert "2 damaged lines, the first is line 2" in told[0]
        assert str(aside) in told[0]
        assert aside.read_bytes() == whole
    path.write_bytes(whole)
    assert keep_until(path, -1, warn=pytest.fail) == []  # begun anew: nothing of it is needed
    assert path.read_bytes() == b""


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
