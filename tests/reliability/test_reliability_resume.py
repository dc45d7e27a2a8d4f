"""The experiments about resuming keep their promises, and notice when the code does not."""

from __future__ import annotations

import pytest

from mini_bert.optim.optimizer import OPTIMIZERS
from mini_bert.verification.reliability import resume
from mini_bert.verification.reliability.promise import Scale


@pytest.mark.slow
@pytest.mark.parametrize("experiment", resume.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_promises_about_resuming(experiment, tmp_path):
    outcome = experiment.run(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_a_resume_that_is_another_run_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "TELLING", (4,))
    monkeypatch.setattr(resume, "KINDS", {"adamw": {}})
    train = resume.Subject.train

    def with_another_seed(self, *, resume=None, **options):
        ended = train(self, resume=resume, **options)
        return ended._replace(result={**ended.result, "sha256": "other"}) if resume else ended

    monkeypatch.setattr(resume.Subject, "train", with_another_seed)
    outcome = resume.resume_anywhere(Scale(quick=True), tmp_path)
    assert (outcome.tried, len(outcome.failures)) == (1, 1)


def test_every_optimizer_is_stopped_and_resumed():
    tried = {settings.get("optimizer__name", "adamw") for settings in resume.KINDS.values()}
    around = {name for settings in resume.KINDS.values() for name in settings}
    assert tried == set(OPTIMIZERS)
    assert {"optimizer__lookahead", "optimizer__ema_decay"} <= around
