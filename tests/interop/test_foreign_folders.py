"""Folders as others have written them over the years: what is read, what it becomes, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import CheckpointError, ConfigError, DataError, InvalidInputError
from mini_bert.interop import safetensors_guard
from mini_bert.model.bert import MiniBERT
from mini_bert.model.pretrained import read_pretrained
from mini_bert.text.wordpiece import WordPiece
from mini_bert.verification.reliability.hostile_files.torch_files import (
    NONE,
    archive,
    ordered,
    sequence,
    storage,
    tensor,
)

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
IDS = np.array([[2, 7, 30, 9, 3]])
Arrays = dict[str, np.ndarray]


def small(heads: tuple[str, ...] = ("mlm",), **settings: Any) -> MiniBERT:
    model = MiniBERT(ModelConfig(**{**SHAPE, **settings}, heads=heads), seed=7)
    model.parameters.buffer[...] += 0.1 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    return model


def foreign(
    model: MiniBERT, folder: Path, tensors: Callable[[Arrays], Arrays] = lambda arrays: arrays, **fields: Any
) -> Path:
    """The model's folder with other tensors and other fields in `config.json`; `...` takes a field away."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    safetensors_guard.save(path, tensors(safetensors_guard.load(path)[0]), {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))
    return folder


def same(one: MiniBERT, other: MiniBERT) -> bool:
    return one.config == other.config and one.parameters.buffer.tobytes() == other.parameters.buffer.tobytes()


def old_names(arrays: Arrays) -> Arrays:
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in arrays.items()
    }


def without_prefix(arrays: Arrays) -> Arrays:
    return {name.removeprefix("bert."): array for name, array in arrays.items()}


def with_prefix(arrays: Arrays) -> Arrays:
    return {f"bert.{name}": array for name, array in arrays.items()}


def with_buffers(arrays: Arrays) -> Arrays:
    buffers = {"position_ids": np.arange(16)[None], "token_type_ids": np.zeros((1, 16), np.int64)}
    return arrays | {f"bert.embeddings.{name}": array for name, array in buffers.items()}


def with_decoder(arrays: Arrays) -> Arrays:
    return arrays | {
        "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": arrays["cls.predictions.bias"],
    }


def decoder_only(arrays: Arrays) -> Arrays:
    both = with_decoder(arrays)
    return {name: both[name] for name in both if not name.endswith(("word_embeddings.weight", "predictions.bias"))}


@pytest.mark.parametrize(
    ("heads", "tensors"),
    [
        (("mlm",), old_names),
        (("mlm", "nsp"), old_names),
        (("mlm", "nsp"), without_prefix),
        (("classifier",), without_prefix),
        ((), with_prefix),
        ((), lambda arrays: old_names(with_prefix(arrays))),
        (("mlm",), with_buffers),
        (("mlm",), with_decoder),
        (("mlm",), decoder_only),
        (("mlm",), lambda arrays: old_names(with_decoder(with_buffers(arrays)))),
        ((), lambda arrays: arrays | with_prefix(arrays)),
    ],
)
def test_other_names_of_the_same_tensors(tmp_path, heads, tensors):
    model = small(heads)
    assert same(MiniBERT.from_pretrained(foreign(model, tmp_path, tensors)), model)


