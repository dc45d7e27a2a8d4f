"""What the guide shows is what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mini_bert.cli import main
from mini_bert.config.reference import markdown, values_of
from mini_bert.config.schema import Config

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "configuration.md").read_text(encoding="utf-8")
FILES = {name: text for text, name in re.findall(r"```yaml\n(# (\w+\.yaml)\n.*?)```", GUIDE, re.DOTALL)}
BLOCKS = re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
EXAMPLES = [tuple(example.split("\n", 1)) for block in BLOCKS for example in block.split("$ ")[1:]]


@pytest.mark.parametrize(("command", "shown"), EXAMPLES)
def test_a_command_prints_what_is_shown(command, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    words = shlex.split(command)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("="))
    assert words.pop(0) == "mini-bert"
    main(words)
    printed = "".join(capsys.readouterr())
    expected = ".*".join(map(re.escape, shown.split("…\n")))
    assert re.fullmatch(expected, printed, re.DOTALL), printed


def test_there_are_examples():
    assert set(FILES) == {"mine.yaml", "bad.yaml", "vain.yaml"}
    assert len(EXAMPLES) == 6


def test_the_table_names_every_setting_once():
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| ([^|]+) \| ([^|]+) \|$", markdown(), re.MULTILINE)
    assert [row[0] for row in rows] == [name for settings in Config().to_dict().values() for name in settings]
    assert markdown() in GUIDE


@pytest.mark.parametrize(
    ("section", "setting", "values"),
    [
        ("train", "lr", "number > 0"),
        ("train", "steps", "integer ≥ 1, null"),
        ("train", "in_flight", "auto, integer ≥ 1"),
        ("model", "vocab_size", "integer ≥ 6 and ≤ 1,048,576"),
        ("model", "heads", "list of mlm, nsp, sop, std, rtd, classifier, token_classifier"),
        ("tokenizer", "strip_accents", "true, false, null"),
        ("data", "corpus", "list of texts"),
        ("run", "seed", "integer ≥ 0 and < 2^64"),
        ("run", "name", "text, null"),
    ],
)
def test_values_are_described(section, setting, values):
    assert values_of(type(getattr(Config(), section)).model_fields[setting]) == values
