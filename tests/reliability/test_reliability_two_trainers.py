"""One run, one trainer; a lock that two can hold is noticed."""

from __future__ import annotations

import pytest

from mini_bert.training import ownership
from mini_bert.verification.reliability import two_trainers
from mini_bert.verification.reliability.promise import Scale

QUICK = Scale(quick=True)


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(two_trainers.second_trainer, marks=pytest.mark.slow),
        two_trainers.crowd,
        two_trainers.stale_locks,
    ],
)
def test_one_run_has_one_trainer(experiment, tmp_path):
    outcome = experiment(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


def test_a_lock_that_is_no_lock_is_noticed(tmp_path, monkeypatch):
    careless = two_trainers._RIVAL.replace(
        "held = refused = 0",
        "held = refused = 0\nfrom mini_bert.training import ownership\n"
        "ownership.file_locks.lock = lambda descriptor: True\nownership._in_use = None\n"
        "ownership._read_owner = lambda descriptor: (None, '')",
    )
    monkeypatch.setattr(two_trainers, "_RIVAL", careless)
    assert two_trainers.crowd(Scale(), tmp_path).failures


def test_a_rule_that_trusts_nobody_or_everybody_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership.Owner, "is_gone", lambda owner: True)
    assert any("another host" in failure for failure in two_trainers.stale_locks(QUICK, tmp_path / "all").failures)
    monkeypatch.setattr(ownership.Owner, "is_gone", lambda owner: False)
    assert any("that ended" in failure for failure in two_trainers.stale_locks(QUICK, tmp_path / "none").failures)
