"""Folders by the methods of a model, with as few arguments as may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_bert import small_bert

from mini_bert.model import pretrained
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece


def test_arguments_reach_the_reader_in_their_places(tmp_path: Path) -> None:
    model = small_bert(np.float32)
    model.save_pretrained(tmp_path)
    fresh = MiniBERT.from_pretrained(tmp_path, np.float64, ("mlm", "classifier"), 5, 3)
    assert fresh.dtype == np.float64
    assert fresh.config.heads == ("mlm", "classifier")
    assert fresh.parameters["W_classifier"].shape == (12, 5)
    same = pretrained.from_pretrained(tmp_path, np.float64, ("mlm", "classifier"), 5, 3)
    assert fresh.parameters.buffer.tobytes() == same.parameters.buffer.tobytes()


@pytest.mark.parametrize("read", [MiniBERT.from_pretrained, pretrained.from_pretrained])
def test_new_heads_are_those_of_seed_0_unless_another_is_given(read, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    small_bert(np.float32).save_pretrained(tmp_path)
    assert read(tmp_path).dtype == np.float32
    unsaid, said = read(tmp_path, heads=("nsp",)), read(tmp_path, heads=("nsp",), seed=0)
    assert unsaid.parameters.buffer.tobytes() == said.parameters.buffer.tobytes()
    assert read(tmp_path, heads=("nsp",), seed=1).parameters["W_nsp"].tobytes() != said.parameters["W_nsp"].tobytes()


def test_the_reader_takes_the_tokenizer_along_and_seed_0(tmp_path: Path) -> None:
    model = small_bert(np.float32)
    model.tokenizer = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"])
    model.save_pretrained(tmp_path)
    read, _ = pretrained.read_pretrained(tmp_path, heads=("mlm", "nsp"))
    assert read.tokenizer is not None
    assert read.tokenizer.vocabulary == model.tokenizer.vocabulary
    said, _ = pretrained.read_pretrained(tmp_path, heads=("mlm", "nsp"), seed=0, with_tokenizer=False)
    assert said.tokenizer is None
    assert read.parameters.buffer.tobytes() == said.parameters.buffer.tobytes()


def test_the_dtype_of_a_file_is_asked_for_by_the_method_too(tmp_path: Path) -> None:
    small_bert(np.float32).save_pretrained(tmp_path, "float16")
    read = MiniBERT.from_pretrained(tmp_path).parameters.buffer
    np.testing.assert_array_equal(read, read.astype(np.float16))


def test_a_file_of_two_precisions_is_read_in_the_wider_one(tmp_path: Path) -> None:
    small_bert(np.float32).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    assert pretrained.read_pretrained(tmp_path, None)[0].dtype == np.float32
    name = "bert.embeddings.LayerNorm.weight"
    save_file({**tensors, name: tensors[name].astype(np.float64) * (1 + 2.0**-40)}, path, {"format": "pt"})
    wide = pretrained.read_pretrained(tmp_path, None)[0]
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide.parameters["gamma_embeddings"], load_file(path)[name])


def test_the_configuration_is_written_as_transformers_writes_it(tmp_path: Path) -> None:
    small_bert(np.float32).save_pretrained(tmp_path)
    first, second, *_, last = (tmp_path / "config.json").read_text(encoding="utf-8").split("\n")
    assert (first, second[:3], last) == ("{", '  "', "")
