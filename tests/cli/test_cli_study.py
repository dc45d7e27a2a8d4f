"""study list, clock, run and show: what they print, what they refuse, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mini_bert.cli import main
from mini_bert.studies.reading import study_names

TEXT = "\n\n".join(f"The cat number {i % 37} sat on the dog, then it ran away from {i % 11} cows." for i in range(900))
STUDY = """
name: mine
question: Does it help?
extends: training/pretraining
corpus: text.txt
settings: {model.vocab_size: 100}
pieces:
  plain: {why: As it is.}
  muon: {settings: {optimizer.name: muon}, why: Another.}
  relu: {settings: {model.hidden-act: relu}, why: Simpler.}
  rate: {settings: {train.lr: 0.002}, why: Higher.}
baseline: plain
budget: {minutes: 2}
"""

LOST = """
name: lost
question: Does it help?
extends: training/debugging
corpus: text.txt
settings: {model.vocab_size: 100}
pieces:
  plain: {why: As it is.}
  lost: {settings: {curriculum.kind: loss, curriculum.reference: nowhere}, why: No reference.}
baseline: plain
budget: {steps: 4}
seeds: [0]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "mine.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list(capsys):
    assert main(["study", "list"]) == 0
    out = capsys.readouterr().out
    assert f"{len(study_names())} studies" in out
    assert "toolbox_final" in out
    assert main(["study", "list", "--json"]) == 0
    assert "plateau" in [study["name"] for study in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nothing.yaml"], ["nothing.yaml", "a study"]),
        (["run", "mine.yaml", "--workers", "0"], ["--workers", "at least 1"]),
        (["run", "mine.yaml", "--threads", "0"], ["--threads", "at least 1"]),
        (["clock", "mine.yaml", "--threads", "0"], ["--threads", "at least 1"]),
        (["run", "begun.yaml"], ["start.model: got 'nowhere'"]),
        (["show", "old.json"], ["format: Input should be 1", "of format 1", "begins anew"]),
        (["show", "half.json"], ["half.json", "Invalid JSON", "of format 1"]),
        (["run", "bad.yaml"], ["optimizer.name", "'moun'", "bad.yaml"]),
        (["run", "lost.yaml"], ["nowhere.txt"]),
        (["run", "mine.yaml", "--out", "taken"], ["taken/mine.json", "the result of"]),
        (["show", "mine"], ["'mine'", "studies"]),
        (["show", "mine.yaml"], ["'mine.yaml'", "a study that has been run"]),
        (["clock", "learning_rat"], ["Did you mean 'learning_rate'?"]),
    ],
)
@pytest.mark.reference
def test_what_is_refused(here, capsys, words, said):
    (here / "bad.yaml").write_text(STUDY.replace("name: muon", "name: moun"))
    (here / "begun.yaml").write_text(STUDY + "start: {model: nowhere}\n")
    (here / "old.json").write_text('{"format": 0}')
    (here / "half.json").write_text('{"format": 1, "trials": [')
    (here / "lost.yaml").write_text(STUDY.replace("text.txt", "nowhere.txt"))
    (here / "taken").mkdir()
    (here / "taken" / "mine.json").write_text("{}")
    assert main(["study", *words]) == 2
    out, err = capsys.readouterr()
    assert [part for part in said if part not in err] == []
    assert "Traceback" not in err
    assert out == ""


def test_what_came_with_the_project_is_shown_by_its_name_and_ones_own_before_it(here, capsys):
    measured = Path(__file__).parents[2] / "docs" / "results" / "studies"
    (here / "docs" / "results").mkdir(parents=True)
    (here / "docs" / "results" / "studies").symlink_to(measured)
    assert main(["study", "show", "toolbox", "--json"]) == 0
    came = (measured / "toolbox.json").read_text()
    assert json.loads(capsys.readouterr().out) == json.loads(came)
    (here / "studies").mkdir()
    own = json.loads(came) | {"about": "What I ask."}
    (here / "studies" / "toolbox.json").write_text(json.dumps(own))
    assert main(["study", "show", "toolbox", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["about"] == "What I ask."


@pytest.mark.reference
@pytest.mark.slow
def test_quick(here, capsys):
    assert main(["study", "run", "mine.yaml", "--quick", "--workers", "2"]) == 0
    out, err = capsys.readouterr()
    assert "mine-quick: 0.3 s a trial, 2 seeds, quick" in out
    assert "6 of 6 trials done" in err
    assert "rate" not in out  # three pieces at most
    result = json.loads((here / "studies" / "mine-quick.json").read_text())
    assert {trial["status"] for trial in result["trials"]} == {"done"}
    assert main(["study", "show", "mine-quick", "--markdown", "--picture", "drawn.svg"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Does it help?\n\n**mine-quick")
    assert (here / "drawn.svg").read_text().startswith("<?xml")
    assert main(["study", "show", "studies/mine-quick.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert main(["study", "clock", "mine.yaml", "--quick"]) == 0  # known already
    assert "beside the baseline's" in capsys.readouterr().out
    assert json.loads((here / "studies" / "mine-quick.json").read_text()) == result


@pytest.mark.reference
@pytest.mark.slow
def test_a_trial_that_failed_is_said_and_is_the_exit_code(here, capsys):
    (here / "lost.yaml").write_text(LOST)
    assert main(["study", "run", "lost.yaml"]) == 1
    told = capsys.readouterr().err
    assert "1 trial failed, the first with:" in told
    assert "nowhere" in told
