"""The zoo itself: its bugs apply, are complete, and are caught; what they do is put into words rightly."""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.verification.bugs import BUGS, FAMILIES, hunt, page, symptom
from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.bugs.experiment import find, measure
from mini_bert.verification.bugs.injected import DEFAULT_SUITE, Outcome, run_tests
from mini_bert.verification.injection import edited_sources

ROOT = Path(__file__).parents[2]
every_bug = pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())

QUICK = ("softmax-backward-diagonal", "transpose-when-needed")
"""Caught by tests that take a moment: one by its gradient, one on import."""


def test_there_are_at_least_fifty() -> None:
    assert len(BUGS) >= 50


def test_names_are_unique_and_in_kebab_case() -> None:
    names = [bug.name for family in FAMILIES for bug in family.BUGS]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name), name


def test_families_have_headings_of_their_own() -> None:
    headings = [family.FAMILY for family in FAMILIES]
    assert len(set(headings)) == len(headings)
    assert {bug.family for bug in BUGS.values()} <= set(headings)


@every_bug
def test_each_edit_applies_exactly_once_and_the_result_compiles(bug: Bug) -> None:
    for path, source in edited_sources(bug.edits).items():
        assert source != (ROOT / "mini_bert" / path).read_text(encoding="utf-8")
        ast.parse(source, path)


@every_bug
def test_each_bug_is_small(bug: Bug) -> None:
    """So small that one reads it at a glance."""
    changed = [line for line in bug.difference(0).splitlines() if re.match(r"[+-](?![+-]{2} )", line)]
    assert 1 <= len(changed) <= 24


@every_bug
def test_each_field_is_filled(bug: Bug) -> None:
    assert len(bug.seen) > 30
    assert 3 <= len(re.findall(r"[.?!:;](?= |$)", bug.lesson)) <= 16
    assert bug.title[0].isupper() or bug.title[0] in "“εβγμ0123456789["
    assert not bug.title.endswith(".")
    assert bug.place.strip()
    assert bug.family


@every_bug
def test_the_test_that_catches_it_is_there(bug: Bug) -> None:
    path, _, function = bug.caught_by.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {part.partition("[")[0] for part in function.split("::")} <= names


@pytest.mark.slow
def test_the_tests_that_catch_them_are_collected_by_the_default_suite() -> None:
    named = sorted({bug.caught_by for bug in BUGS.values()})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *DEFAULT_SUITE, *named]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    collected = {line for line in done.stdout.splitlines() if "::" in line}
    assert sorted(set(named) - collected) == []


@pytest.mark.parametrize("name", QUICK)
def test_a_bug_is_caught_and_its_place_named(name: str) -> None:
    bug = find(name)
    tests = run_tests(name, bug.caught_by)
    assert list(tests.failed) == [bug.caught_by]
    assert hunt.names_the_place(bug, tests.failed[bug.caught_by])


def test_without_a_bug_the_same_tests_pass() -> None:
    tests = run_tests(None, *(find(name).caught_by for name in QUICK))
    assert tests == Outcome({}, len(QUICK), True)


@pytest.mark.nightly
@every_bug
def test_every_bug_is_caught_by_its_test(bug: Bug) -> None:
    tests = run_tests(bug.name, bug.caught_by)
    assert bug.caught_by in tests.failed
    assert hunt.names_the_place(bug, tests.failed[bug.caught_by])


def test_nothing_of_the_code_under_test_is_imported_before_a_bug_is_injected() -> None:
    code = "import sys, mini_bert.verification.bugs.injected; print(*(m for m in sys.modules if 'mini_bert.' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    edited = {edit.path.removesuffix(".py").replace("/", ".") for bug in BUGS.values() for edit in bug.edits}
    assert edited
    imported = {module.removeprefix("mini_bert.") for module in done.stdout.split()}
    assert sorted(edited & imported) == []


def test_a_test_that_cannot_be_found_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match=r"(?s)tests: got .*no_such_file"):
        run_tests(None, "tests/no_such_file.py")


