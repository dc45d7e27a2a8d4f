"""Studies survive kills; a trial that is lost, doubled or different is noticed."""

from __future__ import annotations

import pytest

from mini_bert.studies.result import Trial
from mini_bert.verification.reliability import killed_studies
from mini_bert.verification.reliability.promise import Outcome, Scale


@pytest.mark.slow
@pytest.mark.reference  # optuna
@pytest.mark.parametrize("experiment", [killed_studies.killed_studies, killed_studies.killed_search])
def test_a_study_survives_its_kills(experiment, tmp_path):
    outcome = experiment(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def trial(piece, **changes):
    values = {"settings": {}, "begins": "nothing", "status": "done", "steps": 9, "step": 9, "loss": 4.5, "sha256": "f"}
    return Trial(**{"key": piece, "piece": piece, "seed": 0, **values, **changes})


A, B = trial("a"), trial("b")
ENDED = [("a", "COMPLETE"), ("b", "FAIL"), ("b", "COMPLETE")]


@pytest.mark.parametrize(
    ("trials", "seen", "journal", "said"),
    [
        ([A, B], [A], ENDED, []),
        ([trial("a", seconds=7.0, peak_bytes=1), B], [], ENDED, []),
        ([A], [], ENDED, ["lost {('b', 0)}"]),
        ([A, A, B], [], ENDED, ["doubled"]),
        ([A, trial("b", sha256="e")], [], ENDED, ["another end of b, seed 0"]),
        ([A, B], [trial("a", seconds=3.0)], ENDED, ["before a kill"]),
        ([A, B], [], [*ENDED, ("c", "RUNNING")], ["RUNNING"]),
        ([A, B], [], [*ENDED, ("a", "COMPLETE")], ["completed twice"]),
    ],
)
def test_what_a_kill_could_do_is_noticed(trials, seen, journal, said):
    outcome = Outcome()
    killed_studies.compare(outcome, "here", [A, B], seen, trials, journal)
    assert len(outcome.failures) == len(said), outcome.failures
    assert all(words in failure for words, failure in zip(said, outcome.failures, strict=True))
