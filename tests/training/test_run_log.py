"""run.log: what happened, one JSON object a line; whatever goes wrong with it, training goes on."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from mini_bert.training.run_log import RunLog, read_run_log


def test_events_come_back_in_order_with_time_in_utc_and_level(tmp_path):
    path = tmp_path / "run.log"
    with RunLog(path) as log:
        log.info("started", step=0)
        log.warning("slow disk", seconds=1.5, path=Path("a"), loss=float("nan"))
    with RunLog(path) as log:
        log.error("ended", level=3, time=4, event=5)  # fields do not hide what every line has
    events = read_run_log(path)
    assert [(event.pop("level"), event.pop("event")) for event in events] == [
        ("info", "started"),
        ("warning", "slow disk"),
        ("error", "ended"),
    ]
    now = datetime.now(timezone.utc)
    for event in events:
        at = datetime.fromisoformat(event.pop("time"))
        assert at.utcoffset() == timedelta(0)
        assert timedelta(0) <= now - at < timedelta(minutes=5)
    assert events == [{"step": 0}, {"seconds": 1.5, "path": "a", "loss": None}, {}]
    assert all(list(json.loads(line))[:3] == ["time", "level", "event"] for line in path.read_text().splitlines())


def test_what_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    with RunLog(tmp_path / "no folder" / "run.log") as log:
        log.info("lost")
    (tmp_path / "a folder").mkdir()
    with RunLog(tmp_path / "a folder") as log:
        log.error("lost too")
    path = tmp_path / "run.log"
    endless: list[object] = []
    endless.append(endless)
    with RunLog(path) as log:
        log.info("one")
        log.info("endless", value=endless)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, content: (_ for _ in ()).throw(OSError(28, "No space left")))
            log.info("full disk")
        log.info("two")
    log.info("closed")
    assert [event["event"] for event in read_run_log(path)] == ["one", "two"]


def test_the_reader_takes_what_it_can(tmp_path):
    assert read_run_log(tmp_path / "none") == []
    path = tmp_path / "run.log"
    path.write_bytes(b'{"time": "t", "level": "info", "event": "a"}\nno\n[]\n{"event": "b"}\n\xff\n{"time": "torn')
    assert [event["event"] for event in read_run_log(path)] == ["a"]
    with RunLog(path) as log:
        log.info("after")
    assert [event["event"] for event in read_run_log(path)] == ["a", "after"]
    assert b"torn" not in path.read_bytes()
