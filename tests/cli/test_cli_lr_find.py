"""lr-find, before step 1 and from a run, on a small text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mini_bert.cli import main

NOUNS = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee", "ant", "elk"]
SMALL = ["--config", "training/debugging", "--model.vocab-size", "120", "--corpus", "text.txt", "--threads", "1"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """An empty folder to work in, with a text in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    lines = [
        f"The {NOUNS[i % 10]} number {i % 37} sat on the {NOUNS[i * 7 % 10]}, and then it ran away." for i in range(400)
    ]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_draws_the_curve_and_proposes_a_rate(here: Path, capsys: Any) -> None:
    before = files(here)
    assert main(["lr-find", *SMALL, "--steps", "60"]) == 0
    out, err = capsys.readouterr()
    assert "adamw, 8 rows a step" in out
    assert "•" in out
    assert "▲ proposed" in out
    assert "Proposed: --train.lr" in out
    assert "raising the rate" in err
    assert "raising" not in out
    assert files(here) == before


def test_from_a_run_it_looks_on_and_changes_nothing(here: Path, capsys: Any) -> None:
    assert main(["pretrain", *SMALL, "--train.steps", "10", "--run", "first"]) == 0
    before = files(here)
    capsys.readouterr()
    code = main(["lr-find", "first", "--steps", "30", "--from", "1e-5", "--to", "0.1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (1 if found["proposal"]["lr"] is None else 0)
    assert found["points"][0]["lr"] == pytest.approx(1e-5)
    assert found["points"][0]["loss"] < 4.7  # ln 120 is 4.79
    assert files(here) == before


def test_a_curve_that_says_nothing_is_exit_code_1(here: Path, capsys: Any) -> None:
    assert main(["lr-find", *SMALL, "--from", "1e-9", "--to", "1e-8", "--steps", "30"]) == 1
    assert "No rate is proposed." in capsys.readouterr().out


@pytest.mark.reference
def test_out_writes_the_curve_and_its_picture(here: Path, capsys: Any) -> None:
    assert main(["lr-find", *SMALL, "--steps", "60", "--out", "found"]) == 0
    assert sorted(path.name for path in (here / "found").iterdir()) == ["learning_rate.json", "learning_rate.svg"]
    assert json.loads((here / "found" / "learning_rate.json").read_text())["proposal"]["lr"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "0"], "--from, --to"),
        (["--from", "1", "--to", "0.1"], "--from, --to"),
        (["--steps", "3"], "--steps"),
        (["nobody"], "MODEL"),
        (["--train.lr", "-1"], "train.lr"),
    ],
)
def test_refused(here: Path, capsys: Any, words: list[str], said: str) -> None:
    assert main(["lr-find", *SMALL, *words]) == 2
    assert said in capsys.readouterr().err
