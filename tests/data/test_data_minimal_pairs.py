"""Minimal pairs as their files say, and files that say something else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mini_bert.data.task_sets import minimal_pairs
from mini_bert.data.task_sets.minimal_pairs import gulordava, linzen, pairs_of_folder, published_pairs
from mini_bert.errors import DataError, InvalidInputError


def line(good="She runs.", bad="She run.", **more) -> str:
    return json.dumps({"sentence_good": good, "sentence_bad": bad, **more})


def folder_of(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    named = line(UID="p1", linguistics_term="s-selection", field="syntax")
    found = pairs_of_folder(folder_of(tmp_path, b=f"{named}\n\n{line('A', 'B', UID='p1')}\n", a=line("Ä", "Ö")))
    assert [tuple(pair) for pair in found] == [
        ("Ä", "Ö", "a", "a", ""),
        ("She runs.", "She run.", "p1", "argument_structure", ""),
        ("A", "B", "p1", "p1", ""),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no pair in any"),
        ('{"sentence_good": "A"}', r"a.jsonl:1: .*sentence_good, sentence_bad"),
        (line() + "\nnot JSON", r"a.jsonl:2"),
        (line("A", " "), "pair 1: .*two sentences"),
        (line("A", 3), "two sentences"),
        ("[1]", "a JSON object"),
    ],
)
def test_files_that_are_not_as_they_should_be(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        pairs_of_folder(folder_of(tmp_path, a=text))


def test_no_folder_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        pairs_of_folder(tmp_path / "x")
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="UTF-8"):
        pairs_of_folder(tmp_path)
    with pytest.raises(InvalidInputError, match="Did you mean 'blimp'"):
        published_pairs("blmp")


def given_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, gold: str) -> None:
    (tmp_path / "text").write_text(text)
    (tmp_path / "gold").write_text(gold)
    monkeypatch.setattr(minimal_pairs, "fetched", lambda *names: [tmp_path / "text", tmp_path / "gold"])


def test_linzen_puts_both_forms_in_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given_files(
        monkeypatch, tmp_path, "the keys to it are here . <eos>\nit is . <eos>\n", "4\tare\tis\t1\n1\tis\tare\t0"
    )
    assert [tuple(pair) for pair in linzen()] == [
        ("the keys to it are here .", "the keys to it is here .", "1 attractor", "agreement", ""),
        ("it is .", "it are .", "0 attractors", "agreement", ""),
    ]


def test_gulordava_puts_the_right_verb_where_the_file_has_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gold = "P\t3\t{}\t1\tVERB\tTense=Pres\tsees\tsee\tsee\t0\tNOUN\tIt\n"
    given_files(monkeypatch, tmp_path, "It eats well <eos>\nShe sees it <eos>\n", gold.format(7) + gold.format(0))
    assert [tuple(pair) for pair in gulordava()] == [
        ("It sees well", "It see well", "P, nonsense", "P", "P 3"),
        ("She sees it", "She see it", "P, original", "P", "P 3"),
    ]


@pytest.mark.parametrize(
    ("gold", "words"),
    [
        ("9\tare\tis\t1\n", "number of a word"),
        ("x\tare\tis\t1\n", "place 'x'"),
        ("1\tis\tare\t0\n" * 2, "1, as text has"),
    ],
)
def test_files_that_do_not_fit_each_other(monkeypatch, tmp_path: Path, gold: str, words: str) -> None:
    given_files(monkeypatch, tmp_path, "it is . <eos>\n", gold)
    with pytest.raises(DataError, match=words):
        linzen()


@pytest.mark.data
def test_the_published_sets_are_whole() -> None:
    blimp = published_pairs("blimp")
    assert set(Counter(pair.paradigm for pair in blimp).values()) == {1000}
    assert len({pair.paradigm for pair in blimp}) == 34
    assert len({pair.phenomenon for pair in blimp}) == 10, "of the paper's twelve"
    attractors = Counter(pair.paradigm for pair in published_pairs("linzen"))
    assert [attractors[f"{n} attractor{'s' * (n != 1)}"] for n in range(5)] == [1972, 1957, 1943, 1287, 330]
    items = published_pairs("gulordava")
    assert len(items) == 410
    assert set(Counter(pair.group for pair in items).values()) == {10}
    assert sum("original" in pair.paradigm for pair in items) == 41
    same = [[pair for pair in published_pairs(name) if pair.good == pair.bad] for name in minimal_pairs.PAIR_SETS]
    assert list(map(len, same)) == [2, 4, 0], "pairs that are none, as published: they tie"
    assert not any("<eos>" in pair.good for pair in items)
