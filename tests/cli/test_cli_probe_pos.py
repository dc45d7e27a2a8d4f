"""`mini-bert probe pos` over a small model and a made treebank: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mini_bert import MiniBERT, ModelConfig, WordPiece
from mini_bert.cli import main
from mini_bert.data.task_sets import treebanks
from mini_bert.data.task_sets.treebanks import UPOS, TaggedSentence, Treebank

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "sits", "."]
TAG = {"the": "DET", "cat": "NOUN", "sat": "VERB", "sits": "VERB", ".": "PUNCT"}


def made(n: int, seed: int) -> list[TaggedSentence]:
    rng = np.random.default_rng(seed)
    texts = [tuple(WORDS[i] for i in rng.integers(5, 10, rng.integers(2, 6))) for _ in range(n)]
    return [TaggedSentence(words, tuple(TAG[word] for word in words)) for words in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    config = ModelConfig(
        vocab_size=len(WORDS), hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    MiniBERT(config, seed=3, tokenizer=WordPiece(WORDS)).save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _made_treebank(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Treebank("ud-ewt", UPOS, made(40, 1), made(20, 2), made(20, 3))
    monkeypatch.setitem(treebanks.TREEBANKS, "ud-ewt", lambda: bank)


def test_json_is_the_whole_result(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["probe", "pos", str(folder), "--max-sentences", "30", "--layers", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kind"] == "part_of_speech"
    assert result["treebank"]["sentences"] == {"train": 30, "dev": 20, "test": 20}
    assert result["best"]["layer"] == 1
    assert result["table"][0]["accuracy"] > 0.9


def _own_sentences(tmp_path: Path) -> str:
    rows = ["1\tThe\t_\tDET", "2\tcat\t_\tNOUN", "", "1\tsat\t_\tVERB"]
    (tmp_path / "x.conllu").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(tmp_path / "x.conllu")


def test_a_file_of_ones_own(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    assert main(["probe", "pos", str(folder), "--test-file", _own_sentences(tmp_path), "--quick"]) == 0
    shown = capsys.readouterr()
    assert "3 words of" in shown.out
    assert "Control task" in shown.out
    assert "commonest tag of the word" in shown.out
    assert "probing" in shown.err


@pytest.mark.reference
def test_a_picture(folder: Path, tmp_path: Path) -> None:
    words = ["probe", "pos", str(folder), "--test-file", _own_sentences(tmp_path), "--quick"]
    assert main([*words, "--picture", str(tmp_path / "x.svg")]) == 0
    assert (tmp_path / "x.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("1\tx\t_\tNN\n", [], "the tag NN"),
        ("", [], "no sentence"),
        ("1\tx\t_\tX\n", ["--layers", "9"], "expected some of 0 to 1"),
        ("1\tx\t_\tX\n", ["--picture", "x.pdf"], "svg or .png"),
        ("1\tx\t_\tX\n", ["--max-sentences", "5"], "--max-sentences: got it beside --quick"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    content: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.conllu").write_text(content, encoding="utf-8")
    assert main(["probe", "pos", str(folder), "--test-file", str(tmp_path / "x.conllu"), "--quick", *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("mini-bert probe pos: ")
    assert message in last
