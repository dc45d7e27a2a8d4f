"""The experiments about logs keep their promises, and notice when the code does not."""

from __future__ import annotations

import pytest

from mini_bert.training.metrics_log import MetricsLog
from mini_bert.verification.reliability import logs
from mini_bert.verification.reliability.promise import Scale

BY_NAME = {experiment.name: experiment for experiment in logs.EXPERIMENTS}
TEARS, FULL_DISK = "the last line torn after each of its bytes", "the disk is full within a record"
FLIPS, TRAINING = "one bit of the log flipped", "a training killed three times and resumed"
SLOW = {TRAINING}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BY_NAME])
def test_promises_about_logs(name, tmp_path):
    outcome = BY_NAME[name].run(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_a_writer_that_leaves_torn_lines_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(MetricsLog, "_cut_torn_line", lambda log: setattr(log, "_torn", False))
    for name in (TEARS, FULL_DISK):
        (tmp_path / name).mkdir()
        assert BY_NAME[name].run(Scale(quick=True), tmp_path / name).failures


def test_a_reader_that_says_nothing_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("warnings.warn", lambda *message, **options: None)
    assert BY_NAME[TEARS].run(Scale(quick=True), tmp_path).failures


def test_a_resume_that_keeps_too_much_or_drops_damage_silently_is_noticed(tmp_path, monkeypatch):
    keep_until = logs.keep_until
    monkeypatch.setattr(logs, "keep_until", lambda path, step, **told: keep_until(path, step + 1))
    assert BY_NAME[TEARS].run(Scale(quick=True), tmp_path).failures
    monkeypatch.setattr(logs, "keep_until", lambda path, step, warn: keep_until(path, step, warn=lambda said: None))
    assert BY_NAME[FLIPS].run(Scale(quick=True), tmp_path).failures
