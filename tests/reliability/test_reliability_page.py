"""Which experiments there are, what is kept of them, and the page that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mini_bert.verification.reliability import page, record
from mini_bert.verification.reliability.__main__ import main
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

DOCS = Path(__file__).resolve().parents[2] / "docs"


def holds(scale, folder):
    outcome = Outcome(measured={"steps": 40})
    for trial in range(scale.of(full=5, quick=2)):
        outcome.count(True, f"trial {trial}")
    return outcome


def breaks(scale, folder):
    raise RuntimeError("a bug")


HOLDS = Experiment("R1", "that holds", "all well", holds)
BREAKS = Experiment("R2", "that breaks", "all well", breaks)


def test_every_experiment_is_of_a_known_promise_and_has_a_name_of_its_own():
    known = record.experiments()
    assert {experiment.promise for experiment in known} <= page.PROMISES.keys()
    names = [(experiment.promise, experiment.name) for experiment in known]
    assert len(names) == len(set(names))


def test_what_is_recorded(tmp_path):
    made = record.tried(HOLDS, Scale(), tmp_path)
    assert (made["tried"], made["failed"], made["quick"]) == (5, 0, False)
    failed = record.tried(BREAKS, Scale(quick=True), tmp_path)
    assert (failed["tried"], failed["failed"]) == (1, 1)
    assert "RuntimeError: a bug" in failed["failures"][0]
    path = tmp_path / "reliability.json"
    record.keep(path, [made, failed], [HOLDS, BREAKS])
    again = {**made, "tried": 7}
    kept = record.keep(path, [again], [HOLDS])
    assert kept["experiments"] == [again] == json.loads(path.read_text())["experiments"]
    assert "7 of 7" in page.page(kept)
    assert "steps 40" in page.page(kept)


def test_a_broken_promise_has_its_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "experiments", lambda: [HOLDS, BREAKS])
    (tmp_path / "results").mkdir()
    assert main(["R1", "--docs", str(tmp_path)]) == 0
    assert "5 tried, held" in capsys.readouterr().out
    assert main(["--docs", str(tmp_path)]) == 1
    assert "1 FAILED" in capsys.readouterr().out
    assert "0 of 1" in (tmp_path / "reliability.md").read_text()
    assert main(["nothing of the kind"]) == 2


@pytest.mark.slow  # it is behind while experiments are written
def test_the_page_is_what_was_recorded():
    assert (DOCS / "reliability.md").read_text(encoding="utf-8") == page.page(
        record.read(DOCS / "results" / "reliability.json")
    )
