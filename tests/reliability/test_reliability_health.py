"""The experiments of R13 with small counts; and that they notice when what they try is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mini_bert.training.loop as loop
import mini_bert.training.step as step_module
from mini_bert.config.load import load_config
from mini_bert.training.course import Good
from mini_bert.training.health import Health
from mini_bert.training.non_finite import find_non_finite
from mini_bert.verification.reliability import bad_numbers, health
from mini_bert.verification.reliability.promise import Outcome, Scale

QUICK = Scale(quick=True)


def test_bad_numbers(tmp_path: Path) -> None:
    outcome = bad_numbers.bad_numbers(QUICK, tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried >= 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment", [health.five_in_a_row, health.spikes, health.rollback, health.rollback_and_resume]
)
def test_whole_trainings(experiment: Any, tmp_path: Path) -> None:
    outcome = experiment(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


def test_there_are_as_many_injections_as_promised() -> None:
    config = load_config(["training/debugging"], {"train.steps": 10})
    assert len(list(bad_numbers._injections(config))) >= 200


# --- an experiment that cannot fail proves nothing


def failures(outcome: Outcome) -> str:
    assert not outcome.kept
    return "\n".join(outcome.failures)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_that_updates_all_the_same_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(step_module.math, "isfinite", lambda value: True)
    assert "parameters or moments changed" in failures(bad_numbers.bad_numbers(QUICK, tmp_path))


def test_a_wrong_name_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def one_too_late(*arguments: Any, **constants: Any) -> Any:
        found = find_non_finite(*arguments, **constants)
        return found._replace(name=found.name.replace("layer_0", "layer_1"))

    monkeypatch.setattr(step_module, "find_non_finite", one_too_late)
    assert "found NonFinite(name='layer_1" in failures(bad_numbers.bad_numbers(QUICK, tmp_path))


@pytest.mark.slow
def test_a_lost_offset_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it the run meets the same batches again."""
    ordinary = Health.rolled_back

    def rolled_back(self: Health, from_step: int, to_step: int, saved: Any = None) -> None:
        ordinary(self, from_step, to_step, saved)
        self.batch_offset = 0

    monkeypatch.setattr(Health, "rolled_back", rolled_back)
    assert "met [23, 23" in failures(health.rollback(QUICK, tmp_path))


@pytest.mark.slow
def test_a_state_saved_too_late_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ordinary = loop._give_up

    def give_up(course: Any, remedy: Any, journal: Any) -> None:
        course.good = Good(course.state.step, course.progress, course.health)
        ordinary(course, remedy, journal)

    monkeypatch.setattr(loop, "_give_up", give_up)
    assert "went on at step 6" in failures(health.five_in_a_row(QUICK, tmp_path))