@pytest.mark.parametrize("words", [[], ["mask-inverted"], ["--", "-q"]], ids=["none", "no dashes", "no name"])
def test_the_runner_explains_itself(words: list[str]) -> None:
    command = [sys.executable, "-m", "mini_bert.verification.bugs.injected", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mini_bert.verification.bugs.injected mask-inverted -- tests/ops -q" in done.stderr


@pytest.mark.parametrize("module", ["hunt", "injected", "experiment"])
def test_a_runner_refuses_an_unknown_name_in_one_line(module: str) -> None:
    command = [
        sys.executable,
        "-m",
        f"mini_bert.verification.bugs.{module}",
        "mask-inverse",
        *(["--", "-q"] if module == "injected" else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"{module}: NAME: got 'mask-inverse'; expected a bug of the zoo. Did you mean 'mask-inverted'?\n"
    )


@pytest.mark.parametrize("name", ["mask-inverse", "none", ""])
def test_an_unknown_name_is_an_error_with_the_nearest(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"NAME: got .*expected a bug of the zoo.*mask-inverted"):
        find(name)


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def right() -> dict[str, Any]:
    return measure(None)


@pytest.mark.slow
def test_without_a_bug_nothing_is_off(right: dict[str, Any]) -> None:
    assert symptom.gradient_errors(right) == symptom.result_errors(right) == {}
    training = right["training"]
    assert training["stopped"] is None
    assert training["same_bits"] is True
    assert training["steps"] == list(range(10, 601, 10))
    losses = dict(training["held_out"])
    assert losses[0] == pytest.approx(math.log(512), abs=0.05)
    assert losses[600] < 5.1
    assert len(right["model"]["gradients"]["masked_lm"]) == 5 + 2 * 16 + 5
    assert len(right["model"]["gradients"]["nsp"]) == 5 + 2 * 16 + 4


@pytest.mark.slow
def test_with_a_bug_it_is_seen_what_is_off(right: dict[str, Any]) -> None:
    cut = measure("gradient-cut-at-embedding")
    assert list(symptom.gradient_errors(cut)) == ["token_embeddings"]
    assert symptom.result_errors(cut) == {}
    scaled = measure("scale-missing")
    assert symptom.gradient_errors(scaled) == {}
    assert "attention" in symptom.result_errors(scaled)
    assert "as good as" in str(symptom.seen(right, scaled, symptom.USUAL_NOISE))


@pytest.mark.slow
def test_what_does_not_run_is_a_symptom_too(right: dict[str, Any]) -> None:
    said = str(symptom.seen(right, measure("mask-on-queries"), symptom.USUAL_NOISE))
    assert said.startswith("Training does not begin: ValueError: could not broadcast")


# --- in words ---------------------------------------------------------------------------------------------------------


def measured(**changes: Any) -> dict[str, Any]:
    training = {
        "steps": [10, 20, 30],
        "losses": [6.0, 5.5, 5.0],
        "held_out": [[0, 6.2], [30, 5.0]],
        "resumed": [5.0],
        "same_bits": True,
        "stopped": None,
    }
    errors = {
        "operations": {"linear": {"definition": 0.0, "gradient": 1e-16}, "gelu": {"definition": 0.0, "gradient": 0.0}},
        "model": {"results": {"the training loss": 0.0}, "gradients": {"masked_lm": {"W": 1e-15, "b": 0.0}, "nsp": {}}},
    }
    return {
        **errors,
        **{key: changes.pop(key) for key in tuple(errors) if key in changes},
        "training": {**training, **changes},
    }


WORDS = {
    "nothing": ({}, "Training is the same to the last digit; gradients and results are right."),
    "as good": (
        {"losses": [6.0, 5.5, 5.1], "held_out": [[0, 6.2], [30, 5.1]]},
        "Loss as good as without (5.10 on held-out text, 5.00 without); gradients and results are right.",
    ),
    "worse": (
        {"losses": [6.0, 5.9, 5.8], "held_out": [[0, 6.2], [30, 5.9]]},
        "Held-out loss 5.90 instead of 5.00 after 30 steps; gradients and results are right.",
    ),
    "better": (
        {"losses": [6.0, 4.9, 3.8], "held_out": [[0, 6.2], [30, 3.9]]},
        "Held-out loss 3.90 instead of 5.00 after 30 steps, too good to be true; gradients and results are right.",
    ),
    "another beginning": (
        {"losses": [0.9, 0.8, 0.7]},
        "Training begins at a loss of 0.90 instead of 6.00, "
        "loss as good as without (5.00 on held-out text, 5.00 without); gradients and results are right.",
    ),
    "no number": (
        {"held_out": [[0, 6.2], [30, None]]},
        "Held-out loss is no number after 30 steps; gradients and results are right.",
    ),
    "does not begin": (
        {"steps": [], "losses": [], "held_out": [], "stopped": "ValueError: no"},
        "Training does not begin: ValueError: no; gradients and results are right.",
    ),
    "stops": (
        {"steps": [10], "losses": [6.0], "held_out": [[0, 6.2]], "stopped": "NonFiniteError: loss"},
        "Training stops after step 10: NonFiniteError: loss; gradients and results are right.",
    ),
    "resumes elsewhere": (
        {"same_bits": False, "resumed": [5.25]},
        "Training is the same to the last digit, a run that was resumed goes another way, by up to 0.25 nats; "
        "gradients and results are right.",
    ),
    "does not resume": (
        {"same_bits": None, "resumed": [], "stopped": "CheckpointError: it"},
        "Training is the same to the last digit, going on from a checkpoint fails: CheckpointError: it; "
        "gradients and results are right.",
    ),
    "gradients": (
        {"model": {"results": {}, "gradients": {"masked_lm": {"W": 0.02, "b": 0.714, "c": 0.0}}}},
        "Training is the same to the last digit; gradient of b off by 71 %, as is one more; results are right.",
    ),
    "a gradient of an operation alone": (
        {"operations": {"tanh": {"definition": 0.0, "gradient": None}}},
        "Training is the same to the last digit; gradient of tanh is no number; results are right.",
    ),
    "results": (
        {"operations": {"gelu": {"definition": 4e-4, "gradient": 0.0}}},
        "Training is the same to the last digit; gradients agree with the wrong forward pass; "
        "gelu off by 4e-04 beside the definition.",
    ),
    "a result that fails": (
        {"model": {"results": {"the training loss": "KeyError: 3"}, "gradients": {"nsp": "KeyError: 3"}}},
        "Training is the same to the last digit; gradient of the nsp check fails (KeyError: 3); "
        "the training loss fails (KeyError: 3).",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), WORDS.values(), ids=WORDS.keys())
def test_a_symptom_in_words(changes: dict[str, Any], expected: str) -> None:
    assert str(symptom.seen(measured(), measured(**changes), noise=0.05)) == expected


def test_a_process_that_dies_is_a_symptom() -> None:
    assert str(symptom.seen(measured(), {"crash": "Killed"}, 0.05)) == "The process ends with Killed."


def test_the_noise_is_the_standard_deviation_of_the_last_held_out_loss() -> None:
    ends = [measured(held_out=[[30, loss]]) for loss in (4.0, 5.0, 6.0)]
    assert symptom.noise_of(ends) == pytest.approx(1.0)


# --- the hunt and its page --------------------------------------------------------------------------------------------


@pytest.fixture
def hunted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hunt after three bugs whose tests and measurements are made up; the second one survives."""
    names = ("mask-inverted", "scale-missing", "key-value-swapped")
    asked: list[str | None] = []

    def tests(name: str | None, *arguments: str, seconds: float) -> Outcome:
        if name is None or name == names[1]:
            return Outcome({}, 10, True)
        return Outcome(
            {BUGS[name].caught_by: f"E  assert {BUGS[name].place} == 1", "tests/x.py::test_y": "E  no"}, 8, True
        )

    def measurement(name: str | None, seed: int = 0) -> dict[str, Any]:
        asked.append(name)
        return measured(held_out=[[0, 6.2], [30, 5.0 + 0.01 * seed + 0.9 * (name == names[0])]])

    monkeypatch.setattr(hunt, "run_tests", tests)
    monkeypatch.setattr(hunt, "measure", measurement)
    monkeypatch.setattr(hunt.picture, "draw", lambda results, path: path)
    assert hunt.main([*names, "--docs", str(tmp_path)]) == 1
    assert asked.count(None) == hunt.SEEDS
    return tmp_path


def test_a_hunt_writes_down_what_is_caught_and_what_is_not(hunted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = json.loads((hunted / "results" / "bug-zoo.json").read_text())
    assert list(results["bugs"]) == ["mask-inverted", "scale-missing", "key-value-swapped"]
    first, second = results["bugs"]["mask-inverted"], results["bugs"]["scale-missing"]
    assert hunt.is_caught(first)
    assert not hunt.is_caught(second)
    assert first["killing_tests"] == 2
    assert first["others"] == ["tests/x.py::test_y"]
    assert first["said"] == "assert attention-padding == 1"
    assert first["symptom"].startswith("Held-out loss 5.90 instead of 5.00 after 30 steps")
    assert results["without"]["noise"] == pytest.approx(0.0129, abs=1e-4)


def test_a_hunt_for_what_changed_takes_up_what_is_missing_changed_or_alive(
    hunted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = hunted / "results" / "bug-zoo.json"
    results = json.loads(keep.read_text())
    results["bugs"]["key-value-swapped"]["fingerprint"] = "another"
    keep.write_text(json.dumps(results))
    taken: list[str] = []

    def only_note(names: list[str], known: dict[str, Any], path: Path) -> dict[str, Any]:
        taken.extend(names)
        return known

    monkeypatch.setattr(hunt, "hunt", only_note)
    hunt.main(["--changed", "--docs", str(hunted)])
    assert set(taken) == BUGS.keys() - {"mask-inverted"}


def test_the_page_shows_change_lesson_source_symptom_and_test(hunted: Path) -> None:
    text = (hunted / "bug-zoo.md").read_text()
    assert "3 real bugs of transformer code" in text
    assert "2 of 3 are caught" in text
    for name in ("mask-inverted", "scale-missing", "key-value-swapped"):
        bug = BUGS[name]
        assert f"### {name}\n\n**{bug.title}.**\n\n```diff\n+++ b/mini_bert/" in text
        assert page.linked(bug.lesson) in text
        assert f"`{bug.caught_by}`" in text
    assert "[nyu-mll/jiant #465](https://github.com/nyu-mll/jiant/issues/465)" in text
    assert "- **Measured:** Held-out loss 5.90 instead of 5.00 after 30 steps" in text
    assert text.count("\n### ") == len(BUGS)


@pytest.mark.reference
def test_the_picture_has_a_panel_for_each_bug(hunted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    results = json.loads((hunted / "results" / "bug-zoo.json").read_text())
    drawn = [hunt.picture.draw(results, hunted / f"{number}.svg").read_text() for number in range(2)]
    assert drawn[0] == drawn[1]
    for name in results["bugs"]:
        assert f">{name}<" in drawn[0]


def test_no_picture_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="results"):
        hunt.picture.draw({}, tmp_path / "nothing.svg")
