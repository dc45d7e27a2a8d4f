"""Every gradient of the whole model beside the complex step and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, TYPES, full_pass, small_bert

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.verification.gradient_check import (
    CENTRAL_DIFFERENCE,
    COMPLEX_STEP,
    GradientCheck,
    Rule,
    check_samples,
)

HEADS = {
    "mlm": {"heads": ("mlm",)},
    "nsp": {"heads": ("mlm", "nsp")},
    "classifier": {"heads": ("classifier",)},
    "token_classifier": {"heads": ("token_classifier",)},
}
no_dropout_and_dropout = pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["no dropout", "dropout"])
activations = pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu"])


def check(
    rule: Rule, settings: dict[str, Any], gradients: Parameters, loss: Callable[[MiniBERT], Any], subject: str
) -> GradientCheck:
    """Along one random direction a tensor, and at 20 entries of each."""
    model = small_bert(rule.dtype, **settings)
    outcome = check_samples(subject, rule, lambda: loss(model), model.parameters, gradients, entries=20)
    assert len(outcome.tensors) == 2 * len(model.parameters)
    entries = {tensor.name: tensor.compared for tensor in outcome.tensors[len(model.parameters) :]}
    assert entries == {name: min(20, array.size) for name, array in model.parameters.items()}
    return outcome


def check_head(rule: Rule, head: str, act: str, dropout: RandomStream | None) -> GradientCheck:
    settings = {**HEADS[head], "hidden_act": act}
    model = small_bert(**settings)
    logits, cache = full_pass(model, BATCH, head, dropout)
    cotangent = np.random.default_rng(1).normal(size=logits.shape)
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(cotangent, cache)
    return check(
        rule,
        settings,
        grads.gradients,
        lambda moved: (cotangent * full_pass(moved, BATCH, head, dropout)[0]).sum(),
        f"{head} {act}",
    )


@no_dropout_and_dropout
@activations
@pytest.mark.parametrize("head", HEADS)
def test_backward_from_logits_by_complex_step(head: str, act: str, dropout: RandomStream | None) -> None:
    outcome = check_head(COMPLEX_STEP, head, act, dropout)
    assert outcome.threshold == 1e-12
    assert outcome.passed, str(outcome)


@pytest.mark.parametrize(
    ("head", "act", "dropout"),
    [("mlm", "gelu", None), ("nsp", "gelu", None), ("classifier", "gelu", DROPOUT), ("token_classifier", "relu", None)],
)
def test_backward_from_logits_by_central_differences(head: str, act: str, dropout: RandomStream | None) -> None:
    outcome = check_head(CENTRAL_DIFFERENCE, head, act, dropout)
    assert outcome.threshold == 1e-5
    assert outcome.passed, str(outcome)


@pytest.mark.parametrize("rule", [COMPLEX_STEP, CENTRAL_DIFFERENCE], ids=["complex step", "central differences"])
def test_backward_from_hidden(rule: Rule) -> None:
    """Of the bare encoder: the pooler is there and reads nothing here."""
    settings = {"heads": (), "type_vocab_size": 3}
    model = small_bert(**settings)
    hidden, cache = model.encode(IDS, MASK, TYPES)
    cotangent = np.random.default_rng(2).normal(size=hidden.shape)
    grads = MiniBERTGradients(model)
    grads.backward_from_hidden(cotangent, cache)
    outcome = check(
        rule,
        settings,
        grads.gradients,
        lambda moved: (cotangent * moved.encode(IDS, MASK, TYPES)[0]).sum(),
        "encoder",
    )
    assert outcome.passed, str(outcome)
    for name in ("W_pooler", "b_pooler"):
        assert not grads.gradients[name].any()
    assert not grads.gradients["segment_embeddings"][2].any()


def loss_gradients(settings: dict[str, Any], batch: Batch, dropout: RandomStream | None) -> Parameters:
    model = small_bert(**settings)
    gradients = Parameters(model.config, np.float64)
    assert model.mlm_loss_and_gradients(batch, gradients, dropout)[1] == len(batch.target_ids)
    return gradients


def check_loss(rule: Rule, settings: dict[str, Any], batch: Batch, dropout: RandomStream | None) -> GradientCheck:
    def loss(moved: MiniBERT) -> Any:
        return moved.mlm_loss_and_gradients(batch, Parameters(moved.config, moved.dtype), dropout)[0]

    return check(rule, settings, loss_gradients(settings, batch, dropout), loss, "loss")


@no_dropout_and_dropout
@activations
def test_loss_by_complex_step(act: str, dropout: RandomStream | None) -> None:
    outcome = check_loss(COMPLEX_STEP, {"hidden_act": act}, BATCH, dropout)
    assert outcome.passed, str(outcome)


def test_loss_without_padding_by_complex_step() -> None:
    batch = BATCH._replace(attention_mask=None, token_type_ids=None)
    outcome = check_loss(COMPLEX_STEP, {}, batch, None)
    assert outcome.passed, str(outcome)


def test_loss_by_central_differences() -> None:
    outcome = check_loss(CENTRAL_DIFFERENCE, {}, BATCH, DROPOUT)
    assert outcome.passed, str(outcome)


def test_mean_loss_from_dense_targets_by_complex_step() -> None:
    """The user's own way: forward, loss and gradient of the logits, backward."""
    model = small_bert()
    logits, cache = model.forward(IDS, MASK, TYPES)
    targets = np.full(IDS.shape, -100)
    targets.flat[BATCH.masked_positions] = BATCH.target_ids
    grads = MiniBERTGradients(model)
    _, grad_logits = grads.compute_mlm_loss_and_gradients(logits, targets, targets != -100)
    grads.backward_from_logits(grad_logits, cache)

    def loss(moved: MiniBERT) -> Any:
        rows = moved.forward(IDS, MASK, TYPES)[0].reshape(-1, 13)[BATCH.masked_positions]
        chosen = rows[np.arange(6), BATCH.target_ids]
        return (np.log(np.exp(rows).sum(axis=1)) - chosen).mean()

    outcome = check(COMPLEX_STEP, {}, grads.gradients, loss, "mean loss")
    assert outcome.passed, str(outcome)


