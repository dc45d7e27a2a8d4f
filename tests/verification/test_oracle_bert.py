"""The model beside the same model by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.random_streams import RandomStream
from mini_bert.verification.gradient_check import (
    CENTRAL_DIFFERENCE,
    COMPLEX_STEP,
    GradientCheck,
    check_samples,
    gradient_errors,
)
from mini_bert.verification.oracles.bert import masked_lm

DROPOUT = RandomStream(seed=5, name="dropout", step=3)


def model_of(dtype: Any = np.float64, **settings: Any) -> MiniBERT:
    shape = {
        "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 10,
        "max_position_embeddings": 5, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2,
    }  # fmt: skip
    model = MiniBERT(ModelConfig(**{**shape, **settings}), dtype=dtype)
    # Far from the initial values, where all weights of attention are alike and half of the gradients next to nothing.
    model.parameters.buffer[...] += 0.3 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    return model


def batch_of(**changes: Any) -> Batch:
    """Three rows of five tokens with padding, two segments, repeated ids, and 2, 0 and 1 masked positions."""
    ids = np.array([[2, 7, 4, 7, 3], [2, 9, 3, 0, 0], [2, 4, 10, 3, 0]], np.int32)
    whole = Batch(
        ids,
        attention_mask=ids != 0,
        token_type_ids=np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]]),
        masked_positions=np.array([1, 2, 11]),
        target_ids=np.array([7, 5, 8], np.int32),
        first_row=4,
    )
    return whole._replace(**changes)


CASES = {
    "padding and segments": ({}, batch_of(), None),
    "dropout": ({}, batch_of(), DROPOUT),
    "no padding": ({}, batch_of(attention_mask=None, token_type_ids=None), None),
    "as many masks in each row": ({}, batch_of(masked_positions=np.array([3, 5, 14])), DROPOUT),
    "relu, one layer": ({"hidden_act": "relu", "num_hidden_layers": 1}, batch_of(), None),
    "gelu_new, one layer": ({"hidden_act": "gelu_new", "num_hidden_layers": 1}, batch_of(), None),
    "one head, a large epsilon": ({"num_attention_heads": 1, "layer_norm_eps": 0.1}, batch_of(), DROPOUT),
    "a row of padding only": ({}, batch_of(attention_mask=np.array([[0] * 5, [1] * 5, [1, 1, 1, 1, 0]], bool)), None),
}
every_case = pytest.mark.parametrize(("settings", "batch", "dropout"), CASES.values(), ids=CASES.keys())


def loops(model: MiniBERT, batch: Batch, dropout: RandomStream | None) -> tuple[float, Any]:
    def lists(array: Any) -> Any:
        return None if array is None else array.tolist()

    return masked_lm(
        model.config,
        {name: value.tolist() for name, value in model.parameters.items()},
        batch.input_ids.tolist(),
        lists(batch.masked_positions),
        lists(batch.target_ids),
        attention_mask=lists(batch.attention_mask),
        token_type_ids=lists(batch.token_type_ids),
        dropout=dropout,
        first_row=batch.first_row,
    )


@every_case
def test_loss_is_that_of_the_loops(settings: dict[str, Any], batch: Batch, dropout: RandomStream | None) -> None:
    model = model_of(**settings)
    expected, _ = loops(model, batch, dropout)
    loss, masked = model.mlm_loss_and_gradients(batch, Parameters(model.config, model.dtype), dropout)
    assert masked == 3
    assert loss == pytest.approx(expected, rel=1e-13)


@every_case
def test_logits_are_those_of_the_loops(settings: dict[str, Any], batch: Batch, dropout: RandomStream | None) -> None:
    model = model_of(**settings)
    _, expected = loops(model, batch, None)
    logits, _ = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    np.testing.assert_allclose(logits, expected, atol=1e-12)
    np.testing.assert_allclose(
        model.mlm_logits(batch), np.reshape(expected, (15, -1))[batch.masked_positions], atol=1e-12
    )


def test_gradients_are_the_slopes_of_the_loops() -> None:
    """Central differences of the slow loss: forward and backward pass of the model share nothing with it."""
    model, batch = model_of(), batch_of()
    gradients = Parameters(model.config, np.float64)
    model.mlm_loss_and_gradients(batch, gradients, DROPOUT)
    check = check_samples(
        "loops", CENTRAL_DIFFERENCE, lambda: loops(model, batch, DROPOUT)[0], model.parameters, gradients, entries=2
    )
    assert len(check.tensors) == 2 * len(model.parameters)
    assert check.passed, str(check)


def check_model(rule: Any, settings: dict[str, Any], batch: Batch, dropout: RandomStream | None) -> GradientCheck:
    model = model_of(rule.dtype, **settings)
    exact = model_of(**settings)
    gradients = Parameters(exact.config, np.float64)
    exact.mlm_loss_and_gradients(batch, gradients, dropout)
    scratch = Parameters(model.config, model.dtype)
    return check_samples(
        "model", rule, lambda: model.mlm_loss_and_gradients(batch, scratch, dropout)[0], model.parameters, gradients
    )


@every_case
def test_gradients_by_complex_step(settings: dict[str, Any], batch: Batch, dropout: RandomStream | None) -> None:
    check = check_model(COMPLEX_STEP, settings, batch, dropout)
    assert check.threshold == 1e-12
    assert check.passed, str(check)


@pytest.mark.parametrize("case", ["padding and segments", "dropout", "relu, one layer"])
def test_gradients_by_central_differences(case: str) -> None:
    check = check_model(CENTRAL_DIFFERENCE, *CASES[case])
    assert check.threshold == 1e-5
    assert check.passed, str(check)


@pytest.mark.parametrize("case", [name for name, (_, _, dropout) in CASES.items() if dropout is None])
def test_computing_only_what_the_loss_reads_is_exact(case: str) -> None:
    """Beside the pass that computes every position: docs/derivations/masked_lm.md."""
    settings, batch, _ = CASES[case]
    model = model_of(**settings)
    sparse = Parameters(model.config, np.float64)
    loss_sum, masked = model.mlm_loss_and_gradients(batch, sparse)

    targets = np.full(batch.input_ids.size, -100)
    targets[batch.masked_positions] = batch.target_ids
    full = MiniBERTGradients(model)
    logits, cache = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    loss, grad_logits = full.compute_mlm_loss_and_gradients(logits, targets.reshape(batch.input_ids.shape))
    full.backward_from_logits(grad_logits, cache)

    assert loss_sum / masked == pytest.approx(loss, rel=1e-13)
    errors = gradient_errors({name: value / masked for name, value in sparse.items()}, full.gradients)
    assert max(error.error for error in errors) <= 1e-12


def test_the_bias_of_the_keys_has_no_gradient() -> None:
    """Softmax does not see what all scores of a query have in common."""
    model, batch = model_of(), batch_of()
    gradients = Parameters(model.config, np.float64)
    model.mlm_loss_and_gradients(batch, gradients)
    for layer in range(2):
        largest = max(np.abs(gradients[f"b_{letter}_{layer}"]).max() for letter in "QVO")
        assert np.abs(gradients[f"b_K_{layer}"]).max() <= 1e-14 * largest
