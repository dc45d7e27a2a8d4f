"""A kill costs a step at most; a hook that misses its point, and a checkpoint that is not whole, are noticed."""

from __future__ import annotations

import pytest

from mini_bert.training.checkpoint_folders import checkpoints
from mini_bert.verification.reliability import kills
from mini_bert.verification.reliability.promise import Scale

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("experiment", [kills.random_kills, kills.kills_at_points])
def test_a_kill_costs_a_step_at_most(experiment, tmp_path):
    outcome = experiment(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.measured["kills"] >= 3


def test_checkpoints_that_are_lost_are_noticed(tmp_path, monkeypatch):
    look = kills._look

    def with_damage(run):
        for path in checkpoints(run.run):
            (path / "manifest.json").unlink()
        return look(run)

    monkeypatch.setattr(kills, "_look", with_damage)
    failures = kills.kills_at_points(Scale(quick=True), tmp_path).failures
    assert any("steps are lost" in failure or "another end" in failure for failure in failures)
