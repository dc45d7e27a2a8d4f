"""The verbs that work on texts: fill-mask and tokenizer, over a small model in a folder."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mini_bert import MiniBERT, ModelConfig, WordPiece
from mini_bert.cli import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "un", "##do", ".", "é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    config = ModelConfig(
        vocab_size=len(WORDS), hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    MiniBERT(config, seed=3, tokenizer=WordPiece(WORDS)).save_pretrained(path)
    return path


@pytest.fixture
def standard_input(monkeypatch):
    def given(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return given


def test_fill_mask_gives_the_probabilities_of_the_models_own_logits(capsys, folder):
    assert main(["fill-mask", str(folder), "the [MASK] sat [MASK]", "--json", "--top-k", "12"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    logits = MiniBERT.from_pretrained(folder).forward(np.array([[2, 5, 4, 7, 4, 3]]))[0][0].astype(float)
    for mask, position in zip(result["masks"], (2, 4), strict=True):
        probs = np.exp(logits[position]) / np.exp(logits[position]).sum()
        assert [entry["id"] for entry in mask] == sorted(range(12), key=lambda i: -probs[i])
        assert [entry["token"] for entry in mask] == [WORDS[entry["id"]] for entry in mask]
        assert [entry["probability"] for entry in mask] == pytest.approx(sorted(probs, reverse=True), abs=1e-6)


def test_fill_mask_without_a_model_takes_the_one_that_comes_along(capsys, folder, standard_input, monkeypatch):
    from mini_bert.model import shipped

    assert main(["fill-mask", str(folder), "the [MASK].", "[MASK] sat", "--json"]) == 0
    named = capsys.readouterr().out
    monkeypatch.setattr(shipped, "FOLDER", folder.parent)
    monkeypatch.setattr("mini_bert.cli.models.DEFAULT", folder.name)
    assert main(["fill-mask", "the [MASK].", "[MASK] sat", "--json"]) == 0
    assert capsys.readouterr().out == named


@pytest.mark.parametrize("text", ["She opened the mask.", "a [mask] b"])
def test_a_sentence_without_a_mask_is_no_model(capsys, text):
    assert main(["fill-mask", text]) == 2
    assert "[MASK]" in (said := capsys.readouterr().err)
    assert "neither a folder" not in said


def test_a_folder_with_a_blank_in_its_name_is_a_model(capsys, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "my model")
    assert main(["fill-mask", str(tmp_path / "my model"), "the [MASK]."]) == 0
    assert capsys.readouterr().out.startswith("the [MASK].")


def test_fill_mask_prints_each_mask_of_each_text(capsys, folder):
    assert main(["fill-mask", str(folder), "the [MASK].", "[MASK] [MASK]", "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the [MASK]."
    assert sum("%" in line for line in lines) == 6
    assert lines.count("  [MASK] 1") == lines.count("  [MASK] 2") == 1


@pytest.mark.parametrize("words", [[], ["-"]])
def test_fill_mask_reads_standard_input_line_by_line(capsys, folder, standard_input, words):
    standard_input("the [MASK]\n\n  é [MASK] \n".encode())
    assert main(["fill-mask", str(folder), *words, "--json"]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["the [MASK]", "é [MASK]"]


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (["the cat sat"], ["text", "'the cat sat'", "at least one [MASK]"]),
        (["[MASK]" + " the" * 20], ["text", "23 pieces", "at most 16"]),
        (["[MASK]", "--top-k", "0"], ["top_k", "got 0", "1 to 12"]),
        (["[MASK]", "--top-k", "13"], ["top_k", "got 13"]),
    ],
)
def test_fill_mask_refuses_what_it_cannot_fill(capsys, folder, words, reasons):
    assert main(["fill-mask", str(folder), *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    for reason in reasons:
        assert reason in err


def test_standard_input_must_hold_text_in_utf8(capsys, folder, standard_input):
    standard_input(b"")
    assert main(["fill-mask", str(folder)]) == 2
    assert "nothing on standard input" in capsys.readouterr().err
    standard_input(b"caf\xe9 [MASK]\n")
    assert main(["fill-mask", str(folder)]) == 2
    assert "0xe9" in capsys.readouterr().err


def test_an_unknown_model_is_bad_input(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "novels" / "checkpoints").mkdir(parents=True)
    assert main(["fill-mask", "novel", "[MASK]"]) == 2
    assert "Did you mean 'novels'?" in capsys.readouterr().err


def test_fill_mask_loads_neither_training_nor_data_nor_yaml(folder):
    code = (
        "import sys, mini_bert.cli; mini_bert.cli.main(['fill-mask', sys.argv[1], '[MASK]']);"
        "print(sorted(name for name in sys.modules if name.startswith('mini_bert')), 'yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1]
    assert last.endswith("False")
    for unneeded in ("training", "data", "evaluation", "reports", "optim"):
        assert f"'mini_bert.{unneeded}" not in last


def test_encode_and_explain(capsys, folder):
    assert main(["tokenizer", "encode", str(folder), "The cat, undo [MASK]"]) == 0
    assert capsys.readouterr().out == "the cat [UNK] un ##do [MASK]\n5 6 1 8 9 4\n"
    assert main(["tokenizer", "encode", str(folder / "vocab.txt"), "undo", "--json"]) == 0
    encoded = json.loads(capsys.readouterr().out)
    assert encoded == {"ids": [8, 9], "tokens": ["un", "##do"], "offsets": [[0, 2], [2, 4]], "word_ids": [0, 0]}
    assert main(["tokenizer", "explain", str(folder), "Undo"]) == 0
    explained = capsys.readouterr().out.splitlines()
    assert explained[1:] == ["undo -> un ##do", "  undo  no", "  und   no", "  un    piece 8", "  ##do  piece 9"]


def test_train_writes_the_vocabulary_that_pretraining_would_learn(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"The cat number {i} sat on the mat, and the dog ran away from it." for i in range(200))
    )
    words = ["tokenizer", "train", "--corpus", str(text), "--model.vocab-size", "60", "--out", str(tmp_path / "tok")]
    assert main(words) == 0
    vocabulary = (tmp_path / "tok" / "vocab.txt").read_text().splitlines()
    assert vocabulary[:5] == WORDS[:5]
    assert len(vocabulary) == 60
    assert "the" in vocabulary
    assert "60 pieces" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [["fill-mask"], ["tokenizer", "encode"], ["tokenizer", "explain"]])
def test_bytes_that_are_no_utf8_are_refused_as_arguments_too(capsys, folder, verb):
    assert main([*verb, str(folder), b"the \xff [MASK]".decode("utf-8", "surrogateescape")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "text: got byte 0xff" in err


def test_a_closed_standard_input_is_no_text(capsys, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert main(["fill-mask", str(folder)]) == 2
    assert "nothing on standard input" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_called_one(capsys, tmp_path):
    assert main(["fill-mask", str(tmp_path), "[MASK]"]) == 2
    assert "a folder without config.json" in capsys.readouterr().err


def test_weights_that_overflow_are_refused(capsys, folder, tmp_path):
    model = MiniBERT.from_pretrained(folder)
    model.parameters["token_embeddings"][...] = model.parameters["position_embeddings"][...] = 3e38
    model.save_pretrained(tmp_path / "diverged")
    assert main(["fill-mask", str(tmp_path / "diverged"), "the [MASK]"]) == 2
    assert "overflow" in capsys.readouterr().err