@pytest.mark.parametrize(
    ("heads", "tensors", "message"),
    [
        (("mlm",), lambda a: with_decoder(a) | {"cls.predictions.decoder.weight": np.zeros((40, 8))}, "tied"),
        ((), lambda a: a | {name: array + 1 for name, array in with_prefix(a).items()}, "second, other"),
        ((), lambda a: a | old_names({name: array + 1 for name, array in a.items()}), "second, other"),
        (("mlm",), lambda a: a | {"bert.embeddings.position_ids": np.arange(2, 18)}, "position_ids of its own"),
        (("mlm",), lambda a: a | {"bert.encoder.layer.0.adapter.weight": np.zeros(3)}, "does not explain.*adapter"),
        (("mlm",), lambda a: a | {"qa_outputs.weight": a["cls.predictions.bias"].astype(np.int64)}, None),
        (("mlm",), lambda a: a | {"cls.predictions.bias": a["cls.predictions.bias"].astype(np.int64)}, "int64"),
        (("mlm",), lambda a: {name: array for name, array in a.items() if ".layer.1." not in name}, "layer.1"),
    ],
)
def test_tensors_that_contradict_each_other_or_the_architecture(tmp_path, heads, tensors, message):
    folder = foreign(small(heads), tmp_path, tensors)
    if message is None:  # another head beside ours is left alone, as transformers does
        assert read_pretrained(folder)[1].left_behind == ("qa_outputs.weight",)
        return
    with pytest.raises(CheckpointError, match=message):
        MiniBERT.from_pretrained(folder)


def test_an_untied_decoder_does_no_harm_to_the_encoder(tmp_path):
    folder = foreign(
        small(),
        tmp_path,
        lambda a: with_decoder(a) | {"cls.predictions.decoder.weight": np.zeros((40, 8), np.float32)},
        tie_word_embeddings=False,
    )
    with pytest.raises(CheckpointError, match=r"tie_word_embeddings.*heads=\(\)"):
        MiniBERT.from_pretrained(folder)
    hidden = MiniBERT.from_pretrained(folder, heads=()).encode(IDS)[0]
    np.testing.assert_array_equal(hidden, small().encode(IDS)[0])


@pytest.mark.parametrize("missing", [..., None, []])
@pytest.mark.parametrize("heads", [(), ("mlm",), ("mlm", "nsp"), ("nsp",), ("token_classifier",)])
def test_heads_by_the_tensors_where_no_architecture_is_named(tmp_path, heads, missing):
    model = small(heads)
    back, origin = read_pretrained(foreign(model, tmp_path, architectures=missing))
    assert same(back, model)
    assert not origin.named
    assert origin.heads == heads


def test_a_classifier_that_could_be_either_is_not_guessed(tmp_path):
    model = small(("classifier",), num_labels=3)
    folder = foreign(model, tmp_path, architectures=...)
    with pytest.raises(CheckpointError, match="Say which"):
        MiniBERT.from_pretrained(folder)
    assert same(MiniBERT.from_pretrained(folder, heads=("classifier",)), model)
    tokens = MiniBERT.from_pretrained(folder, heads=("token_classifier",))
    np.testing.assert_array_equal(tokens.parameters["W_token_classifier"], model.parameters["W_classifier"])
    assert MiniBERT.from_pretrained(folder, heads=()).config.heads == ()


# --- pooler ----------------------------------------------------------------------------------------------------------


def no_pooler(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if "pooler" not in name}


def test_a_bare_encoder_without_a_pooler(tmp_path):
    folder = foreign(small(()), tmp_path / "theirs", no_pooler)
    model = MiniBERT.from_pretrained(folder)
    assert model.config.pooler is False
    assert "W_pooler" not in model.parameters
    np.testing.assert_array_equal(model.encode(IDS)[0], small(()).encode(IDS)[0])
    model.save_pretrained(tmp_path / "ours")
    assert same(MiniBERT.from_pretrained(tmp_path / "ours"), model)
    classifier = MiniBERT.from_pretrained(folder, heads=("classifier",))
    assert classifier.config.pooler is True
    assert classifier.parameters["W_pooler"].any()


def test_half_a_pooler_is_a_damaged_one(tmp_path):
    with pytest.raises(CheckpointError, match="b_pooler"):
        MiniBERT.from_pretrained(
            foreign(small(()), tmp_path, lambda a: {name: a[name] for name in a if name != "pooler.dense.bias"})
        )


