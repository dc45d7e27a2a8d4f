"""Signals cost no step; a loop that does not heed them is noticed."""

from __future__ import annotations

import pytest

from mini_bert.verification.reliability import signals
from mini_bert.verification.reliability.promise import Scale
from mini_bert.verification.reliability.subject import Ended

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("experiment", [signals.signals_within, signals.signals_anywhere])
def test_signals_cost_no_step(experiment, tmp_path):
    outcome = experiment(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_a_run_that_does_not_stop_is_noticed(tmp_path, monkeypatch):
    def unheeded(run, trial):
        return Ended(0, run.train().result, "")

    monkeypatch.setattr(signals, "_within", unheeded)
    failures = signals.signals_within(Scale(quick=True), tmp_path).failures
    assert any("code 0" in failure for failure in failures)
