"""`problems_of` finds everything that is wrong, and nothing else; `differences` finds what is not the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_bert.config.compare import configuration_of, differences
from mini_bert.config.load import resolve
from mini_bert.config.presets import preset_names
from mini_bert.config.validate import problems_of

WRONG = """extends: [model/tiny, nosuch.yaml, house.yaml]
model:
  hiden_size: 3
  hidden_size: abc
  vocab-size: 2
train:
  lr: fast
  in_flight: 0
modle: {}
data: 3
environments:
  server:
    train: {batch_size: x, stepss: 3}
  laptop: 3
"""
EXPECTED = [
    ("nosuch.yaml' in ", 1, "no such file or preset"),
    ("train.epochs in ", 1, "unknown setting"),
    ("model.hiden_size in ", 3, "'hidden_size'"),
    ("modle in ", 9, "'model'"),
    ("data in ", 10, "indented beneath"),
    ("train.stepss in ", 13, "'steps'"),
    ("environments.laptop in ", 14, "sections beneath"),
    ("model.hidden_size in ", 4, "'abc'"),
    ("model.vocab_size in ", 5, "at least 6"),
    ("train.lr in ", 7, "'fast'"),
    ("train.in_flight in ", 8, "'auto' or at least 1"),
    ("train.batch_size in ", 13, "'x'"),
]


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_all_problems_of_a_file_are_found_each_with_its_line(write):
    write("train: {epochs: 3}", "house.yaml")
    problems = problems_of(write(WRONG))
    assert len(problems) == len(EXPECTED)
    for name, line, reason in EXPECTED:
        (found,) = [problem for problem in problems if name in problem]
        assert f", line {line}: " in found
        assert reason in found


def test_every_problem_mended_is_one_problem_less(write):
    """Nothing is said because of something else that is wrong."""
    write("train: {epochs: 3}", "house.yaml")
    lines = WRONG.splitlines()
    for line in {line for _, line, _ in EXPECTED} - {1}:
        mended = "\n".join("" if number == line else text for number, text in enumerate(lines, 1))
        expected = sum(other != line for _, other, _ in EXPECTED)
        assert len(problems_of(write(mended))) == expected, line


def test_contradictions_are_found_in_every_section_and_environment(write):
    problems = problems_of(
        write(
            "model: {hidden_size: 190}\nmasking: {mask_share: 0.95}\ntrain: {shards: 8}\n"
            "environments:\n  a:\n    train:\n      batch_size: 2\n  b: {model: {hidden_size: 192}}"
        )
    )
    assert len(problems) == 3
    assert "model.hidden_size in" in problems[0]
    assert "masking.mask_share in" in problems[1]
    assert "train.batch_size in" in problems[2]
    assert "line 7: got 2; expected at least shards, 8" in problems[2]


def test_what_one_file_breaks_and_its_reader_mends_is_no_problem(write):
    write("train: {batch_size: 2}", "house.yaml")
    assert len(problems_of(write("extends: house.yaml\ntrain: {lr: 1}"))) == 1
    assert problems_of(write("extends: house.yaml\ntrain: {shards: 2}")) == []


@pytest.mark.parametrize("text", ["", "- 1", "model: [", "!!python/name:os.system x", "a: &a [*a]"])
def test_what_is_no_configuration_at_all_is_one_problem(write, text):
    assert len(problems_of(write(text))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("masking: {rate_schedule: adaptive, rate: 0.9}", "masking.rate"),
        ("model: {heads: [classifier], num_labels: 2, labels: [a, a]}", "model.labels"),
    ],
)
def test_what_would_be_changed_or_mixed_up_in_silence_is_a_problem(write, text, said):
    (problem,) = problems_of(write(text))
    assert said in str(problem)


@pytest.mark.parametrize("name", preset_names())
def test_presets_have_no_problem(name):
    assert problems_of(name) == []


def test_differences_name_both_values_and_where_they_stand(write):
    found = differences(resolve(["model/tiny"]), resolve([write("extends: model/tiny\nmodel: {hidden_size: 98}")]))
    ((setting, values, origins),) = found
    assert (setting, values) == ("model.hidden_size", (96, 98))
    assert [str(origin).rpartition("/")[2] for origin in origins] == ["tiny", "mine.yaml, line 2"]
    assert differences(resolve(["model/base"]), resolve()) == []  # the default, said aloud


def test_a_configuration_is_a_preset_a_file_a_run_or_its_name(tmp_path):
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("train: {lr: 1}")
    assert configuration_of("first", tmp_path / "runs") == str(run / "config.yaml")
    assert configuration_of(str(run)) == str(run / "config.yaml")
    assert configuration_of(str(run / "config.yaml")) == str(run / "config.yaml")
    for other in ("model/tiny", "nowhere", "a\0b", "x" * 5000):
        assert configuration_of(other, tmp_path / "runs") == other
