"""R15 in small: threads, ranks, hosts, and the death of a rank; and that the experiments notice when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_bert.verification.reliability import ranks, two_hosts
from mini_bert.verification.reliability.promise import Experiment, Scale
from mini_bert.verification.reliability.subject import Ended

WITHOUT_MPI = [experiment for experiment in ranks.EXPERIMENTS if not experiment.needs]
WITH_MPI = [experiment for experiment in ranks.EXPERIMENTS if experiment.needs]


def name_of(experiment: Experiment) -> str:
    return experiment.name.split(":")[0]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", WITHOUT_MPI, ids=name_of)
def test_threads(experiment: Experiment, tmp_path: Path) -> None:
    outcome = experiment.run(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("experiment", WITH_MPI, ids=name_of)
def test_ranks(experiment: Experiment, tmp_path: Path) -> None:
    outcome = experiment.run(Scale(quick=True), tmp_path)
    if "not_possible" not in outcome.measured:
        assert outcome.kept, outcome.failures


def test_without_root_two_hosts_are_not_counted_as_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_hosts.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(two_hosts.Subject, "train", lambda self: Ended(0, {}, ""))
    outcome = two_hosts.two_hosts(Scale(quick=True), tmp_path)
    assert outcome.tried == 0
    assert not outcome.kept
    assert "root" in outcome.measured["not_possible"]