def test_a_masked_lm_that_carries_a_pooler_and_another_head(tmp_path):
    """As published: saved from pre-training, `architectures` says BertForMaskedLM."""
    whole = small(("mlm", "nsp"))
    folder = foreign(whole, tmp_path, architectures=["BertForMaskedLM"])
    model, origin = read_pretrained(folder)
    assert model.config == small().config
    assert set(origin.left_behind) == {
        "pooler.dense.weight", "pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias",
    }  # fmt: skip
    np.testing.assert_array_equal(model.forward(IDS)[0], whole.forward(IDS)[0])
    assert same(MiniBERT.from_pretrained(folder, heads=("mlm", "nsp")), whole)
    assert MiniBERT.from_pretrained(folder, heads=()).config.pooler is True


def test_a_pooler_that_a_head_reads_cannot_be_switched_off():
    with pytest.raises(ConfigError, match=r"pooler.*classifier"):
        ModelConfig(heads=("classifier",), pooler=False)


# --- config.json -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("gelu", "gelu"), ("gelu_python", "gelu"), ("relu", "relu"), ("gelu_new", "gelu_new"),
        ("gelu_fast", "gelu_new"), ("gelu_accurate", "gelu_new"), ("gelu_pytorch_tanh", "gelu_new"),
        ("gelu_python_tanh", "gelu_new"),
    ],
)  # fmt: skip
def test_names_of_activations(tmp_path, name, ours):
    model = MiniBERT.from_pretrained(foreign(small(), tmp_path, hidden_act=name))
    assert model.config.hidden_act == ours
    np.testing.assert_array_equal(model.forward(IDS)[0], small(hidden_act=ours).forward(IDS)[0])


def test_the_activations_are_three_functions():
    logits = [small(hidden_act=act).forward(IDS)[0] for act in ("gelu", "gelu_new", "relu")]
    assert 1e-6 < np.abs(logits[0] - logits[1]).max() < 1e-2 < np.abs(logits[0] - logits[2]).max()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "gelu_10"}, "hidden_act.*gelu_10.*gelu_new"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"model_type": "distilbert"}, "model_type.*distilbert"),
        ({"position_embedding_type": "relative_key_query"}, "relative_key_query"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
        ({"auto_map": {"AutoModel": "modeling.Mine"}}, "auto_map"),
        ({"architectures": ["BertLMHeadModel"]}, "BertLMHeadModel"),
        ({"architectures": ["BertForQuestionAnswering"]}, r"BertForQuestionAnswering.*heads=\(\)"),
        ({"architectures": ["TFBertForMaskedLM"]}, "TFBertForMaskedLM"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
        ({"max_position_embeddings": 15}, r"shape \[16, 8\].*\[15, 8\] for position_embeddings"),
        ({"vocab_size": 39}, r"shape \[40, 8\].*\[39, 8\] for token_embeddings"),
        ({"type_vocab_size": 3}, "segment_embeddings"),
        ({"intermediate_size": 13}, "W1_0"),
        ({"num_attention_heads": 3}, "multiple of num_attention_heads"),
    ],
)
def test_a_setting_that_changes_the_mathematics_is_refused_by_name(tmp_path, fields, message):
    with pytest.raises(CheckpointError, match=message):
        MiniBERT.from_pretrained(foreign(small(), tmp_path, **fields))


def test_settings_that_change_nothing_are_passed_over(tmp_path):
    folder = foreign(
        small(), tmp_path, model_type=..., type_vocab_size=..., tie_word_embeddings=..., use_cache=True,
        pruned_heads={}, transformers_version="4.8.2", gradient_checkpointing=False, torch_dtype="float16",
        classifier_dropout=None, position_embedding_type="absolute", num_labels=None,
    )  # fmt: skip
    assert same(MiniBERT.from_pretrained(folder), small())


