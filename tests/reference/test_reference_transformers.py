"""Our model beside Hugging Face's BERT with the same weights, handed over through the model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.verification.gradient_check import gradient_errors

pytestmark = pytest.mark.reference

V, T, LABELS = 61, 16, 3
HEADS = {
    "BertForMaskedLM": ("mlm",),
    "BertForPreTraining": ("mlm", "nsp"),
    "BertForNextSentencePrediction": ("nsp",),
    "BertForSequenceClassification": ("classifier",),
    "BertForTokenClassification": ("token_classifier",),
    "BertModel": (),
}


def model_of(dtype: Any = np.float64, **settings: Any) -> MiniBERT:
    shape = {
        "vocab_size": V, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
        "max_position_embeddings": T, "num_labels": LABELS,
    }  # fmt: skip
    model = MiniBERT(ModelConfig(**{**shape, **settings}), dtype=dtype)
    model.parameters.buffer[...] += 0.1 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    return model


def inputs_of(size: int = V, length: int = T) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    ids = rng.integers(5, size, (5, length))
    mask = np.arange(length) < np.array([length, length // 2, 3, length - 1, length])[:, None]
    types = (np.arange(length) >= np.array([4, 2, 1, length, 9])[:, None]).astype(np.int64)
    return ids, mask, types


def opened(model: MiniBERT, folder: Path, name: str) -> Any:
    """The folder as `transformers` reads it: nothing missing, nothing left over."""
    import torch
    import transformers

    model.save_pretrained(folder)
    theirs, info = getattr(transformers, name).from_pretrained(
        folder, output_loading_info=True, dtype=getattr(torch, model.dtype.name)
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], (kind, info[kind])
    return theirs.eval()


def called(theirs: Any, labels: Array | None = None) -> Any:
    import torch

    ids, mask, types = map(torch.from_numpy, inputs_of())
    extra = {} if labels is None else {"labels": torch.from_numpy(labels)}
    return theirs(input_ids=ids, attention_mask=mask.long(), token_type_ids=types, **extra)


def gradients_of(theirs: Any, model: MiniBERT) -> dict[str, Array]:
    """By our names, in our orientation; a parameter that was not used has none, which is 0."""
    by_name = dict(theirs.named_parameters())
    gradients = {}
    for row in model.parameters.table:
        gradient = by_name[row.hugging_face].grad
        if gradient is None:
            gradients[row.name] = np.zeros(row.shape)
        else:
            gradients[row.name] = gradient.numpy().T if row.transposed else gradient.numpy()
    return gradients


def masked_batch() -> tuple[Batch, Array]:
    """Ragged masked positions, one row without; and the same as dense labels."""
    ids, mask, types = inputs_of()
    rng = np.random.default_rng(2)
    positions = np.array([1, 5, 9, T + 2, 3 * T + 1, 3 * T + 7, 4 * T + 15])
    targets = rng.integers(5, V, positions.size)
    labels = np.full(ids.shape, -100)
    labels.flat[positions] = targets
    return Batch(ids, mask, types, positions, targets), labels


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_masked_lm_logits_loss_and_every_gradient(tmp_path: Path, act: str) -> None:
    model = model_of(hidden_act=act)
    theirs = opened(model, tmp_path, "BertForMaskedLM")
    batch, labels = masked_batch()
    outcome = called(theirs, labels)
    outcome.loss.backward()
    expected = gradients_of(theirs, model)

    logits, cache = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    assert np.abs(logits - outcome.logits.detach().numpy()).max() <= 1e-10
    grads = MiniBERTGradients(model)
    loss, grad_logits = grads.compute_mlm_loss_and_gradients(logits, labels, labels != -100)
    assert loss == pytest.approx(outcome.loss.item(), abs=1e-12)
    grads.backward_from_logits(grad_logits, cache)
    dense = gradient_errors(grads.gradients, expected)

    gradients = Parameters(model.config, np.float64)
    loss_sum, n_masked = model.mlm_loss_and_gradients(batch, gradients)
    assert loss_sum / n_masked == pytest.approx(outcome.loss.item(), abs=1e-12)
    gradients.buffer[...] /= n_masked
    sparse = gradient_errors(gradients, expected)
    for tensor in (*dense, *sparse):
        assert tensor.error <= 1e-10, tensor


def test_masked_lm_in_float32(tmp_path: Path) -> None:
    model = model_of(np.float32)
    outcome = called(opened(model, tmp_path, "BertForMaskedLM"))
    logits, _ = model.forward(*inputs_of())
    assert logits.dtype == np.float32
    assert np.abs(logits - outcome.logits.detach().numpy()).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_default_size(tmp_path: Path, dtype: Any, tolerance: float) -> None:
    import torch

    model = MiniBERT(dtype=dtype)
    theirs = opened(model, tmp_path, "BertForMaskedLM")
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 2_966_144
    ids, mask, types = inputs_of(8192, 64)
    logits, _ = model.forward(ids, mask, types)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids), torch.from_numpy(mask).long(), torch.from_numpy(types)).logits.numpy()
    assert np.abs(logits - expected).max() <= tolerance


@pytest.mark.parametrize(("name", "head"), [(name, head) for name, heads in HEADS.items() for head in heads])
def test_every_head_and_its_gradients(tmp_path: Path, name: str, head: str) -> None:
    import torch

    model = model_of(heads=HEADS[name])
    theirs = opened(model, tmp_path, name)
    assert theirs.config.architectures == [name]
    outcome = called(theirs)
    expected = outcome.logits if "logits" in outcome else None
    if expected is None:  # BertForPreTraining has two
        expected = outcome.prediction_logits if head == "mlm" else outcome.seq_relationship_logits
    logits, cache = model.forward(*inputs_of(), head=head)
    assert logits.shape == tuple(expected.shape)
    assert np.abs(logits - expected.detach().numpy()).max() <= 1e-10

    cotangent = np.random.default_rng(3).normal(size=logits.shape)
    (expected * torch.from_numpy(cotangent)).sum().backward()
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(cotangent, cache)
    for tensor in gradient_errors(grads.gradients, gradients_of(theirs, model)):
        assert tensor.error <= 1e-10, tensor


def test_bare_encoder_and_its_gradients(tmp_path: Path) -> None:
    import torch

    model = model_of(heads=())
    theirs = opened(model, tmp_path, "BertModel")
    expected = called(theirs).last_hidden_state
    hidden, cache = model.encode(*inputs_of())
    assert np.abs(hidden - expected.detach().numpy()).max() <= 1e-10
    cotangent = np.random.default_rng(4).normal(size=hidden.shape)
    (expected * torch.from_numpy(cotangent)).sum().backward()
    grads = MiniBERTGradients(model)
    grads.backward_from_hidden(cotangent, cache)
    for tensor in gradient_errors(grads.gradients, gradients_of(theirs, model)):
        assert tensor.error <= 1e-10, tensor


def test_intermediates_are_theirs(tmp_path: Path) -> None:
    model = model_of()
    theirs = opened(model, tmp_path, "BertForMaskedLM")
    theirs.set_attn_implementation("eager")
    import torch

    ids, mask, types = map(torch.from_numpy, inputs_of())
    outcome = theirs(ids, mask.long(), types, output_hidden_states=True, output_attentions=True)
    _, cache = model.forward(*inputs_of())
    names = ["embeddings.output", "layer_0.output", "layer_1.output", "layer_2.output"]
    for name, states in zip(names, outcome.hidden_states, strict=True):
        np.testing.assert_allclose(cache[name], states.detach().numpy(), atol=1e-11)
    for i, weights in enumerate(outcome.attentions):
        np.testing.assert_allclose(
            cache[f"layer_{i}.attention.attention_weights"], weights.detach().numpy(), atol=1e-12
        )


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_there_and_back_to_the_bit(tmp_path: Path, name: str, dtype: Any) -> None:
    model = model_of(dtype, heads=HEADS[name])
    opened(model, tmp_path / "ours", name).save_pretrained(tmp_path / "theirs")
    back = MiniBERT.from_pretrained(tmp_path / "theirs", dtype=dtype)
    assert back.config.heads == HEADS[name]
    assert back.parameters.buffer.tobytes() == model.parameters.buffer.tobytes()


def test_a_model_of_theirs_opens_here(tmp_path: Path) -> None:
    """Initialised there, with a setting or two that is not the default."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=V,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=T,
        type_vocab_size=2,
        layer_norm_eps=1e-3,
        initializer_range=0.3,
    )
    theirs = BertForMaskedLM(config).double().eval()
    theirs.save_pretrained(tmp_path)
    model = MiniBERT.from_pretrained(tmp_path, dtype=np.float64)
    logits, _ = model.forward(*inputs_of())
    assert np.abs(logits - called(theirs).logits.detach().numpy()).max() <= 1e-10
