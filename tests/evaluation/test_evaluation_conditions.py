"""When is a held-out loss a held-out loss? Without dropout, over tokens, and with the perplexity of that mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, small_bert

from mini_bert.batch import Batch
from mini_bert.evaluation.masked_lm import MaskedLMResult, evaluate_masked_lm
from mini_bert.metrics.cross_entropy import token_losses
from mini_bert.metrics.perplexity import perplexity

V, T = 8, 6


class Known:
    """Gives the probability p to the target: its loss there is −log p."""

    def __init__(self, probabilities: list[float]) -> None:
        self._left = list(probabilities)

    def mlm_logits(self, batch: Batch) -> Any:
        assert batch.target_ids is not None
        p = np.array([self._left.pop(0) for _ in batch.target_ids])
        logits = np.repeat(np.log((1 - p) / (V - 1))[:, None], V, axis=1)
        logits[np.arange(len(p)), batch.target_ids] = np.log(p)
        return logits


@pytest.fixture
def uneven() -> MaskedLMResult:
    """One hidden piece in the first row, of probability 1/2, and three in the second, of probability 1/32."""
    batch = Batch(
        np.zeros((2, T), np.int32), masked_positions=np.array([1, T, T + 2, T + 3]), target_ids=np.array([1, 2, 3, 4])
    )
    return evaluate_masked_lm(Known([1 / 2, 1 / 32, 1 / 32, 1 / 32]), [batch])


def test_evaluation_is_without_dropout() -> None:
    """`forward` has none, and gives the same loss."""
    model = small_bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    logits, _ = model.forward(BATCH.input_ids, BATCH.attention_mask, BATCH.token_type_ids)
    rows = logits.reshape(-1, logits.shape[-1])[BATCH.masked_positions]
    assert evaluate_masked_lm(model, [BATCH]).loss == pytest.approx(
        token_losses(rows, BATCH.target_ids).mean(), rel=1e-9
    )


def test_loss_is_the_mean_over_tokens_not_over_rows(uneven: MaskedLMResult) -> None:
    assert uneven.loss == pytest.approx((1 + 3 * 5) * math.log(2) / 4, rel=1e-12)


def test_perplexity_is_that_of_the_mean_loss(uneven: MaskedLMResult) -> None:
    assert uneven.perplexity == pytest.approx(perplexity(uneven.loss), rel=1e-12)


def test_perplexity_of_guessing_is_the_number_of_pieces() -> None:
    assert perplexity(math.log(V)) == pytest.approx(V, rel=1e-12)


def test_ties_are_never_right() -> None:
    """A model that gives every piece the same score."""
    batch = Batch(np.zeros((1, T), np.int32), masked_positions=np.arange(T), target_ids=np.arange(T))
    result = evaluate_masked_lm(Known([1 / V] * T), [batch])
    assert result.loss == pytest.approx(math.log(V), rel=1e-12)
    assert result.top1 == 0
