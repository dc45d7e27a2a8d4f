from __future__ import annotations

import hashlib
import json

import pytest

from mini_bert.cli import main
from mini_bert.data import documents, sources


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """A registry of two data sets; the file of `here` is there."""
    text = b"The cat sat. The dog ran.\n\nIt rained all day long."

    def source(name: str, kind: str) -> sources.Source:
        file = sources.SourceFile("a.txt", f"https://example.org/{name}/a.txt", hashlib.sha256(text).hexdigest(), 51)
        return sources.Source(name, kind, f"The title of {name}", "CC0", (file,), "plain")

    registered = {"here": source("here", "corpus"), "elsewhere": source("elsewhere", "tasks")}
    for module in (sources, documents):
        monkeypatch.setattr(module, "SOURCES", registered)
    monkeypatch.setenv("MINI_BERT_DATA", str(tmp_path))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.txt").write_bytes(text)
    return tmp_path


@pytest.mark.usefixtures("registry")
def test_list_says_what_is_there(capsys):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Corpora:"
    assert lines[1].split()[:2] == ["here", "51"]
    assert "yes" in lines[1]
    assert "The title of elsewhere" in lines[3]
    assert " - " in lines[3]
    assert main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == ["here", "elsewhere"]
    assert listed[0]["files"][0]["present"] is True


@pytest.mark.usefixtures("registry")
def test_describe_shows_origin_licence_and_the_first_sentences(capsys):
    assert main(["data", "describe", "here", "--sentences", "2"]) == 0
    out = capsys.readouterr().out
    for part in ("CC0", "https://example.org/here/a.txt", "The cat sat.", "The dog ran."):
        assert part in out
    assert "rained" not in out


def test_verify_and_fetch_leave_right_files_alone_and_refuse_wrong_ones(capsys, registry):
    path = registry / "here" / "a.txt"
    assert main(["data", "verify"]) == 0
    assert capsys.readouterr().out == "here: 1 files as they should be\n"
    assert main(["data", "fetch", "here"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    path.write_bytes(path.read_bytes().replace(b"cat", b"cow"))
    for verb in ("verify", "fetch"):
        assert main(["data", verb, "here"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert str(path) in err
        assert hashlib.sha256(path.read_bytes()).hexdigest() in err
    assert path.read_bytes().count(b"cow") == 1


@pytest.mark.usefixtures("registry")
def test_a_set_that_is_not_here_or_not_known_is_bad_input(capsys):
    assert main(["data", "verify", "elsewhere"]) == 2
    assert "no such file" in capsys.readouterr().err
    for verb in ("verify", "fetch", "describe"):
        assert main(["data", verb, "her"]) == 2
        out, err = capsys.readouterr()
        assert "Did you mean 'here'?" in err
        assert (out, err.count("\n")) == ("", 1)


def test_fetch_wants_a_name(capsys):
    assert main(["data", "fetch"]) == 2
    assert "NAME: got none" in capsys.readouterr().err
