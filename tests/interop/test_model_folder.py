"""Model folders: what is saved is what is loaded, and a folder that lies is refused."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import CheckpointError, ConfigError, InvalidInputError, StorageError
from mini_bert.interop import safetensors_guard
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s"]


def small(heads=("mlm",), dtype=np.float32, **settings) -> MiniBERT:
    return MiniBERT(ModelConfig(**SHAPE, heads=heads, **settings), dtype=dtype, seed=7)


def rewrite(path, change) -> None:
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "heads",
    [("mlm",), ("mlm", "nsp"), (), ("nsp",), ("classifier",), ("token_classifier",), ("mlm", "token_classifier")],
)
def test_a_model_comes_back_to_the_bit(tmp_path, heads, dtype):
    model = small(heads, dtype, num_labels=3, hidden_act="relu", layer_norm_eps=1e-6)
    model.save_pretrained(tmp_path / "model")
    back = MiniBERT.from_pretrained(tmp_path / "model", dtype=dtype)
    assert back.config.heads == heads
    assert back.config.model_dump(exclude={"num_labels"}) == model.config.model_dump(exclude={"num_labels"})
    assert back.config.num_labels == (3 if {"classifier", "token_classifier"} & set(heads) else 2)
    assert back.parameters.buffer.tobytes() == model.parameters.buffer.tobytes()


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        small().save_pretrained(tmp_path / name)
    MiniBERT.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "three")
    for path in sorted((tmp_path / "one").iterdir()):
        for name in ("two", "three"):
            assert (tmp_path / name / path.name).read_bytes() == path.read_bytes()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_tokenizer_goes_along(tmp_path):
    model = small()
    model.tokenizer = WordPiece(PIECES, lowercase=False)
    model.save_pretrained(tmp_path)
    back = MiniBERT.from_pretrained(tmp_path)
    assert back.tokenizer == model.tokenizer
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 0

    WordPiece([*PIECES, *(f"w{number}" for number in range(40))]).save(tmp_path)
    with pytest.raises(CheckpointError, match="49 pieces; expected at most the 40"):
        MiniBERT.from_pretrained(tmp_path)


def test_a_head_that_the_folder_lacks_is_made_new_only_when_asked_for(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    with pytest.raises(InvalidInputError, match="classifier"):
        MiniBERT.from_pretrained(tmp_path).parameters.require_head("classifier")

    fresh = MiniBERT.from_pretrained(tmp_path, heads=("classifier",), num_labels=5, seed=1)
    again = MiniBERT.from_pretrained(tmp_path, heads=("classifier",), num_labels=5, seed=1)
    other = MiniBERT.from_pretrained(tmp_path, heads=("classifier",), num_labels=5, seed=2)
    assert fresh.parameters["W_classifier"].shape == (8, 5)
    assert fresh.parameters.buffer.tobytes() == again.parameters.buffer.tobytes()
    assert not np.array_equal(fresh.parameters["W_pooler"], other.parameters["W_pooler"])
    for name in set(fresh.parameters) & set(model.parameters):
        np.testing.assert_array_equal(fresh.parameters[name], model.parameters[name])
    with pytest.raises(ConfigError, match="heads"):
        MiniBERT.from_pretrained(tmp_path, heads=("sentiment",))


def test_heads_that_are_there_are_kept_and_others_left_behind(tmp_path):
    model = small(("mlm", "nsp"))
    model.save_pretrained(tmp_path)
    bare = MiniBERT.from_pretrained(tmp_path, heads=())
    np.testing.assert_array_equal(bare.parameters["W_pooler"], model.parameters["W_pooler"])
    assert "W_mlm" not in bare.parameters
    only_nsp = MiniBERT.from_pretrained(tmp_path, heads=("nsp",))
    np.testing.assert_array_equal(only_nsp.parameters["W_nsp"], model.parameters["W_nsp"])


def test_one_kind_of_classifier_is_never_taken_for_the_other(tmp_path):
    model = small(("token_classifier",))
    model.save_pretrained(tmp_path)
    other = MiniBERT.from_pretrained(tmp_path, heads=("classifier",))
    assert not np.array_equal(other.parameters["W_classifier"], model.parameters["W_token_classifier"])
    with pytest.raises(CheckpointError, match=r"W_token_classifier|classifier\.weight"):
        MiniBERT.from_pretrained(tmp_path, heads=("token_classifier",), num_labels=7)


def test_reading_into_another_precision(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    wide = MiniBERT.from_pretrained(tmp_path, dtype=np.float64)
    np.testing.assert_array_equal(wide.parameters.buffer, model.parameters.buffer.astype(np.float64))
    path = tmp_path / "model.safetensors"
    arrays, _ = safetensors_guard.load(path)
    safetensors_guard.save(path, {name: array.astype(np.float16) for name, array in arrays.items()})
    half = MiniBERT.from_pretrained(tmp_path)
    np.testing.assert_array_equal(half.parameters.buffer, model.parameters.buffer.astype(np.float16))
    with pytest.raises(InvalidInputError, match="int64"):
        MiniBERT.from_pretrained(tmp_path, dtype=np.int64)


def drop(name):
    return lambda fields: fields.pop(name)


def put(**values):
    return lambda fields: fields.update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(model_type="roberta"), "model_type.*roberta"),
        (put(model_type="mini-bert"), "no position_embedding_type; expected all settings of a model of type mini-bert"),
        (put(position_embedding_type="relative_key"), "relative_key"),
        (put(is_decoder=True), "is_decoder"),
        (put(tie_word_embeddings=False), "tie_word_embeddings"),
        (put(hidden_act="gelu_10"), "hidden_act.*gelu_10.*gelu_new"),
        (put(hidden_size=9), "hidden_size"),
        (put(hidden_size="large"), "hidden_size"),
        (put(architectures=["GPT2Model"]), "GPT2Model"),
        (put(architectures=[[]]), "architectures"),
        (put(architectures={"BertModel": 1}), "architectures"),
        (put(heads=["sentiment"]), "heads"),
        (put(heads={}), "heads"),
        (put(num_hidden_layers=1), r"encoder\.layer\.1"),
        (put(num_hidden_layers=3), r"encoder\.layer\.2"),
        (put(vocab_size=41), "token_embeddings"),
        (put(architectures=["BertForPreTraining"]), r"seq_relationship|pooler"),
        (drop("vocab_size"), "no vocab_size"),
    ],
)
def test_a_folder_whose_config_lies_is_refused(tmp_path, change, message):
    small().save_pretrained(tmp_path)
    rewrite(tmp_path / "config.json", change)
    with pytest.raises(CheckpointError, match=message):
        MiniBERT.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, content):
    small().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        MiniBERT.from_pretrained(tmp_path)


def test_missing_files_and_half_a_head(tmp_path):
    with pytest.raises(CheckpointError, match="Name a checkpoint"):
        MiniBERT.from_pretrained(tmp_path / "nowhere")
    small().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    arrays, metadata = safetensors_guard.load(path)
    arrays.pop("cls.predictions.transform.dense.bias")
    safetensors_guard.save(path, arrays, metadata)
    for heads in (None, ("mlm",)):
        with pytest.raises(CheckpointError, match="b_mlm"):
            MiniBERT.from_pretrained(tmp_path, heads=heads)
    path.unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        MiniBERT.from_pretrained(tmp_path)


def test_a_checkpoint_is_not_overwritten(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="checkpoint"):
        small().save_pretrained(tmp_path)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_harms_nothing(tmp_path, monkeypatch, call):
    folder = tmp_path / "model"
    small().save_pretrained(folder)
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    healthy, counter = getattr(os, call), iter(range(1000))
    for failing in range(2):
        calls = iter(range(1000))

        def fail(*arguments, calls=calls, failing=failing):
            next(counter)
            if next(calls) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return healthy(*arguments)

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=r"No space left.*MB free"):
            MiniBERT(ModelConfig(**SHAPE), seed=8).save_pretrained(folder)
        monkeypatch.setattr(os, call, healthy)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert next(counter) > 0


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("heads", "name"),
    [
        (("mlm",), "BertForMaskedLM"),
        (("mlm", "nsp"), "BertForPreTraining"),
        ((), "BertModel"),
        (("nsp",), "BertForNextSentencePrediction"),
        (("classifier",), "BertForSequenceClassification"),
        (("token_classifier",), "BertForTokenClassification"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transformers_opens_the_folder(tmp_path, heads, name, dtype):
    import torch
    import transformers

    model = small(heads, dtype, num_labels=3)
    model.tokenizer = WordPiece(PIECES)
    model.save_pretrained(tmp_path)
    theirs, info = getattr(transformers, name).from_pretrained(
        tmp_path, output_loading_info=True, dtype=getattr(torch, np.dtype(dtype).name)
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    if heads:
        assert theirs.config.architectures == [name]

    theirs.eval()
    ids = np.random.default_rng(0).integers(5, 40, (2, 9))
    hidden, _ = model.encode(ids)
    with torch.no_grad():
        encoder = theirs if name == "BertModel" else theirs.bert
        expected = encoder(input_ids=torch.from_numpy(ids)).last_hidden_state.numpy()
    assert np.abs(hidden - expected).max() <= (1e-5 if dtype == np.float32 else 1e-10)

    theirs.save_pretrained(tmp_path / "theirs")
    back = MiniBERT.from_pretrained(tmp_path / "theirs", dtype=dtype)
    assert back.config.heads == heads
    assert back.parameters.buffer.tobytes() == model.parameters.buffer.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model = small()
    model.parameters["W1_1"][0, 3] = value
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="NaN or infinity in W1_1"):
        MiniBERT.from_pretrained(tmp_path / "model")


def test_a_billion_layers_are_refused_before_anything_is_laid_out(tmp_path):
    small().save_pretrained(tmp_path / "model")
    rewrite(tmp_path / "model" / "config.json", lambda fields: fields.update(num_hidden_layers=10**9))
    with pytest.raises(CheckpointError, match="num_hidden_layers: got 1000000000; expected at most 1024"):
        MiniBERT.from_pretrained(tmp_path / "model")
