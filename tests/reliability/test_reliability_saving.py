"""Saving is an identity, and its cost is measured; a state that does not come back is noticed."""

from __future__ import annotations

from mini_bert.verification.reliability import saving
from mini_bert.verification.reliability.promise import Scale


def test_save_load_save(tmp_path):
    outcome = saving.save_load_save(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_a_load_that_changes_a_number_is_noticed(tmp_path, monkeypatch):
    load = saving.load_checkpoint

    def nearly(path):
        restored = load(path)
        restored.state.optimizer["v"][-1] *= 2
        return restored

    monkeypatch.setattr(saving, "load_checkpoint", nearly)
    failures = saving.save_load_save(Scale(quick=True), tmp_path).failures
    assert any("optimizer.safetensors" in failure for failure in failures)


def test_the_cost_of_saving_is_measured(tmp_path):
    outcome = saving.time_of_saving(Scale(quick=True), tmp_path)
    assert outcome.tried == 1
    assert outcome.measured["parameters"] == 2_966_144
    assert outcome.measured["worst_ms"] >= outcome.measured["median_ms"] > 0
    assert 35 < outcome.measured["megabytes"] < 37
