"""What a MODEL argument means when it is left out, and which configuration a model folder was trained by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mini_bert import MiniBERT, ModelConfig, WordPiece
from mini_bert.cli import main
from mini_bert.cli.models import find_model, trained_by
from mini_bert.model import shipped
from mini_bert.model.shipped import DEFAULT

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the models that come along, with one in float16, as it is shipped."""
    config = ModelConfig(
        vocab_size=8, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    MiniBERT(config, seed=3, tokenizer=WordPiece(WORDS)).save_pretrained(tmp_path / "package" / DEFAULT, "float16")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "package"


def test_a_probe_without_a_model_asks_the_one_that_comes_along(
    capsys: pytest.CaptureFixture[str], package: Path, tmp_path: Path
) -> None:
    (tmp_path / "pairs").mkdir()
    pair = {"sentence_good": "a cat sat", "sentence_bad": "sat a cat"}
    (tmp_path / "pairs" / "order.jsonl").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    asked = ["--pairs-dir", "pairs", "--json"]
    assert main(["probe", "pairs", *asked]) == 0
    left_out = json.loads(capsys.readouterr().out)
    assert main(["probe", "pairs", str(package / DEFAULT), *asked]) == 0
    named = json.loads(capsys.readouterr().out)
    assert named | {"seconds": 0} == left_out | {"seconds": 0}


def test_the_name_means_a_folder_of_ones_own_first(package: Path, tmp_path: Path) -> None:
    assert find_model(DEFAULT) == package / DEFAULT
    MiniBERT.from_pretrained(package / DEFAULT).save_pretrained(tmp_path / DEFAULT)
    assert find_model(DEFAULT).resolve() == tmp_path / DEFAULT


def test_a_model_was_trained_by_what_lies_beside_it_or_in_its_run(tmp_path: Path) -> None:
    for folder in ("alone", "runs/first/checkpoints/checkpoint-2", "runs/first/milestones/step-1", "package/mini-bert"):
        (tmp_path / folder).mkdir(parents=True)
    for home in ("runs/first", "package/mini-bert"):
        (tmp_path / home / "config.yaml").write_text("run: {seed: 7}\n", encoding="utf-8")
    assert trained_by(tmp_path / "alone") is None
    of_run = tmp_path / "runs/first/config.yaml"
    assert trained_by(tmp_path / "runs/first/checkpoints/checkpoint-2") == of_run
    assert trained_by(tmp_path / "runs/first/milestones/step-1") == of_run
    assert trained_by(tmp_path / "package/mini-bert") == tmp_path / "package/mini-bert/config.yaml"