def test_the_encoder_under_a_head_that_is_not_here(tmp_path):
    folder = foreign(
        small(("token_classifier",)),
        tmp_path,
        lambda a: {name.replace("classifier", "qa_outputs"): array for name, array in a.items()},
        architectures=["BertForQuestionAnswering"],
    )
    model, origin = read_pretrained(folder, heads=())
    assert model.config.pooler is False
    assert origin.left_behind == ("qa_outputs.bias", "qa_outputs.weight")
    np.testing.assert_array_equal(model.encode(IDS)[0], small(("token_classifier",)).encode(IDS)[0])
    fresh = MiniBERT.from_pretrained(folder, heads=("token_classifier",), num_labels=4)
    assert fresh.parameters["W_token_classifier"].shape == (8, 4)


def test_google_s_name_of_the_configuration(tmp_path):
    folder = foreign(small(), tmp_path)
    (folder / "config.json").rename(folder / "bert_config.json")
    with pytest.raises(CheckpointError, match=r"Rename bert_config\.json"):
        MiniBERT.from_pretrained(folder)


def test_large_vocabularies_open(tmp_path):
    model = small(vocab_size=70_000)
    assert same(MiniBERT.from_pretrained(foreign(model, tmp_path)), model)
    ids = np.array([[2, 69_999, 3]])
    assert model.forward(ids)[0].shape == (1, 3, 70_000)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [("classifier",), ("token_classifier",)])
def test_names_of_classes_survive(tmp_path, heads):
    labels = ("negative", "neutral", "positive, £")
    folder = foreign(
        small(heads, num_labels=3),
        tmp_path / "theirs",
        id2label={"2": labels[2], "0": labels[0], "1": labels[1]},
        label2id={label: number for number, label in enumerate(labels)},
    )
    model = MiniBERT.from_pretrained(folder)
    assert model.config.labels == model.config.label_names == labels
    model.save_pretrained(tmp_path / "ours")
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert written["id2label"] == {"0": labels[0], "1": labels[1], "2": labels[2]}
    assert written["label2id"] == {label: number for number, label in enumerate(labels)}
    assert same(MiniBERT.from_pretrained(tmp_path / "ours"), model)

    other = "token_classifier" if heads == ("classifier",) else "classifier"
    assert MiniBERT.from_pretrained(folder, heads=(other,)).config.labels == ()
    assert MiniBERT.from_pretrained(folder, heads=("mlm",)).config.labels == ()


def test_classes_without_names_have_none(tmp_path):
    model = small(("classifier",), num_labels=3)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"]["2"] == "LABEL_2"
    back = MiniBERT.from_pretrained(tmp_path)
    assert back.config.labels == ()
    assert back.config.label_names == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("names", [{"1": "a", "2": "b"}, {"zero": "a", "one": "b"}, {"0": "a", "00": "b"}])
def test_names_of_no_classes_are_refused_where_they_matter(tmp_path, names):
    with pytest.raises(CheckpointError, match=r"id2label.*0 to 1"):
        MiniBERT.from_pretrained(foreign(small(("classifier",)), tmp_path / "classifier", id2label=names))
    assert same(MiniBERT.from_pretrained(foreign(small(), tmp_path / "mlm", id2label=names)), small())


def test_as_many_names_as_classes():
    assert ModelConfig(labels="yes", num_labels=1).labels == ("yes",)
    with pytest.raises(ConfigError, match=r"3 names.*num_labels.*2"):
        ModelConfig(labels=("a", "b", "c"))


# --- files and dtypes ------------------------------------------------------------------------------------------------


