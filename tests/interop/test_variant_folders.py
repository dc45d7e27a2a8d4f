"""Folders of variants: they come back to the bit, say what they are, and are refused by those who do not know them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import CheckpointError
from mini_bert.interop import bert_config
from mini_bert.model.bert import MiniBERT
from mini_bert.verification.conditions import ATTENTION_VARIANTS, BLOCK_VARIANTS

SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "max_position_embeddings": 16,
}
VARIANTS = {**BLOCK_VARIANTS, **ATTENTION_VARIANTS}


def saved(folder: Path, **settings: Any) -> MiniBERT:
    model = MiniBERT(ModelConfig(**{**SHAPE, **settings}), seed=7)
    model.parameters.buffer[...] += np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    model.save_pretrained(folder)
    return model


def fields_of(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return fields


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_variant_comes_back_to_the_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = saved(tmp_path / "one", **settings)
    back = MiniBERT.from_pretrained(tmp_path / "one")
    assert back.config == model.config
    assert back.parameters.buffer.tobytes() == model.parameters.buffer.tobytes()
    assert fields_of(tmp_path / "one")["model_type"] == "mini-bert"
    back.save_pretrained(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_the_faithful_model_says_nothing_of_variants(tmp_path: Path) -> None:
    saved(tmp_path, initializer="orthogonal", scale_residual_init=True, hidden_act="relu", heads=("mlm", "nsp"))
    fields = fields_of(tmp_path)
    assert fields["model_type"] == "bert"
    assert fields["hidden_act"] == "relu"
    assert not fields.keys() & {"norm", "norm_placement", "use_bias", "initializer", "position_embedding_type"}
    assert MiniBERT.from_pretrained(tmp_path).config.initializer == "truncated_normal"


def test_every_setting_that_changes_the_mathematics_is_written(tmp_path: Path) -> None:
    """What is neither written for a variant nor said by the faithful fields is about first values, or heads."""
    saved(tmp_path, norm="rms_norm", heads=("mlm", "token_classifier"))
    unwritten = set(ModelConfig.model_fields) - fields_of(tmp_path).keys()
    assert unwritten == {"initializer", "scale_residual_init", "decoder_bias_init", "pooler", "num_labels", "labels"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "batch_norm"}, "norm.*batch_norm|refused"),
        ({"norm_placement": None}, "refused"),
        ({"use_bias": "perhaps"}, "use_bias"),
        ({"norm_placement": "post"}, r"encoder\.LayerNorm"),
        ({"feed_forward": "gated"}, r"intermediate\.gated"),
        ({"model_type": "bert"}, "norm_placement in .*got 'pre'; expected 'post'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_act": "mini-bert:swish"}, "hidden_act"),
    ],
)
def test_a_variant_that_lies_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    saved(tmp_path, norm_placement="pre")
    (tmp_path / "config.json").write_text(json.dumps({**fields_of(tmp_path), **change}))
    with pytest.raises(CheckpointError, match=message):
        MiniBERT.from_pretrained(tmp_path)


def test_a_variant_says_all_of_itself(tmp_path: Path) -> None:
    saved(tmp_path, norm_placement="pre")
    for name in bert_config._VARIANTS:
        fields = fields_of(tmp_path)
        del fields[name]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(fields))
        with pytest.raises(CheckpointError, match=f"no {name}; expected all settings of a model of type mini-bert"):
            bert_config.read(folder / "config.json")


@pytest.mark.reference
@pytest.mark.parametrize("settings", [{"norm_placement": "pre"}, {"position_embedding_type": "alibi"}], ids=str)
def test_transformers_refuses_a_variant_by_name(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Its automatic classes do not know the type; its BERT classes warn of it, and stop at the activation."""
    import transformers

    saved(tmp_path, **settings)
    with pytest.raises(ValueError, match="mini-bert"):
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    for kind in (transformers.BertModel, transformers.BertForMaskedLM):
        with pytest.raises(KeyError, match="mini-bert:gelu"):
            kind.from_pretrained(tmp_path)


@pytest.mark.parametrize("wanted", [(), ("mlm",), ("classifier",), ("sop", "rtd"), ("token_classifier", "mlm")])
def test_heads_of_extra_tasks_are_left_behind_kept_or_made(tmp_path: Path, wanted: tuple[str, ...]) -> None:
    model = saved(tmp_path, heads=("mlm", "std", "rtd"))
    other = MiniBERT.from_pretrained(tmp_path, heads=wanted)
    assert other.config.heads == wanted
    for name in model.parameters.keys() & other.parameters.keys():
        assert np.array_equal(other.parameters[name], model.parameters[name])


def test_heads_of_extra_tasks_are_told_by_their_tensors(tmp_path: Path) -> None:
    saved(tmp_path, heads=("mlm", "nsp", "sop", "std", "rtd"))
    fields = fields_of(tmp_path)
    del fields["heads"], fields["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert MiniBERT.from_pretrained(tmp_path).config.heads == ("mlm", "nsp", "sop", "std", "rtd")
