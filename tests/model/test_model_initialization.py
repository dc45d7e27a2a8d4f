"""First values beside closed forms: variances, orthogonality, what writes to the stream, the decoder's bias."""

from __future__ import annotations

import doctest
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.initialization import initialize, orthogonal, unigram_log_frequencies
from mini_bert.model.parameters import Parameters
from mini_bert.random_streams import RandomStream

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 250,
}
VARIANCES = {
    "xavier_normal": lambda inputs, outputs: 2 / (inputs + outputs),
    "he_normal": lambda inputs, outputs: 2 / inputs,
    "lecun_normal": lambda inputs, outputs: 1 / inputs,
}
TRUNCATED = 1 - 4 * math.exp(-2.0) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2.0))
"""The variance of a standard normal cut at two deviations."""


def fresh(**settings: Any) -> MiniBERT:
    return MiniBERT(ModelConfig(**{**SHAPE, **settings}), dtype=np.float64, seed=3)


@pytest.mark.parametrize("initializer", VARIANCES)
def test_variance_by_the_sides_of_each_matrix(initializer: str) -> None:
    model = fresh(initializer=initializer, heads=("mlm", "nsp"), feed_forward="gated")
    for name in ("W_Q_0", "W_O_2", "W1_1", "W3_1", "W2_0", "W_mlm", "W_pooler", "W_nsp"):
        W = model.parameters[name]
        expected = VARIANCES[initializer](*W.shape)
        spread = 5 * math.sqrt(2 / W.size)
        assert np.mean(W * W) == pytest.approx(expected, rel=spread), name
        assert abs(W.mean()) < 5 * math.sqrt(expected / W.size), name
    assert np.abs(model.parameters["W1_1"]).max() > 3 * math.sqrt(VARIANCES[initializer](96, 250))  # nothing is cut


@pytest.mark.parametrize("initializer", [*VARIANCES, "orthogonal", "truncated_normal"])
def test_tables_are_truncated_normals_always(initializer: str) -> None:
    model = fresh(initializer=initializer, initializer_range=0.05, position_embedding_type="t5_bias")
    for name in ("token_embeddings", "segment_embeddings", "relative_bias"):
        table = model.parameters[name]
        assert np.abs(table).max() <= 0.1
        assert np.mean(table * table) == pytest.approx(0.05**2 * TRUNCATED, rel=5 * math.sqrt(2 / table.size)), name
    shaw = fresh(initializer=initializer, position_embedding_type="relative_key").parameters["relative_keys_0"]
    assert np.abs(shaw).max() <= 0.04


@pytest.mark.parametrize("initializer", [*VARIANCES, "orthogonal", "truncated_normal"])
def test_gains_are_1_and_biases_0(initializer: str) -> None:
    for name, view in fresh(initializer=initializer, norm_placement="pre").parameters.items():
        if view.ndim == 1:
            assert (view == (1.0 if name.startswith("gamma") else 0.0)).all(), name


def test_orthogonal_matrices() -> None:
    model = fresh(initializer="orthogonal", feed_forward="gated")
    for name in ("W_Q_0", "W_K_0", "W_O_1", "W1_0", "W3_2", "W2_0", "W_mlm"):
        W = model.parameters[name]
        tall = W if W.shape[0] >= W.shape[1] else W.T
        np.testing.assert_allclose(tall.T @ tall, np.eye(tall.shape[1]), atol=1e-12, err_msg=name)
    assert np.abs(model.parameters["W_Q_0"] - model.parameters["W_K_0"]).max() > 0.1
    narrow = MiniBERT(ModelConfig(**SHAPE, initializer="orthogonal")).parameters["W1_0"]
    np.testing.assert_allclose(narrow @ narrow.T, np.eye(96), atol=1e-6)


