"""Readers: each format's quirks, and each bad file's own message."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from mini_bert.data import python_docs
from mini_bert.data.documents import open_corpus, parse_weight, read_documents
from mini_bert.data.python_docs import Module, find_modules, plain_paragraphs
from mini_bert.data.readers import (
    Lines,
    Passage,
    paragraphs_of,
    read_brown,
    read_harvest,
    read_jsonl,
    read_plain,
    read_wikiextractor,
    read_wikitext,
    wrapping_width,
)
from mini_bert.data.sentences import split_sentences
from mini_bert.errors import DataError


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("One.  Two!\tThree? four.", ["One.", "Two!", "Three? four."]),
            ("Mr. and Mrs. Bennet, No. 5, J. K. Rowling.", ["Mr. and Mrs. Bennet, No. 5, J. K. Rowling."]),
            ("The U.S. Army (e.g. Grant) won. It did.", ["The U.S. Army (e.g. Grant) won.", "It did."]),
            (
                '"Go!" he said. "Now." (So he did.) 1900. End',
                ['"Go!" he said.', '"Now."', "(So he did.)", "1900.", "End"],
            ),
            ("It is I. You know.", ["It is I.", "You know."]),
            ("3.14 is pi. Élan.", ["3.14 is pi.", "Élan."]),
            ("Wait... What?", ["Wait...", "What?"]),
            ("", []),
            ("   ", []),
        ],
    )
    def test_split(self, text: str, expected: list[str]) -> None:
        assert split_sentences(text) == expected

    def test_no_word_is_lost(self) -> None:
        text = 'A b. C "d." E? f! G (h). Dr. I. J.K. l... M'
        assert " ".join(split_sentences(text)) == text


class TestPlain:
    def test_hard_wrapped_lines_are_joined(self, tmp_path: Path) -> None:
        path = tmp_path / "novel.txt"
        wrapped = "It was a dark and stormy night; the rain fell in torrents, except\r\nat times. It was checked.\r\n"
        second = "The second paragraph begins here and goes on to the end of the line,\r\nwhere it stops.\r\n"
        path.write_bytes(b"\xef\xbb\xbf" + (wrapped + second + "\r\nTHE END\r\n").encode())
        [passage] = read_plain(path)
        assert passage.name == "novel.txt"
        assert passage.paragraphs == [
            "It was a dark and stormy night; the rain fell in torrents, except at times. It was checked.",
            "The second paragraph begins here and goes on to the end of the line, where it stops.",
            "THE END",
        ]

    def test_a_paragraph_a_line_stays(self) -> None:
        lines = ["word " * 40 + "end", "", "word " * 50 + "end.", "Short one"]
        assert list(paragraphs_of(lines, wrapping_width(lines))) == [line.strip() for line in lines if line]

    def test_a_line_without_end_is_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "line.txt"
        path.write_text("abcdefg " * 300_000)
        passages = list(read_plain(path))
        assert {passage.name for passage in passages} == {"line.txt"}
        assert len(passages) >= 2
        assert sum(len(p.replace(" ", "")) for passage in passages for p in passage.paragraphs) == 7 * 300_000

    def test_sections(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text(("a" * 1500 + "\n") * 7)
        sections = list(read_plain(tmp_path / "x", sections=True))
        assert [(s.name, len(s.paragraphs)) for s in sections] == [("x#000000", 3), ("x#000001", 3), ("x#000002", 1)]

    def test_few_files_are_cut_into_sections_and_many_are_documents(self, tmp_path: Path) -> None:
        for number in range(50):
            (tmp_path / f"{number:02d}.txt").write_text(f"Text {number}. " + "word " * 2000)
        assert [d.name for d in read_documents(str(tmp_path / "*.txt"))] == [f"{n:02d}.txt" for n in range(50)]
        (tmp_path / "00.txt").unlink()
        assert next(read_documents(str(tmp_path / "*.txt"))).name == "01.txt#000000"


def test_line_ends_of_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n\nfour")
    assert list(Lines(path)) == ["one", "two", "three", "", "four"]


class TestOtherFormats:
    def test_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt.gz"
        path.write_bytes(gzip.compress("Grüße. Zwei.".encode()))
        assert [d.sentences for d in read_documents(str(path))] == [["Grüße.", "Zwei."]]

    def test_jsonl(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        long = "x" * 3_000_000
        path.write_text(json.dumps({"text": "One. Two."}) + "\n\n" + json.dumps({"id": 3, "text": long}) + "\n")
        documents = list(read_documents(str(path)))
        assert [d.name for d in documents] == ["a.jsonl:1", "a.jsonl:3"]
        assert documents[0].sentences == ["One.", "Two."]
        assert documents[1].sentences == [long]
        packed = tmp_path / "b.jsonl.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert [p.paragraphs for p in read_jsonl(packed)] == [p.paragraphs for p in read_jsonl(path)]

    def test_wikiextractor(self, tmp_path: Path) -> None:
        path = tmp_path / "wiki_00"
        body = "The place () is big &amp; old. " + "word " * 100
        path.write_text(
            '<doc id="1" url="?curid=1" title="A &amp; B">\nA &amp; B\n\n' + body + "\nHistory.\n\n</doc>\n"
            '<doc id="2" url="?curid=2" title="Stub">\nStub\n\n' + "word " * 99 + "\n</doc>\n"
            '<doc id="3" url="?curid=3" title="Say "x"">\nSay "x"\n\n' + "word " * 100 + "\n</doc>\n"
        )
        first, third = read_wikiextractor(path)
        assert first.name == "1 A & B"
        assert first.paragraphs == [body.replace(" ()", "").replace("&amp;", "&"), "History."]
        assert third.name == '3 Say "x"'

    def test_wikitext(self, tmp_path: Path) -> None:
        path = tmp_path / "valid.txt"
        path.write_text(
            " \n = The Lobster = \n \n"
            " It has <unk> , 1 @,@ 000 well @-@ known ( big ) claws ; it is n't 2 @.@ 5 kg . \n"
            " \n = = Taste = = \n \n Good . \n = Next = \n Other 's . \n"
        )
        first, second = read_wikitext(path)
        assert first == Passage(
            "The Lobster",
            ["It has unk, 1,000 well-known (big) claws; it isn't 2.5 kg.", "Taste", "Good."],
        )
        assert second == Passage("Next", ["Other's."])

    def test_brown(self, tmp_path: Path) -> None:
        path = tmp_path / "brown.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("brown/README", "not a text")
            archive.writestr(
                "brown/cb01", "\n\n\tThat/dt that/wps is/bez ,/, is/bez that/wps that/wps 1/2/cd ?/. ?/.\n"
            )
            archive.writestr("brown/ca01", "\tHe/pps said/vbd ``/`` go/vb ''/'' ./.\n\n\tYes/rb ;/. ;/.\n")
        assert [(p.name, p.paragraphs) for p in read_brown(path)] == [
            ("ca01", ['He said " go ".', "Yes;"]),
            ("cb01", ["That that is, is that that 1/2?"]),
        ]


class TestBadFiles:
    def refused(self, corpus: Path | str) -> str:
        with pytest.raises(DataError) as caught:
            list(read_documents(str(corpus)))
        return str(caught.value)

    def test_unknown_corpus(self) -> None:
        assert "unknown corpus" in self.refused("novells")
        assert "Did you mean 'novels'?" in self.refused("novells")
        assert "Choices: brown, enwiki-2018" in self.refused("xyzzy")

    def test_a_task_set_is_no_corpus(self) -> None:
        assert "a data set for tasks" in self.refused("blimp")

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert "no such file" in self.refused(tmp_path / "missing.txt")
        assert "matches no file" in self.refused(tmp_path / "*.txt")
        assert "/*.txt'" in self.refused(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"")
        assert "an empty file" in self.refused(path)
        path.write_bytes(b" \n\n  \r\n")
        assert "no text in it" in self.refused(path)

    def test_wrong_encoding(self, tmp_path: Path) -> None:
        path = tmp_path / "latin.txt"
        path.write_bytes(b"One.\n" * 3000 + "Gr\xfc\xdfe".encode("latin1"))
        message = self.refused(path)
        assert "byte 0xfc in line 3001" in message
        assert "iconv" in message
        assert "latin.txt" in message

    def test_binary(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        path.write_bytes(b"PK\x03\x04\n\0\0\0")
        assert "NUL byte in line 2" in self.refused(path)
        path.write_bytes("Ein Text".encode("utf-16"))
        assert "not UTF-8" in self.refused(path)

    @pytest.mark.parametrize("damage", ["cut", "altered", "no gzip"])
    def test_bad_gzip(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "a.txt.gz"
        whole = gzip.compress("".join(f"Line {n * n}.\n" for n in range(500)).encode())
        damaged = {"cut": whole[:-9], "altered": whole[:-8] + bytes(8), "no gzip": b"no gzip"}
        path.write_bytes(damaged[damage])
        assert "a whole gzip file" in self.refused(path)

    @pytest.mark.parametrize("line", ['{"text": "cut', "[1, 2]", '{"body": "x"}', '{"text": 5}', "[" * 50_000])
    def test_bad_json_line_is_numbered(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "One."}\n{"text": "Two."}\n' + line + "\n")
        assert "line 3" in self.refused(path)

    def test_a_text_that_is_none_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": 5, "title": "x"}\n')
        assert 'a field "text" that is a int' in self.refused(path)

    @pytest.mark.parametrize(
        "entry", ["novels=0", "novels=-1", "novels=nan", "novels=much", "novels=", "novels=inf", "=2"]
    )
    def test_bad_weight(self, entry: str) -> None:
        with pytest.raises(DataError, match="name=weight"):
            parse_weight(entry)

    def test_an_equals_sign_in_a_file_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a=3"
        path.write_text("x")
        assert parse_weight(str(path)) == (str(path), 1.0)
        assert parse_weight(f"{path}=3") == (str(path), 3.0)


def test_a_corpus_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("Same text.")
    first, second = (open_corpus(str(tmp_path / name)) for name in ("a.txt", "b.txt"))
    assert first.fingerprint == second.fingerprint
    (tmp_path / "b.txt").write_text("Same text!")
    assert open_corpus(str(tmp_path / "b.txt")).fingerprint != first.fingerprint
    (tmp_path / "a.jsonl").write_text("Same text.")
    assert open_corpus(str(tmp_path / "a.jsonl")).fingerprint != first.fingerprint


class TestPythonDocs:
    def test_prose_is_kept_and_code_is_not(self) -> None:
        docstring = (
            "Do ``x`` with :class:`~a.Y <z>`.\n\n    Parameters\n    ----------\n    a : int\n"
            "        The *first*\n        one.\n"
            "    b : str\n        The second.\n\n    Example::\n\n        code(1)\n        more(2)\n\n    After it.\n\n"
            "    >>> f(1)\n    2\n    3\n\n    End.\n    .. note:: gone\n"
        )
        assert plain_paragraphs(docstring) == [
            "Do x with a.Y.",
            "Parameters",
            "a : int The first one.",
            "b : str The second.",
            "Example:",
            "After it.",
            "End.",
        ]

    def test_nothing_is_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        harmful = tmp_path / "harmful.py"
        action = f'open({str(tmp_path / "ran")!r}, "w")'
        harmful.write_text(f'"""A module docstring."""\n{action}\ndef f():\n    "Of a function."\n')
        copy = tmp_path / "other.py"
        copy.write_text(
            '"""A module docstring."""\nclass C:\n    """Of a class."""\n    def f(): "Of a method."\n'
            'class D: "Of another."\nadd_newdoc("m", "n", ("o", "A new doc."))\n'
        )
        broken = tmp_path / "broken.py"
        broken.write_text('"""A docstring."""\ndef f(:\n')
        modules = [Module(path.stem, path) for path in (broken, harmful, copy)]
        monkeypatch.setattr(python_docs, "find_modules", lambda everything: modules)
        path, key = python_docs.harvest()
        documents = [(passage.name, passage.paragraphs) for passage in read_harvest(path)]
        assert documents == [
            ("harmful", ["A module docstring.", "Of a function."]),
            ("other", ["Of a class.", "Of a method.", "Of another.", "A new doc."]),
        ]
        assert not (tmp_path / "ran").exists()
        copy.write_text('"""Changed."""\n')
        assert python_docs.harvest()[1] != key

    def test_this_machine(self) -> None:
        names = {module.name for module in find_modules()}
        assert {"json", "asyncio.events", "numpy._core.multiarray", "pydantic.main", "pydoc_data.topics"} <= names
        assert not {name for name in names if {"test", "tests", "idlelib"} & set(name.split("."))}
        assert "mini_bert" not in {name.split(".")[0] for name in names}

    @pytest.mark.slow
    def test_the_harvest_is_about_a_million_tokens_of_prose(self) -> None:
        documents = list(read_documents("python-docs"))
        assert len({d.name for d in documents}) == len(documents) > 900
        text = " ".join(sentence for d in documents for sentence in d.sentences)
        assert 500_000 < len(text.split()) < 1_000_000
        assert text.count(">>>") < 100
        assert "``" not in text[:1000]
        assert sum(character.isalpha() or character.isspace() for character in text) > 0.85 * len(text)


@pytest.mark.data
def test_enwiki_articles() -> None:
    documents = [d for d, _ in zip(read_documents("enwiki-2018"), range(300), strict=False)]
    assert len({d.name for d in documents}) == 300
    for document in documents:
        text = " ".join(document.sentences)
        assert len(text.split()) >= 90
        assert "<doc" not in text
        assert "()" not in text


@pytest.mark.data
def test_novels() -> None:
    names, longest = [], 0
    for document in read_documents("novels"):
        if not names or names[-1] != document.name:
            names.append(document.name)
        longest = max(longest, *map(len, document.sentences))
        assert "\ufeff" not in document.sentences[0]
        assert "\r" not in document.sentences[0]
    assert len(names) == 58
    assert longest < 20_000
