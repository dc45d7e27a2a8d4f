"""BERTs as transformers makes them, in every form in which they lie on disks: read, compared, given back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import parameter_table
from mini_bert.ops.contract import Array
from mini_bert.verification.gradient_check import gradient_errors

pytestmark = pytest.mark.reference


# --- containers: how a model of theirs comes to lie in a folder ------------------------------------------------------


def safetensors(theirs: Any, folder: Path) -> None:
    theirs.save_pretrained(folder)


def shards(theirs: Any, folder: Path) -> None:
    theirs.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2


def torch_file(theirs: Any, folder: Path) -> None:
    import torch

    torch.save(_apart(theirs, folder), folder / "pytorch_model.bin")


def torch_shards(theirs: Any, folder: Path) -> None:
    import torch

    state = _apart(theirs, folder)
    names = [f"pytorch_model-{number:05}-of-00003.bin" for number in (1, 2, 3)]
    places = {tensor: names[number % 3] for number, tensor in enumerate(state)}
    for name in names:
        torch.save({tensor: state[tensor] for tensor in state if places[tensor] == name}, folder / name)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def old_torch_file(theirs: Any, folder: Path) -> None:
    """As of 2019: five pickles in a row, gamma and beta, a buffer, the decoder a second time."""
    import torch

    state = _apart(theirs, folder)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(theirs.config.max_position_embeddings)[None]
    assert "cls.predictions.decoder.weight" in old
    assert any("gamma" in name for name in old)
    torch.save(old, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def nameless(theirs: Any, folder: Path) -> None:
    """Without `architectures`, and without the prefix: what scripts of one's own write."""
    import torch

    state = {name.removeprefix("bert."): tensor for name, tensor in _apart(theirs, folder).items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "pytorch_model.bin")
    fields = json.loads((folder / "config.json").read_text())
    del fields["architectures"]
    (folder / "config.json").write_text(json.dumps(fields))


def _apart(theirs: Any, folder: Path) -> dict[str, Any]:
    theirs.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    return dict(theirs.state_dict())


# --- the configurations ----------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One model of theirs, and how it lies on the disk."""

    name: str
    heads: tuple[str, ...]
    write: Callable[[Any, Path], None]
    dtype: str
    """Of the file."""
    settings: dict[str, Any]
    pooler: bool = True

    @property
    def arguments(self) -> dict[str, Any]:
        """What their class is to be told beside the configuration."""
        return {} if self.pooler else {"add_pooling_layer": False}


