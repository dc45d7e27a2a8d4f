"""The model that comes with the package: whole, small, made by the committed recipe, and it has learned something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mini_bert import MiniBERT, load_config
from mini_bert.model.shipped import DEFAULT, FOLDER, shipped_models

MODEL = FOLDER / DEFAULT

AGREEMENT = (
    ("the man [MASK] here .", "is", "are"),
    ("the men [MASK] here .", "are", "is"),
    ("the children [MASK] very young .", "were", "was"),
    ("the child [MASK] very young .", "was", "were"),
    ("she gave him [MASK] hand .", "her", "the"),
    ("they lost [MASK] way in the forest .", "their", "his"),
    ("he has [MASK] a letter to the king .", "written", "wrote"),
    ("he could not [MASK] the door .", "open", "opened"),
)
"""A gap, the word that fits, and one that does not."""


@pytest.fixture(scope="module")
def model() -> MiniBERT:
    return MiniBERT.from_pretrained(MODEL)


def test_a_folder_without_optimiser_in_half_precision() -> None:
    assert shipped_models() == [DEFAULT]
    files = {path.name: path.stat().st_size for path in MODEL.iterdir()}
    assert set(files) == {
        "README.md", "config.json", "config.yaml", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "vocab.txt",
    }  # fmt: skip
    assert sum(files.values()) < 7_000_000
    assert json.loads((MODEL / "config.json").read_bytes())["dtype"] == "float16"
    assert {array.dtype for array in load_file(MODEL / "model.safetensors").values()} == {np.dtype(np.float16)}


def test_it_is_read_as_float32_the_numbers_of_the_file(model: MiniBERT) -> None:
    held = load_file(MODEL / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    table = model.parameters["token_embeddings"]
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, held.astype(np.float32))


def test_its_name_means_it_where_no_model_of_ones_own_is_called_so(
    model: MiniBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def table() -> np.ndarray:
        return MiniBERT.from_pretrained(DEFAULT).parameters["token_embeddings"]

    (tmp_path / DEFAULT).mkdir()  # the folder of a clone, say
    monkeypatch.chdir(tmp_path)
    shipped = model.parameters["token_embeddings"]
    np.testing.assert_array_equal(table(), shipped)

    MiniBERT(model.config, seed=1, tokenizer=model.tokenizer).save_pretrained(tmp_path / DEFAULT)
    assert np.abs(table() - shipped).max() > 0.01


def test_it_was_trained_by_the_committed_recipe() -> None:
    beside, preset = load_config([str(MODEL / "config.yaml")]), load_config(["training/reference"])
    assert beside.run.name == "reference"
    assert beside.model_copy(update={"run": preset.run}) == preset


@pytest.mark.parametrize(("text", "fits", "does_not"), AGREEMENT, ids=[text for text, _, _ in AGREEMENT])
def test_it_knows_some_grammar(model: MiniBERT, text: str, fits: str, does_not: str) -> None:
    (pieces,) = model.fill_mask(text, top_k=model.config.vocab_size)
    probabilities = {piece.token: piece.probability for piece in pieces}
    assert probabilities[fits] > 2 * probabilities[does_not]


@pytest.mark.reference
def test_transformers_opens_the_folder_and_gives_the_same_numbers(model: MiniBERT) -> None:
    import torch
    import transformers

    theirs, info = transformers.BertForMaskedLM.from_pretrained(MODEL, output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    texts = ["the man is here .", "she lost her way in the forest , and nobody knew where she was ."]
    assert model.tokenizer is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    for text in texts:
        ids, _ = model.tokenizer.encode_row(text)
        assert tokenizer(text)["input_ids"] == ids
        with torch.no_grad():
            expected = theirs.eval()(torch.tensor([ids])).logits.numpy()
        np.testing.assert_allclose(model.forward([ids])[0], expected, atol=2e-4)
