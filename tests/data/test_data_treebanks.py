"""Are the words and tags of a treebank those that were annotated, and is what is none refused by name?"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from mini_bert.data.task_sets import treebanks
from mini_bert.data.task_sets.treebanks import UPOS, TaggedSentence, brown, english_ewt, read_conllu, treebank
from mini_bert.errors import DataError, MissingExtraError


def row(id: str, form: str, tag: str) -> str:
    return "\t".join([id, form, form.lower(), tag, *"______"]) + "\n"


TEXT = (
    "# text = I don't.\n"
    + row("1", "I", "PRON")
    + row("2-3", "don't", "_")
    + row("2", "do", "AUX")
    + row("3", "n't", "PART")
    + row("3.1", "go", "VERB")
    + row("4", ".", "PUNCT")
    + "\n\n# only a comment\n\n"
    + row("1", "a b", "NOUN")
)


def test_ranges_and_empty_nodes_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.conllu").write_text(TEXT, encoding="utf-8")
    assert read_conllu(tmp_path / "x.conllu") == [
        TaggedSentence(("I", "do", "n't", "."), ("PRON", "AUX", "PART", "PUNCT")),
        TaggedSentence(("a b",), ("NOUN",)),
    ]


def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.conllu").write_text(TEXT, encoding="utf-8")
    (tmp_path / "y.conllu").write_bytes(TEXT.replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_conllu(tmp_path / "y.conllu") == read_conllu(tmp_path / "x.conllu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no sentence"),
        (b"# nothing\n\n", "no sentence"),
        (row("1-2", "don't", "_").encode(), "no sentence"),
        (b"the cat sat\n", "sentence from line 1: got Invalid line format"),
        (b"\n\n" + row("x", "a", "DET").encode(), "sentence from line 3: .*not a valid ID"),
        (b"1\ta\n", "no tag in column UPOS of the word 'a'"),
        (row("1", "a", "_").encode(), "no tag in column UPOS of the word 'a'"),
        (row("1", "a", "NN").encode(), "the tag NN in column UPOS of the word 'a'; expected one of ADJ ADP"),
        ("é".encode("latin-1"), "not UTF-8"),
        (b"1\t\0\n", "binary"),
    ],
)
def test_what_is_no_conllu_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.conllu").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_conllu(tmp_path / "x.conllu")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "conllu", None)
    with pytest.raises(MissingExtraError, match="probes"):
        read_conllu(tmp_path / "x.conllu")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_conllu(tmp_path / "x.conllu")
    with pytest.raises(DataError, match="directory"):
        read_conllu(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'ud-ewt'"):
        treebank("ud_ewt")


def test_brown_is_split_by_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "brown.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"brown/ca{number:02d}", f"\n\tw{number}/nn-tl 1/2/cd ''/''\n\n")
        archive.writestr("brown/README", "not/nn")
    monkeypatch.setattr(treebanks.sources, "fetch", lambda name: [tmp_path / "brown.zip"])
    bank = brown()
    parts = [[int(sentence.words[0][1:]) for sentence in part] for part in (bank.train, bank.dev, bank.test)]
    assert parts == [[*range(8), *range(10, 18)], [8, 18], [9, 19]]
    assert bank.dev[0] == TaggedSentence(("w8", "1/2", "''"), ("nn", "cd", "''"))
    assert bank.tags == ("''", "cd", "nn")


@pytest.mark.data
def test_english_ewt_is_whole() -> None:
    """The numbers of sentences and words in its documentation."""
    bank = english_ewt()
    counts = [(len(part), sum(len(sentence.words) for sentence in part)) for part in (bank.train, bank.dev, bank.test)]
    assert counts == [(12_544, 204_577), (2_001, 25_147), (2_077, 25_094)]
    assert {tag for sentence in bank.train for tag in sentence.tags} == set(UPOS)


@pytest.mark.data
def test_brown_is_whole() -> None:
    bank = brown()
    assert sum(len(s.words) for part in (bank.train, bank.dev, bank.test) for s in part) == 1_161_192
    assert sum(map(len, (bank.train, bank.dev, bank.test))) == 57_340
    assert len(bank.tags) == 104