SMALL = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
    "max_position_embeddings": 16, "initializer_range": 0.2, "hidden_act": "gelu",
}  # fmt: skip
NAMES = {0: "person", 1: "place, or £", 2: "O"}
CASES = {
    "masked LM": Case("BertForMaskedLM", ("mlm",), safetensors, "float32", {}),
    "pre-training, tanh GELU, float64": Case(
        "BertForPreTraining", ("mlm", "nsp"), safetensors, "float64", {"hidden_act": "gelu_new"}
    ),
    "encoder, ReLU, torch file": Case("BertModel", (), torch_file, "float32", {"hidden_act": "relu"}),
    "encoder without pooler, deep and thin, bfloat16": Case(
        "BertModel", (), safetensors, "bfloat16",
        {"num_hidden_layers": 7, "hidden_size": 16, "num_attention_heads": 8, "intermediate_size": 8},
        pooler=False,
    ),
    "next sentence, bfloat16, torch file": Case("BertForNextSentencePrediction", ("nsp",), torch_file, "bfloat16", {}),
    "classifier of 5, float16": Case(
        "BertForSequenceClassification", ("classifier",), safetensors, "float16", {"num_labels": 5}
    ),
    "token classifier with names, float16 torch file": Case(
        "BertForTokenClassification", ("token_classifier",), torch_file, "float16",
        {"id2label": NAMES, "label2id": {name: number for number, name in NAMES.items()}},
    ),
    "pre-training in shards": Case("BertForPreTraining", ("mlm", "nsp"), shards, "float32", {}),
    "masked LM in torch shards, float64, four segments": Case(
        "BertForMaskedLM", ("mlm",), torch_shards, "float64", {"type_vocab_size": 4, "hidden_act": "gelu_pytorch_tanh"}
    ),
    "masked LM of 2019": Case("BertForMaskedLM", ("mlm",), old_torch_file, "float32", {"layer_norm_eps": 1e-3}),
    "pre-training without a name": Case(
        "BertForPreTraining", ("mlm", "nsp"), nameless, "float32", {"hidden_act": "gelu_fast"}
    ),
    "one layer, one head, one segment, wide, large vocabulary": Case(
        "BertForMaskedLM", ("mlm",), safetensors, "float32",
        {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 200, "type_vocab_size": 1,
         "vocab_size": 70_001, "max_position_embeddings": 12, "hidden_act": "relu"},
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def made(case: Case, folder: Path) -> Any:
    """A model of theirs, far from its initial values, with the numbers that its file in `folder` holds."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(**{**SMALL, **case.settings})
    theirs = getattr(transformers, case.name)(config, **case.arguments)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    theirs.to(getattr(torch, case.dtype))
    folder.mkdir()
    case.write(theirs, folder)
    theirs.set_attn_implementation("eager")
    return theirs.eval()


def inputs_of(config: Any) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    T = config.max_position_embeddings
    ids = rng.integers(5, config.vocab_size, (4, T))
    ids[0, :2] = 5, config.vocab_size - 1
    mask = np.arange(T) < np.array([T, T // 2, 3, T - 1])[:, None]
    return ids, mask, rng.integers(0, config.type_vocab_size, (4, T))


def called(theirs: Any) -> Any:
    import torch

    ids, mask, types = map(torch.from_numpy, inputs_of(theirs.config))
    return theirs(
        input_ids=ids, attention_mask=mask.long(), token_type_ids=types, output_hidden_states=True,
        output_attentions=True,
    )  # fmt: skip


def outputs_of(outcome: Any, case: Case) -> dict[str | None, Any]:
    """Head → logits; of a bare encoder, None → the last hidden states."""
    if not case.heads:
        return {None: outcome.last_hidden_state}
    if len(case.heads) == 2:
        return {"mlm": outcome.prediction_logits, "nsp": outcome.seq_relationship_logits}
    return {case.heads[0]: outcome.logits}


def differences(model: MiniBERT, theirs: Any, case: Case) -> dict[str, float]:
    """The largest difference in logits, hidden states, attention weights; and the worst error of a gradient tensor."""
    import torch

    inputs = inputs_of(theirs.config)
    by_name = dict(theirs.named_parameters())
    found = {"logits": 0.0, "hidden": 0.0, "attention": 0.0, "gradients": 0.0}
    for head in case.heads or (None,):
        theirs.zero_grad()
        outcome = called(theirs)
        expected = outputs_of(outcome, case)[head]
        logits, cache = model.encode(*inputs) if head is None else model.forward(*inputs, head=head)
        assert logits.shape == tuple(expected.shape)
        found["logits"] = max(found["logits"], distance(logits, expected))
        layers = model.config.num_hidden_layers
        assert len(outcome.hidden_states) == layers + 1 == len(outcome.attentions) + 1
        states = ["embeddings.output", *(f"layer_{i}.output" for i in range(layers))]
        for name, state in zip(states, outcome.hidden_states, strict=True):
            found["hidden"] = max(found["hidden"], distance(cache[name], state))
        for i, weights in enumerate(outcome.attentions):
            mine = cache[f"layer_{i}.attention.attention_weights"]
            found["attention"] = max(found["attention"], distance(mine, weights))

        cotangent = np.random.default_rng(3).normal(size=logits.shape).astype(model.dtype)
        (expected * torch.from_numpy(cotangent)).sum().backward()
        grads = MiniBERTGradients(model)
        backward = grads.backward_from_hidden if head is None else grads.backward_from_logits
        backward(cotangent, cache)
        references = {}
        for row in model.parameters.table:
            gradient = by_name[row.hugging_face].grad
            if gradient is None:  # another head's
                references[row.name] = np.zeros(row.shape)
            else:
                references[row.name] = gradient.numpy().T if row.transposed else gradient.numpy()
        worst = max(tensor.error for tensor in gradient_errors(grads.gradients, references))
        found["gradients"] = max(found["gradients"], worst)
    return found


def distance(ours: Array, theirs: Any) -> float:
    return float(np.abs(ours - theirs.detach().numpy()).max())


@every_case
@pytest.mark.parametrize(("dtype", "bound", "gradient_bound"), [("float64", 1e-10, 1e-10), ("float32", 1e-5, 1e-4)])
def test_the_same_inside_and_out(tmp_path: Path, case: Case, dtype: str, bound: float, gradient_bound: float) -> None:
    import torch

    theirs = made(case, tmp_path / "theirs").to(getattr(torch, dtype))
    model = MiniBERT.from_pretrained(tmp_path / "theirs", dtype=dtype)
    assert model.config.heads == case.heads
    assert sum(parameter.numel() for parameter in theirs.parameters()) == model.parameters.buffer.size
    found = differences(model, theirs, case)
    assert found.pop("gradients") <= gradient_bound
    assert max(found.values()) <= bound, found
    assert model.config.labels == (tuple(NAMES.values()) if "id2label" in case.settings else ())


@every_case
def test_back_to_transformers(tmp_path: Path, case: Case) -> None:
    """Nothing missing, nothing left over, the same logits; and a second time round not a byte is other."""
    import torch
    import transformers

    theirs = made(case, tmp_path / "theirs").float()
    model = MiniBERT.from_pretrained(tmp_path / "theirs")
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        model = MiniBERT.from_pretrained(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["config.json", "model.safetensors"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    back, info = getattr(transformers, case.name).from_pretrained(
        tmp_path / "one", output_loading_info=True, dtype=torch.float32, attn_implementation="eager", **case.arguments
    )
    assert {kind: list(keys) for kind, keys in info.items() if keys} == {}
    assert back.config.architectures == [case.name]
    assert back.config.id2label == theirs.config.id2label or not set(case.heads) & {"classifier", "token_classifier"}
    with torch.no_grad():
        expected, got = (outputs_of(called(each), case) for each in (theirs, back.eval()))
    for head in expected:
        assert (expected[head] - got[head]).abs().max() <= 1e-5


@every_case
def test_reading_loses_nothing(tmp_path: Path, case: Case) -> None:
    """Each number that the file holds, to the bit; and the file's own dtype holds them again."""
    theirs = made(case, tmp_path / "theirs").double()
    model = MiniBERT.from_pretrained(tmp_path / "theirs", dtype=np.float64)
    by_name = dict(theirs.named_parameters())
    for row in parameter_table(model.config):
        tensor = by_name[row.hugging_face].detach().numpy()
        np.testing.assert_array_equal(model.parameters[row.name], tensor.T if row.transposed else tensor)
    model.save_pretrained(tmp_path / "again", dtype=case.dtype)
    again = MiniBERT.from_pretrained(tmp_path / "again", dtype=np.float64)
    assert again.parameters.buffer.tobytes() == model.parameters.buffer.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_transformers_opens_what_was_rounded(tmp_path: Path, dtype: str) -> None:
    import torch
    from transformers import BertForMaskedLM

    theirs = made(CASES["masked LM"], tmp_path / "theirs")
    MiniBERT.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "narrow", dtype=dtype)
    narrow = BertForMaskedLM.from_pretrained(tmp_path / "narrow")
    assert narrow.dtype == getattr(torch, dtype)
    for name, tensor in theirs.to(narrow.dtype).state_dict().items():
        assert torch.equal(tensor, narrow.state_dict()[name]), name