def bfloat16_of(x: np.ndarray) -> np.ndarray:
    """By adding half of what will be cut off, and cutting it off: right but for ties, of which there are none here."""
    bits = x.astype(np.float32).view(np.uint32) + 0x8000 & 0xFFFF0000
    return bits.view(np.float32)


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [
        ("float16", lambda x: x.astype(np.float16).astype(np.float32)),
        ("bfloat16", bfloat16_of),
        ("float32", lambda x: x),
        ("float64", lambda x: x.astype(np.float64)),
    ],
)
def test_a_model_written_in_another_dtype(tmp_path, dtype, rounding):
    model = small()
    model.save_pretrained(tmp_path / "one", dtype=dtype)
    assert json.loads((tmp_path / "one" / "config.json").read_text())["dtype"] == dtype
    content = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0  # the tensors lie at multiples of 8 bytes
    kinds = safetensors_guard.describe(content, "one")
    assert {entry["dtype"] for entry in kinds.values()} == {"B" * (dtype[0] == "b") + f"F{dtype[-2:]}"}
    back = MiniBERT.from_pretrained(tmp_path / "one")
    np.testing.assert_array_equal(back.parameters.buffer, rounding(model.parameters.buffer))
    back.save_pretrained(tmp_path / "two", dtype=dtype)
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_numbers_that_a_dtype_cannot_hold(tmp_path):
    model = small()
    model.parameters["W1_0"][0, 0] = -70_000
    with pytest.raises(InvalidInputError, match=r"float16.*intermediate.*70000"):
        model.save_pretrained(tmp_path, dtype="float16")
    with pytest.raises(InvalidInputError, match=r"float8.*bfloat16"):
        model.save_pretrained(tmp_path, dtype="float8")
    assert list(tmp_path.iterdir()) == []
    model.save_pretrained(tmp_path, dtype="bfloat16")


def in_shards(folder: Path, arrays: Arrays) -> None:
    names = sorted(arrays)
    places = {name: f"model-{1 + number % 2:05}-of-00002.safetensors" for number, name in enumerate(names)}
    for shard in set(places.values()):
        safetensors_guard.save(folder / shard, {name: arrays[name] for name in names if places[name] == shard})
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def state_dict(arrays: Arrays, *of_storage: bytes) -> bytes:
    """The pickle of float32 tensors, each in a storage of its own."""
    return ordered(
        {
            name: tensor(storage("Float", name, x.size, *of_storage), 0, x.shape, [step // 4 for step in x.strides])
            for name, x in arrays.items()
        }
    )


def in_an_archive(folder: Path, arrays: Arrays) -> None:
    content = archive(state_dict(arrays), {name: array.tobytes() for name, array in arrays.items()})
    (folder / "pytorch_model.bin").write_bytes(content)


def in_a_sequence(folder: Path, arrays: Arrays) -> None:
    content = sequence(state_dict(arrays, NONE), {name: (x.size, x.tobytes()) for name, x in arrays.items()})
    (folder / "pytorch_model.bin").write_bytes(content)


@pytest.mark.parametrize("write", [in_shards, in_an_archive, in_a_sequence])
def test_other_containers(tmp_path, write):
    model = small(("mlm", "nsp"))
    folder = foreign(model, tmp_path)
    arrays = old_names(safetensors_guard.load(folder / "model.safetensors")[0])
    (folder / "model.safetensors").unlink()
    write(folder, arrays)
    assert same(MiniBERT.from_pretrained(folder), model)


# --- tokenizer -------------------------------------------------------------------------------------------------------


def test_a_vocabulary_alone_is_enough(tmp_path):
    folder = foreign(small(), tmp_path)
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    model = MiniBERT.from_pretrained(folder)
    assert model.tokenizer == WordPiece(pieces)
    assert len(model.fill_mask("The [MASK]s", top_k=2)[0]) == 2
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "model_max_length": 16}')
    assert MiniBERT.from_pretrained(folder).tokenizer == WordPiece(pieces, lowercase=False)


def test_a_folder_with_a_tokenizer_that_is_not_berts(tmp_path):
    folder = foreign(small(), tmp_path)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n日\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(DataError, match=r"BertJapaneseTokenizer.*with_tokenizer=False"):
        MiniBERT.from_pretrained(folder)
    assert MiniBERT.from_pretrained(folder, with_tokenizer=False).tokenizer is None