def test_orthogonal_matrices_are_uniform() -> None:
    """Haar measure: tr Q has mean 0 and variance 1 over O(n), n > 1; without the signs its mean is not 0."""
    traces = np.array([np.trace(orthogonal(RandomStream(0, "haar", step), (6, 6))) for step in range(2000)])
    assert abs(traces.mean()) < 5 / math.sqrt(2000)
    assert traces.var() == pytest.approx(1.0, abs=0.2)
    signs = np.array([np.linalg.det(orthogonal(RandomStream(0, "haar", step), (4, 4))) for step in range(400)])
    assert 0.4 < (signs > 0).mean() < 0.6


@pytest.mark.parametrize("initializer", [*VARIANCES, "orthogonal", "truncated_normal"])
@pytest.mark.parametrize("norm_placement", ["post", "pre"])
def test_what_writes_to_the_stream_is_divided_by_the_root_of_the_number_of_sums(
    initializer: str, norm_placement: str
) -> None:
    settings = {"initializer": initializer, "norm_placement": norm_placement}
    plain, scaled = fresh(**settings).parameters, fresh(**settings, scale_residual_init=True).parameters
    for name, view in plain.items():
        factor = math.sqrt(6.0) if name.startswith(("W_O_", "W2_")) else 1.0
        np.testing.assert_allclose(scaled[name] * factor, view, rtol=1e-14, err_msg=name)


def test_the_decoder_begins_with_the_frequencies() -> None:
    counts = np.random.default_rng(0).integers(0, 1000, 300)
    counts[:5] = 0
    model = MiniBERT(ModelConfig(**SHAPE, decoder_bias_init="unigram"), dtype=np.float64, unigram=counts)
    bias = model.parameters["b_vocabulary"]
    np.testing.assert_allclose(np.exp(bias), (counts + 1) / (counts + 1).sum(), rtol=1e-12)
    assert np.array_equal(bias, unigram_log_frequencies(counts.astype(np.uint32), 300))
    others = MiniBERT(ModelConfig(**SHAPE), dtype=np.float64).parameters
    assert all(np.array_equal(view, model.parameters[name]) for name, view in others.items() if name != "b_vocabulary")


def test_the_first_loss_is_the_unigram_entropy() -> None:
    """With small weights, nearly: logits are the bias and a little."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(300, 0.1))
    ids = rng.choice(300, size=(40, 64), p=shares)
    counts = np.bincount(ids.ravel(), minlength=300)
    model = MiniBERT(
        ModelConfig(**SHAPE, decoder_bias_init="unigram", initializer_range=1e-3), dtype=np.float64, unigram=counts
    )
    logits, _ = model.forward(ids)
    losses = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
    expected = -(counts / counts.sum() * np.log((counts + 1) / (counts + 1).sum())).sum()
    assert losses.mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    "unigram",
    [None, np.ones(299, np.int64), np.ones(300), np.ones((300, 1), np.int64), -np.ones(300, np.int64), "counts"],
    ids=["none", "too few", "floats", "a column", "negative", "text"],
)
def test_counts_that_are_no_counts(unigram: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"unigram.*300 pieces"):
        MiniBERT(ModelConfig(**SHAPE, decoder_bias_init="unigram"), unigram=unigram)


def test_without_the_head_no_counts_are_needed() -> None:
    config = ModelConfig(**SHAPE, decoder_bias_init="unigram", heads=("classifier",))
    parameters = Parameters(config, np.float32)
    initialize(parameters, seed=0)
    plain = MiniBERT(ModelConfig(**SHAPE, heads=("classifier",)), seed=0).parameters
    np.testing.assert_array_equal(parameters.buffer, plain.buffer)
    assert parameters["W_classifier"].any()


def test_the_example_of_the_guide_is_true() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "initialization.md"
    results = doctest.testfile(str(guide), module_relative=False, encoding="utf-8")
    assert (results.failed, results.attempted) == (0, 5)


def test_another_initialiser_draws_other_numbers_from_the_same_seed() -> None:
    for initializer in ("orthogonal", "he_normal"):
        one, two, other = (
            MiniBERT(ModelConfig(**SHAPE, initializer=initializer), seed=seed).parameters for seed in (1, 1, 2)
        )
        assert one.buffer.tobytes() == two.buffer.tobytes()
        assert np.mean(one["W1_0"] == other["W1_0"]) < 0.01
