"""The picture of a run."""

from __future__ import annotations

import sys

import pytest

from mini_bert.errors import InvalidInputError, MissingExtraError
from mini_bert.reports.learning_curve import learning_curve

RECORDS = [
    {"kind": "start", "steps": 30},
    *({"kind": "train", "step": s, "loss": 9 - s / 10, "accuracy": s / 100} for s in range(10, 31, 10)),
    {"kind": "train", "step": 40, "loss": None, "accuracy": None},
    {"kind": "evaluation", "step": 30, "loss": 6.5, "top1": 0.2},
]


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="plots"):
        learning_curve(RECORDS, tmp_path / "curve.svg")


def test_refusals(tmp_path):
    with pytest.raises(InvalidInputError, match="path"):
        learning_curve(RECORDS, tmp_path / "curve.jpg")
    with pytest.raises(InvalidInputError, match="records"):
        learning_curve([{"step": 1}], tmp_path / "curve.svg")


@pytest.mark.reference
def test_the_same_records_draw_the_same_file(tmp_path):
    first, second = (
        learning_curve(RECORDS, tmp_path / name, levels={"bigram": 5.17}, title="A run") for name in ("a.svg", "b.svg")
    )
    drawn = first.read_text(encoding="utf-8")
    assert drawn == second.read_text(encoding="utf-8")
    for text in ("A run", "bigram", "held out", "training", "masked accuracy, %"):
        assert text in drawn
    picture = learning_curve(RECORDS, tmp_path / "c.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
