"""Computing only what the loss reads is exact: loss and all gradients are those of the full computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, full_pass, small_bert

from mini_bert.batch import Batch
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.verification.gradient_check import gradient_errors


def masked(*positions: int) -> Batch:
    return BATCH._replace(masked_positions=np.array(positions, np.int64), target_ids=np.arange(len(positions)) * 5 % 13)


LAYOUTS = {
    "ragged": BATCH,
    "as many in each row": masked(1, 4, 6, 8, 12, 15),
    "one in each row": masked(3, 8, 12),
    "rows without": masked(6, 7, 9),
    "only the last row": masked(16),
    "every position": masked(*range(18)),
    "at padding": masked(2, 10, 11, 17),
    "no padding": masked(0, 5, 7)._replace(attention_mask=None, token_type_ids=None),
}


def full_loss_and_gradients(model: Any, batch: Batch, dropout: RandomStream | None) -> tuple[float, Parameters]:
    """Logits at all positions, a log-softmax written out here, and the public backward pass."""
    logits, cache = full_pass(model, batch, "mlm", dropout)
    flat = logits.reshape(-1, logits.shape[-1])
    dflat = np.zeros_like(flat)
    loss = 0.0
    for position, target in zip(batch.masked_positions, batch.target_ids, strict=True):
        probs = np.exp(flat[position]) / np.exp(flat[position]).sum()
        loss -= float(np.log(probs[target]))
        dflat[position] = probs
        dflat[position, target] -= 1.0
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(dflat.reshape(logits.shape), cache)
    return loss, grads.gradients


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_and_gradients_are_those_of_the_full_computation(
    layout: str, layers: int, dropout: RandomStream | None
) -> None:
    batch = LAYOUTS[layout]
    model = small_bert(num_hidden_layers=layers)
    expected_loss, expected = full_loss_and_gradients(model, batch, dropout)
    gradients = Parameters(model.config, np.float64)
    loss, n_masked = model.mlm_loss_and_gradients(batch, gradients, dropout)
    assert n_masked == len(batch.masked_positions)
    assert loss == pytest.approx(expected_loss, rel=1e-13)
    for tensor in gradient_errors(gradients, expected):
        assert tensor.error <= 1e-12, tensor
    for name in expected:
        if not name.startswith("b_K"):
            np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mlm_logits_are_rows_of_forward(layout: str) -> None:
    batch = LAYOUTS[layout]
    model = small_bert()
    logits, _ = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    np.testing.assert_allclose(
        model.mlm_logits(batch), logits.reshape(-1, 13)[batch.masked_positions], rtol=1e-12, atol=1e-12
    )


def test_full_pass_without_dropout_is_forward() -> None:
    """So that the comparison above is one with the public forward pass."""
    model = small_bert()
    logits, _ = full_pass(model, BATCH, "mlm", None)
    np.testing.assert_array_equal(logits, model.forward(IDS, MASK, BATCH.token_type_ids)[0])


def test_no_masked_position_is_no_loss() -> None:
    model = small_bert()
    gradients = Parameters(model.config, np.float64)
    assert model.mlm_loss_and_gradients(masked(), gradients) == (0.0, 0)
    assert not gradients.buffer.any()
    assert model.mlm_logits(masked()).shape == (0, 13)


def test_gradients_of_the_sum_are_added() -> None:
    model = small_bert()
    grads = MiniBERTGradients(model)
    model.mlm_loss_and_gradients(BATCH, grads, DROPOUT)
    once: Array = grads.gradients.buffer.copy()
    assert once.any()
    model.mlm_loss_and_gradients(BATCH, grads, DROPOUT)
    np.testing.assert_allclose(grads.gradients.buffer, 2 * once, rtol=1e-12, atol=1e-15)


def test_batch_is_read_as_the_public_inputs_are() -> None:
    """Lists, and masks of 0 and 1, as anywhere else."""
    model = small_bert()
    listed = Batch(
        IDS.tolist(),
        MASK.astype(int).tolist(),
        BATCH.token_type_ids.tolist(),
        BATCH.masked_positions.tolist(),
        BATCH.target_ids.tolist(),
        first_row=4,
    )
    results = []
    for batch in (BATCH, listed):
        gradients = Parameters(model.config, np.float64)
        results.append((model.mlm_loss_and_gradients(batch, gradients, DROPOUT), gradients.buffer.tobytes()))
    assert results[0] == results[1]
    np.testing.assert_array_equal(model.mlm_logits(listed), model.mlm_logits(BATCH))
