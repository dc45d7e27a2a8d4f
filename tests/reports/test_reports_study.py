"""The picture of a study; its page."""

from __future__ import annotations

import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.reports.pages import page
from mini_bert.reports.study import ranked
from mini_bert.reports.study_picture import study_picture

STUDY = {
    "name": "small",
    "question": "Does it help?",
    "notes": ["A note."],
    "extends": ["training/debugging"],
    "settings": {"model.vocab_size": 96},
    "corpus": ["novels"],
    "budget": {"steps": 10, "minutes": None},
    "seeds": [0, 1],
    "start": None,
    "measure": {"first_below": None, "reference": "attention_free"},
    "quick": False,
}


def entry(piece, difference, verdict, **more):
    return {
        "piece": piece,
        "why": f"Why {piece}.",
        "settings": {"train": {"lr": 0.5}, "data.corpus": ["a", "b"]},
        "against": None if verdict == "baseline" else "plain",
        "begins": "nothing",
        "steps": 10,
        "time_ratio": None,
        "memory_ratio": None,
        "problems": {},
        "message": "",
        "seeds": 2,
        "value": 5.0,
        "difference": difference,
        "interval": None if difference is None else [difference - 1, difference + 1],
        "pooled_interval": None if difference is None else [difference - 0.1, difference + 0.1],
        "verdict": verdict,
        **more,
    }


@pytest.fixture
def result():
    curves = {"train_losses": [[5, 5.5], [10, 5.0]], "held_out_losses": [[10, 5.0]]}
    trials = [
        {"piece": p, "seed": s, "settings": {}, "steps": 10, **curves} for p in ("plain", "good", "bad") for s in (0, 1)
    ]
    comparison = [
        entry("bad", 0.5, "hurts"),
        entry("plain", None, "baseline"),
        entry("good", -0.5, "helps"),
        entry("wild", None, "diverged", seeds=0, value=None, message="NaN"),
    ]
    return {"kind": "study", "about": "Does it help?", "study": STUDY, "trials": trials, "comparison": comparison}


def test_the_best_stands_above(result):
    assert [entry["piece"] for entry in ranked(result)] == ["plain", "good", "bad", "wild"]


def test_a_page(result):
    text = page("Studies", [("small.json", result)])
    assert "Does it help?" in text
    assert "| good | 5.000 | −0.500 | −1.500 … +0.500 | −0.600 … −0.400 | — | — | 10 | 2 | helps |" in text
    assert "| good | train.lr 0.5; data.corpus a, b | Why good. |" in text
    assert "- wild: NaN" in text
    assert "- A note." in text


@pytest.mark.reference
def test_the_picture_is_the_same_each_time(result, tmp_path):
    first, second = (study_picture(result, tmp_path / f"{name}.svg").read_text() for name in "ab")
    assert first == second
    assert [label for label in ("plain", "good", "bad", "held-out loss, nats") if f">{label}<" not in first] == []
    assert study_picture(result, tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    timed = {**result, "study": {**STUDY, "measure": {"first_below": 0.3, "reference": "unigram"}}}
    assert "training loss, nats" in study_picture(timed, tmp_path / "d.svg").read_text()


def test_what_cannot_be_drawn(result, tmp_path):
    with pytest.raises(InvalidInputError, match="svg"):
        study_picture(result, tmp_path / "a.gif")
    with pytest.raises(InvalidInputError, match="no trial"):
        study_picture({**result, "trials": []}, tmp_path / "a.svg")
