"""The experiments on prepared texts hold, and each of them fails where the code is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_bert.verification.reliability import data, token_files
from mini_bert.verification.reliability.promise import Scale


def test_damaged_token_files_are_refused(tmp_path: Path) -> None:
    outcome = token_files.damage(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried > 55


@pytest.mark.slow
@pytest.mark.parametrize("experiment", data.EXPERIMENTS, ids=lambda experiment: experiment.run.__name__)
def test_it_holds(experiment: data.Experiment, tmp_path: Path) -> None:
    outcome = experiment.run(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures
