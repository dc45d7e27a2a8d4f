"""`probe meaning … stability` and `embed`: they print what the functions return, and refuse what is no input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from worded_bert import worded_bert

from mini_bert.cli import main
from mini_bert.inference.sentence_embeddings import cosines, sentence_embeddings
from mini_bert.model.bert import MiniBERT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    worded_bert().save_pretrained(path, "float32")
    return path


@pytest.fixture(scope="module")
def model(folder):
    return MiniBERT.from_pretrained(folder)


def test_embed_prints_vectors_and_neighbours_as_json(capsys, folder, model):
    texts = ["the old man", "a dog", "the old king"]
    assert main(["embed", str(folder), *texts, "--json", "--neighbours", "1", "--layer", "1", "-1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    vectors = sentence_embeddings(model, texts, layers=(1, -1))
    np.testing.assert_allclose([line["embedding"] for line in lines], vectors, rtol=1e-6)
    near = [cosines(vectors[[0, 0]], vectors[[1, 2]]).max(), *(line["neighbours"][0]["cosine"] for line in lines)]
    assert near[1] == pytest.approx(near[0], abs=1e-6)
    assert [line["text"] for line in lines] == texts
    assert all(line["neighbours"][0]["text"] != line["text"] for line in lines)


def test_embed_finds_neighbours_in_a_file_and_writes_an_array(capsys, folder, model, tmp_path):
    (tmp_path / "among.txt").write_text("a cat\n\nthe king\n", encoding="utf-8")
    out = tmp_path / "vectors.npy"
    words = ["embed", str(folder), "a dog", "--among", str(tmp_path / "among.txt"), "--out", str(out), "--normalized"]
    assert main([*words, "--pooling", "static"]) == 0
    assert capsys.readouterr().out.count("\n  ") == 2
    expected = sentence_embeddings(model, ["a dog"], pooling="static", normalized=True)
    np.testing.assert_array_equal(np.load(out), expected)


def test_an_array_alone_is_written_without_a_word_of_neighbours(capsys, folder, tmp_path):
    out = tmp_path / "vectors.npy"
    assert main(["embed", str(folder), "a dog", "the king", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"2 vectors of 12 numbers: {out}\n"


def test_embed_without_a_model_takes_the_one_that_comes_along(capsys, monkeypatch, folder):
    assert main(["embed", str(folder), "a dog", "the king", "--json"]) == 0
    named = capsys.readouterr().out
    monkeypatch.setattr("mini_bert.model.shipped.FOLDER", folder.parent)
    monkeypatch.setattr("mini_bert.cli.models.DEFAULT", folder.name)
    assert main(["embed", "a dog", "the king", "--json"]) == 0
    assert capsys.readouterr().out == named


def test_one_text_shows_the_beginning_of_its_vector(capsys, folder):
    assert main(["embed", str(folder), "a dog"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a dog"
    assert "12 numbers" in second
    assert main(["embed", str(folder), "a dog", "the king"]) == 0
    assert capsys.readouterr().out.count("a dog") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a dog", "--out", "x.txt"], "ends in .npy"),
        (["a dog", "--neighbours", "0"], "at least 1"),
        (["a dog", "--layer", "3"], "0 (embeddings) to 2"),
        (["a dog", "--pooling", "static", "--layer", "1"], "--layer: got it beside --pooling static"),
        (["\u00ad"], "no piece in text 0"),
        (["a dog", "--among", "nowhere.txt"], "nowhere.txt"),
        (["a dog", "--among", "empty.txt"], "no line of text"),
    ],
)
def test_embed_refuses_in_one_line(capsys, folder, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n")
    assert main(["embed", str(folder), *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probe", "meaning", "--word-pairs", "bad.tsv"], "bad.tsv:1"),
        (["probe", "meaning", "--sentence-pairs", "nowhere"], "nowhere"),
        (["probe", "stability", "--texts", "bad.tsv"], "at least two"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(capsys, folder, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.tsv").write_text("dog\tcat\n")
    assert main([*words[:2], str(folder), *words[2:]]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert message in err[-1]


@pytest.mark.data
def test_files_of_ones_own(capsys, folder, tmp_path):
    (tmp_path / "texts.txt").write_text("the man saw the dog\nthe queen was born in Oslo\n")
    assert main(["probe", "stability", str(folder), "--texts", str(tmp_path / "texts.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == 2
    (tmp_path / "words.tsv").write_text("dog\tcat\t5\nking\tqueen\t7\nman\toslo\t1\n")
    (tmp_path / "sentences.tsv").write_text("a dog\ta cat\t3\nthe king\the was old\t1\n")
    files = ["--word-pairs", str(tmp_path / "words.tsv"), "--sentence-pairs", str(tmp_path / "sentences.tsv")]
    assert main(["probe", "meaning", str(folder), *files, "--json"]) == 0
    words, sentences = json.loads(capsys.readouterr().out)["results"]
    assert (words["sets"][0]["set"], words["sets"][0]["known"]) == ("words.tsv", 3)
    assert (sentences["sets"][0]["set"], sentences["sets"][0]["n"]) == ("sentences.tsv", 2)
    assert main(["probe", "meaning", str(folder), *files[:2], "--json"]) == 0
    (alone,) = json.loads(capsys.readouterr().out)["results"]
    assert alone == words


@pytest.mark.data
@pytest.mark.parametrize("verb", ["meaning", "facts", "composition", "bias", "stability"])
def test_every_probe_of_meaning_runs_quickly_and_in_tables(capsys, folder, verb):
    assert main(["probe", verb, str(folder), "--quick"]) == 0
    assert capsys.readouterr().out.count("---") > 2