@no_dropout_and_dropout
def test_bias_of_the_keys_has_no_gradient_without_dropout(dropout: RandomStream | None) -> None:
    """Softmax does not see what all scores of a query have in common; dropout, which follows it, does not either."""
    gradients = loss_gradients({}, BATCH, dropout)
    for layer in range(2):
        largest = max(np.abs(gradients[f"b_{letter}_{layer}"]).max() for letter in "QVO")
        assert largest > 1e-3
        assert np.abs(gradients[f"b_K_{layer}"]).max() <= 1e-14 * largest


@pytest.mark.parametrize("head", ["classifier", "token_classifier"])
def test_rows_that_nothing_names_have_no_gradient(head: str) -> None:
    model = small_bert(**HEADS[head])
    grads = MiniBERTGradients(model)
    logits, cache = model.forward(IDS, MASK)
    cotangent = np.random.default_rng(4).normal(size=logits.shape)
    if head == "token_classifier":
        cotangent *= MASK[:, :, None]
    grads.backward_from_logits(cotangent, cache)
    used = set(IDS[MASK].tolist())  # padding, too, is read by nobody
    table = grads.gradients["token_embeddings"]
    for row in range(13):
        assert bool(np.any(table[row])) == (row in used)
    assert np.all(np.any(grads.gradients["position_embeddings"][:6], axis=1))
    assert not grads.gradients["position_embeddings"][6].any()
    assert grads.gradients["segment_embeddings"][0].any()
    assert not grads.gradients["segment_embeddings"][1].any()


def test_backward_adds_and_zero_gradients_clears() -> None:
    model = small_bert()
    grads = MiniBERTGradients(model)
    logits, cache = model.forward(IDS, MASK, TYPES)
    cotangent = np.random.default_rng(3).normal(size=logits.shape)
    grads.backward_from_logits(cotangent, cache)
    once = grads.gradients.buffer.copy()
    grads.backward_from_logits(cotangent, cache)
    np.testing.assert_allclose(grads.gradients.buffer, 2 * once, rtol=1e-13, atol=1e-13 * np.abs(once).max())
    view = grads.gradients["W1_0"]
    grads.zero_gradients()
    assert not grads.gradients.buffer.any()
    assert not view.any()


def in_precision(dtype: Any) -> tuple[Array, float]:
    model = small_bert(dtype)
    gradients = Parameters(model.config, dtype)
    loss, _ = model.mlm_loss_and_gradients(BATCH, gradients, DROPOUT)
    assert gradients.buffer.dtype == dtype
    return gradients.buffer, loss


def test_float32_beside_float64() -> None:
    single, single_loss = in_precision(np.float32)
    double, double_loss = in_precision(np.float64)
    assert np.linalg.norm(single - double) <= 1e-5 * np.linalg.norm(double)
    assert single_loss == pytest.approx(double_loss, rel=1e-6)
