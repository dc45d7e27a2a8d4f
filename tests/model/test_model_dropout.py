"""Where dropout acts, how much, and on what its draws depend."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, full_pass, small_bert

from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.model.forward_pass import Pass
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.verification.gradient_check import gradient_errors

ENCODER_SITES = [
    "embeddings",
    *(f"layer_{i}.{site}" for i in range(2) for site in ("attention.attention_weights", "attention", "feed_forward")),
]


class Listening(RandomStream):
    """Remembers the sites that were asked for."""

    sites: ClassVar[list[str]] = []

    def at(self, site: str) -> RandomStream:
        self.sites.append(site)
        return super().at(site)


@pytest.fixture
def listening() -> Listening:
    Listening.sites = []
    return Listening(*DROPOUT)


def loss_of(model: MiniBERT, batch: Batch = BATCH, dropout: RandomStream | None = DROPOUT) -> float:
    return model.mlm_loss_and_gradients(batch, Parameters(model.config, model.dtype), dropout)[0]


def test_sites_of_the_encoder(listening: Listening) -> None:
    loss_of(small_bert(), dropout=listening)
    assert listening.sites == ENCODER_SITES


@pytest.mark.parametrize(
    ("head", "sites"),
    [("mlm", []), ("nsp", []), ("classifier", ["classifier"]), ("token_classifier", ["token_classifier"])],
)
def test_sites_of_the_heads(listening: Listening, head: str, sites: list[str]) -> None:
    """BERT's classifiers drop their input out, its pre-training heads do not."""
    model = small_bert(heads=(head,), hidden_dropout_prob=0.5)
    _, cache = full_pass(model, BATCH, head, listening)
    head_saved = cache.saved[1]
    if head == "nsp":  # it shares its code with the classifier, and asks with a probability of 0
        assert head_saved.dropout.keep is None
    else:
        assert listening.sites == ENCODER_SITES + sites
    if sites:
        assert 0.3 < head_saved.dropout.keep.mean() < 0.7
        assert head_saved.dropout.scale == 2.0


def test_rates() -> None:
    """Half of the residual stream, an eighth of the attention weights; what is kept is scaled up."""
    model = small_bert(
        hidden_size=48, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.125, max_position_embeddings=64
    )
    ids = np.random.default_rng(0).integers(0, 13, (8, 64))
    seen: dict[str, Array] = {}

    def record(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    _, saved = model.encode_forward(ids, None, Pass(8, 64, dropout=DROPOUT, tap=record))
    assert (seen["embeddings.output"] == 0).mean() == pytest.approx(0.5, abs=0.02)
    stream = seen["embeddings.output"]
    for i, block in enumerate(saved.blocks):
        for part in ("attention", "feed_forward"):
            added = seen[f"layer_{i}.{part}.sum"] - stream
            kept = np.abs(added) > 1e-12
            assert kept.mean() == pytest.approx(0.5, abs=0.02)
            np.testing.assert_allclose(added[kept], 2 * seen[f"layer_{i}.{part}.projection"][kept], atol=1e-12)
            stream = seen[f"layer_{i}.attention.output"]
        stream = seen[f"layer_{i}.output"]
        weights, dropped = block.attention.heads.probs.probs, block.attention.heads.dropped_BATS
        assert (dropped == 0).mean() == pytest.approx(0.125, abs=0.01)
        np.testing.assert_allclose(dropped[dropped != 0], weights[dropped != 0] / 0.875, rtol=1e-13)


def test_streams_seeds_and_steps_draw_differently() -> None:
    model = small_bert()
    streams = (None, DROPOUT, DROPOUT._replace(step=5), DROPOUT._replace(seed=12), DROPOUT._replace(name="other"))
    assert len({loss_of(model, dropout=dropout) for dropout in streams}) == 5
    assert loss_of(model) == loss_of(model)


def test_draws_belong_to_the_row_of_the_global_batch() -> None:
    model = small_bert()
    whole, parts, loss = Parameters(model.config, np.float64), Parameters(model.config, np.float64), 0.0
    expected, _ = model.mlm_loss_and_gradients(BATCH, whole, DROPOUT)
    for b in range(3):
        loss += model.mlm_loss_and_gradients(BATCH.rows(b, b + 1), parts, DROPOUT)[0]
    assert loss == pytest.approx(expected, rel=1e-13)
    assert max(tensor.error for tensor in gradient_errors(parts, whole)) <= 1e-12
    assert abs(loss_of(model, BATCH._replace(first_row=5)) - expected) > 1e-3


@pytest.mark.parametrize("head", ["classifier", "token_classifier"])
def test_draws_of_the_heads_belong_to_the_row_too(head: str) -> None:
    model = small_bert(heads=(head,))
    whole, _ = full_pass(model, BATCH, head, DROPOUT)
    for b in range(3):
        np.testing.assert_allclose(full_pass(model, BATCH.rows(b, b + 1), head, DROPOUT)[0][0], whole[b], rtol=1e-12)


@pytest.mark.parametrize("settings", [{"hidden_dropout_prob": 0.0}, {"attention_probs_dropout_prob": 0.0}])
def test_both_probabilities_count(settings: dict[str, Any]) -> None:
    assert abs(loss_of(small_bert()) - loss_of(small_bert(**settings))) > 1e-3


def test_no_probability_no_dropout() -> None:
    model = small_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert loss_of(model) == loss_of(model, dropout=None) == loss_of(small_bert(), dropout=None)
