"""Readers entered half-way: behind every mark comes what came there in an undisturbed reading."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.data import readers
from mini_bert.data.documents import open_corpus
from mini_bert.data.readers import READERS, Lines, Passage, read_jsonl, read_plain, read_wikitext

PIECES = st.sampled_from(
    ["\n", "\r", "\r\n", "\n\n", "word ", "A sentence.", "é", "中文", "👩‍👩‍👧", "\u2028", "\x0b", "x" * 300]
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SECTION_CHARACTERS", 40)
    monkeypatch.setattr(readers, "_LONGEST_PASSAGE", 60)
    monkeypatch.setattr(readers, "_LINES_BETWEEN_PLACES", 3)


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(PIECES, max_size=80),
    byte_order_mark=st.booleans(),
    compressed=st.booleans(),
    sections=st.booleans(),
    longest=st.sampled_from([7, 100_000]),
)
def test_plain_text(pieces: list[str], byte_order_mark: bool, compressed: bool, sections: bool, longest: int) -> None:
    text = "".join(pieces).encode("utf-8-sig" if byte_order_mark else "utf-8")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lines.__init__, "__defaults__", (longest, ()))
        path = Path(folder) / ("a.txt.gz" if compressed else "a.txt")
        path.write_bytes(gzip.compress(text) if compressed else text)
        whole = list(read_plain(path, sections=sections))
        for number, passage in enumerate(whole, start=1):
            mark = tuple(json.loads(json.dumps(passage.mark)))
            rest = [(name, paragraphs) for name, paragraphs, _ in read_plain(path, mark, sections=sections)]
            assert rest == [(name, paragraphs) for name, paragraphs, _ in whole[number:]]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": f"Document {number}.\nIt ends."}) for number in range(20)]
    path.write_bytes(b"\xef\xbb\xbf" + "\n\n".join(lines).replace("\n", "\r\n", 5).encode())
    whole = list(read_jsonl(path))
    assert [passage.name for passage in whole] == [f"a.jsonl:{number}" for number in range(1, 40, 2)]
    for number, passage in enumerate(whole, start=1):
        assert [p[:2] for p in read_jsonl(path, passage.mark)] == [p[:2] for p in whole[number:]]


def test_other_formats_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_text("".join(f" = Title {number} = \n \n Text. \n" for number in range(7)))
    whole = list(READERS["wikitext"](path, ()))
    assert [p[:2] for p in whole] == [p[:2] for p in read_wikitext(path)]
    for number, passage in enumerate(whole, start=1):
        assert list(READERS["wikitext"](path, passage.mark)) == whole[number:]


@pytest.mark.parametrize("pattern", ["*.txt", "*.*"])
def test_a_corpus_of_several_files(tmp_path: Path, pattern: str) -> None:
    for name in ("a.txt", "b.txt", "d.txt"):
        (tmp_path / name).write_text(f"Paragraph of {name}, which goes on and on.\n\n" * 9)
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": f"Line {number}."}) + "\n" for number in range(9))
    corpus = open_corpus(str(tmp_path / pattern))
    whole: list[Passage] = list(corpus.passages())
    assert len(whole) >= 20
    for number, passage in enumerate(whole, start=1):
        assert list(corpus.passages(passage.mark)) == whole[number:]


def test_what_is_behind_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.txt"
    path.write_text(f"{'A paragraph of its own, on one line. ' * 5}\n" * 5000)
    whole = list(read_plain(path, sections=True))
    calls = 0

    class Counting(io.TextIOWrapper):
        def readline(self, *arguments: int) -> str:
            nonlocal calls
            calls += 1
            return super().readline(*arguments)

    monkeypatch.setattr(io, "TextIOWrapper", Counting)
    assert len(list(read_plain(path, whole[-11].mark, sections=True))) == 10
    assert calls <= 400 + 10 + 3 + 1, "the lines that tell the width, those behind the mark, a few before, and the end"
