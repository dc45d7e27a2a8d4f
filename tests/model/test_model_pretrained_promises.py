"""What a folder promises is kept when it is read: its manifest, its tokenizer, the names of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import CheckpointError
from mini_bert.interop import manifest
from mini_bert.model import pretrained
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece

SIZES = {
    "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 8,
}  # fmt: skip


def test_a_checkpoint_whose_numbers_changed_is_not_read(tmp_path: Path) -> None:
    small_bert(np.float32).save_pretrained(tmp_path)
    manifest.write(tmp_path, {})
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    assert MiniBERT.from_pretrained(tmp_path)
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256"):
        MiniBERT.from_pretrained(tmp_path)


@pytest.mark.parametrize("read", [MiniBERT.from_pretrained, pretrained.from_pretrained])
def test_the_tokenizer_comes_along_unless_it_is_left_behind(read, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    MiniBERT(ModelConfig(**SIZES), tokenizer=WordPiece(words)).save_pretrained(tmp_path)
    tokenizer = read(tmp_path).tokenizer
    assert tokenizer is not None
    assert list(tokenizer.vocabulary) == words
    assert read(tmp_path, with_tokenizer=False).tokenizer is None


def test_names_of_classes_belong_to_the_folders_own_classifier(tmp_path: Path) -> None:
    names = ("bad", "good", "so so")
    MiniBERT(ModelConfig(**SIZES, heads=("classifier",), num_labels=3, labels=names)).save_pretrained(tmp_path)

    def labels(**asked: object) -> tuple[str, ...]:
        return tuple(MiniBERT.from_pretrained(tmp_path, **asked).config.labels)  # type: ignore[arg-type]

    assert labels() == names
    assert labels(heads=("mlm", "classifier")) == names
    assert labels(heads=("classifier", "token_classifier")) == ()
    assert labels(heads=("token_classifier",)) == ()
    assert labels(heads=()) == ()
