from __future__ import annotations

import json
from typing import Any

import pytest

from mini_bert.cli import main
from mini_bert.verification.bugs import BUGS, experiment, injected
from mini_bert.verification.bugs.injected import Outcome


def test_list_names_every_bug_under_its_family(capsys):
    assert main(["bugs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(BUGS)
    assert lines[0] == "Attention:"
    assert lines.count("Dropout:") == 1


def test_list_as_json_has_all_that_is_known(capsys):
    assert main(["bugs", "list", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in described] == list(BUGS)
    for entry in described:
        assert {"title", "seen", "lesson", "place", "caught_by", "family", "difference"} < entry.keys()
        assert entry["difference"].startswith("--- a/mini_bert/")


def test_show_prints_the_change_and_what_is_known(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["bugs", "show", "softmax-backward-diagonal"]) == 0
    out = capsys.readouterr().out
    bug = BUGS["softmax-backward-diagonal"]
    assert out.startswith(f"{bug.name}: {bug.title}\n\n--- a/mini_bert/ops/softmax.py\n")
    assert "-    dx = dprobs - row_dots(dprobs, probs)\n+    dx = dprobs * (1.0 - probs)\n" in out
    assert "libnd4j #440" in out
    assert f"names softmax\n  {bug.caught_by}\n" in out
    assert max(len(line) for line in out.partition("Why")[2].splitlines() if "::" not in line) <= 80
    assert main(["bugs", "show", bug.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lesson"] == bug.lesson


@pytest.mark.parametrize("verb", ["show", "run"])
def test_an_unknown_name_is_refused_with_the_nearest(capsys, verb):
    assert main(["bugs", verb, "mask-inverse"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "NAME: got 'mask-inverse'; expected a bug of the zoo. Did you mean 'mask-inverted'?" in err


def measured(name: str | None, seed: int = 0) -> dict[str, Any]:
    wrong = name is not None
    return {
        "operations": {"attention": {"definition": 0.5 * wrong, "gradient": None if wrong else 0.0}},
        "model": {"results": {}, "gradients": {"masked_lm": {f"W_{i}": 0.1 * i * wrong for i in range(11)}}},
        "training": {
            "steps": [10, 20],
            "losses": [6.0, 5.0 + 0.5 * wrong],
            "held_out": [[0, 6.2], [20, 5.0 + wrong]],
            "resumed": [5.0 + wrong],
            "same_bits": True,
            "stopped": None,
        },
    }


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(experiment, "measure", measured)

    def tests(name: str | None, *arguments: str, seconds: float = 0.0) -> Outcome:
        return (
            Outcome({}, 1, True) if name is None else Outcome({arguments[0]: "E   assert 1 == 2\nE    more"}, 0, True)
        )

    monkeypatch.setattr(injected, "run_tests", tests)


def test_run_shows_curves_errors_symptom_and_test(capsys, made_up):
    assert main(["bugs", "run", "mask-inverted"]) == 0
    out, err = capsys.readouterr()
    assert "without  6.20  5.00\n  with     6.20  6.00\n" in out
    assert "  W_10                       100 %  ████████████████████\n" in out
    assert "  and 2 more, down to 10 %\n" in out
    assert "  attention                   50 %  ██████████\n" in out
    assert "Held-out loss 6.00 instead of 5.00 after 20 steps; gradient of W_10 off by" in out
    assert "fails with the bug and passes without it.\n  It says: assert 1 == 2\n" in out
    assert "Training and checking without and with mask-inverted" in err


def test_run_as_json(capsys, made_up):
    assert main(["bugs", "run", "mask-inverted", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bug"]["name"] == "mask-inverted"
    assert result["without"]["held_out"][-1] == [20, 5.0]
    assert result["with"]["held_out"][-1] == [20, 6.0]
    assert result["results"] == {"attention": 0.5}
    assert result["test"]["caught"] is True


def test_a_bug_that_its_test_does_not_catch_is_exit_code_1(capsys, made_up, monkeypatch):
    monkeypatch.setattr(injected, "run_tests", lambda *_, **__: Outcome({}, 1, True))
    assert main(["bugs", "run", "mask-inverted"]) == 1
    assert "PASSES with the bug and passes without it." in capsys.readouterr().out


def test_without_the_repository_it_says_that_no_test_was_run(capsys, made_up, monkeypatch):
    monkeypatch.setattr(injected, "tests_are_here", lambda: False)
    assert main(["bugs", "run", "mask-inverted"]) == 0
    assert "was not run: this package was installed without its tests" in capsys.readouterr().out


def test_a_process_that_dies_is_shown(capsys, made_up, monkeypatch):
    monkeypatch.setattr(experiment, "measure", lambda name: measured(None) if name is None else {"crash": "Killed"})
    assert main(["bugs", "run", "mask-inverted"]) == 0
    assert "The process ends with Killed." in capsys.readouterr().out


@pytest.mark.slow
def test_run_in_earnest(capsys):
    assert main(["bugs", "run", "tied-gradient-lookup-only", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert next(iter(result["gradients"])) == "token_embeddings"
    assert result["results"] == {}
    assert result["test"] == {**result["test"], "fails_with": True, "passes_without": True, "caught": True}
