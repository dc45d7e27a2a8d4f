"""The experiments about resuming keep their promises, and notice when the code does not."""

from __future__ import annotations

import pytest

from mini_bert.verification.reliability import resume
from mini_bert.verification.reliability.promise import Scale


@pytest.mark.slow
@pytest.mark.parametrize("experiment", resume.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_promises_about_resuming(experiment, tmp_path):
    outcome = experiment.run(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_a_resume_that_is_another_run_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "TELLING", (4,))
    train = resume.Subject.train

    def with_another_seed(self, *, resume=None, **options):
        ended = train(self, resume=resume, **options)
        return ended._replace(result={**ended.result, "sha256": "other"}) if resume else ended

    monkeypatch.setattr(resume.Subject, "train", with_another_seed)
    outcome = resume.resume_anywhere(Scale(quick=True), tmp_path)
    assert (outcome.tried, len(outcome.failures)) == (1, 1)
