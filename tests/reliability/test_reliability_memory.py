"""R19, quick."""

from __future__ import annotations

import pytest

from mini_bert.verification.reliability import memory
from mini_bert.verification.reliability.promise import Scale


@pytest.mark.slow
@pytest.mark.parametrize("experiment", memory.EXPERIMENTS, ids=lambda experiment: experiment.run.__name__)
def test_promises_about_memory(experiment, tmp_path):
    outcome = experiment.run(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures
