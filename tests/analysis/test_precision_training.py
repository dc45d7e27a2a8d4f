"""Trainings with narrow numbers: master weights, lost updates, stochastic rounding, and float32 as it always was."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.analysis.loss_scaling import DynamicScale
from mini_bert.analysis.narrow_pass import forward, loss, rounding_tap, with_rounded_parameters
from mini_bert.analysis.precision_training import (
    BERT_MASKED,
    RECIPES,
    Recipe,
    _gradients,
    small_config,
    train,
)
from mini_bert.analysis.rounding import FORMATS, rounded
from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, RunConfig, TrainConfig
from mini_bert.data.masking import mask_tokens
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.training.parallel import ShardPool
from mini_bert.training.step import TrainingState, training_step

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
CONFIG = Config(
    model=ModelConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    train=TrainConfig(batch_size=6, shards=1, schedule="constant", warmup_ratio=0.0),
    run=RunConfig(seed=3),
)


def batch(seed: int) -> Batch:
    rows = np.random.default_rng(seed).integers(5, 40, (6, 12))
    ids, targets, hidden = mask_tokens(rows, 40, 4, seed=seed)
    return Batch(ids, masked_positions=np.flatnonzero(hidden), target_ids=targets[hidden])


BATCHES = [batch(seed) for seed in range(12)]


def test_in_float32_it_is_the_ordinary_training():
    curve = train(BY_NAME["float32"], CONFIG, BATCHES, 1e-3)
    state = TrainingState.fresh(MiniBERT(CONFIG.model, seed=3))
    tuned = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"lr": 1e-3})})
    with ShardPool(1, 1) as pool:
        losses = [training_step(state, b, tuned, len(BATCHES), pool).loss for b in BATCHES]
    assert curve.losses == pytest.approx(losses, rel=1e-5)
    assert np.abs(curve.model.parameters.buffer - state.model.parameters.buffer).max() < 2e-5
    assert (curve.skipped, curve.lost) == (0, [])


def test_small_updates_are_lost_to_nearest_and_kept_by_master_weights_and_on_average():
    before = rounded(MiniBERT(CONFIG.model, seed=3).parameters.buffer, FORMATS["bfloat16"])
    large = np.abs(before) > 2.0**-7  # half an ULP there is 2^-15 and more; twelve updates are 1.2e-5 at most
    curves = {name: train(BY_NAME[name], CONFIG, BATCHES, 1e-6) for name in list(BY_NAME)[:4]}
    moved = {name: (curve.model.parameters.buffer - before)[large] for name, curve in curves.items()}
    assert not moved["bfloat16_nearest"].any()
    assert moved["bfloat16_stochastic"].any()
    start = MiniBERT(CONFIG.model, seed=3).parameters.buffer[large]
    wanted = curves["float32"].model.parameters.buffer[large] - start
    master = curves["bfloat16_master"].model.parameters.buffer[large] - start
    assert (master != 0).mean() > 0.8
    assert np.sum(wanted * master) > 0.9 * np.sum(wanted**2)
    # On average: the moves to random neighbours add up to about what was wanted.
    sign = np.sign(wanted)
    noise = np.sqrt(np.sum(moved["bfloat16_stochastic"].astype(float) ** 2))
    assert abs(np.sum(sign * moved["bfloat16_stochastic"]) - np.sum(sign * wanted)) < 4 * noise
    nearest, stochastic = curves["bfloat16_nearest"], curves["bfloat16_stochastic"]
    assert min(nearest.lost) > 0.6
    assert np.mean(stochastic.lost) > 0.6
    assert curves["bfloat16_master"].lost == []
    assert all(0 <= share <= 1 for share in [*nearest.lost, *nearest.lost_norm])


def test_a_step_computes_with_rounded_weights_activations_and_gradients():
    format, scale = FORMATS["float16"], 2.0**10
    working = with_rounded_parameters(MiniBERT(CONFIG.model, seed=3), format)
    expected, _ = loss(forward(working, BATCHES[0], rounding_tap(format)).logits_MV, BATCHES[0].target_ids)
    assert train(BY_NAME["float16_master"], CONFIG, BATCHES[:1], 1e-3).losses == [expected]
    gradients = Parameters(CONFIG.model)
    _gradients(MiniBERT(CONFIG.model, seed=3), BATCHES[0], format, scale, gradients)
    scaled = gradients.buffer * np.float32(scale)
    assert np.array_equal(rounded(scaled, format), scaled)  # rounded while they were large,
    assert not np.array_equal(rounded(gradients.buffer, format), gradients.buffer)  # and not once more when small


def test_kept_weights_are_numbers_of_their_format():
    for recipe in RECIPES:
        kept = train(recipe, CONFIG, BATCHES[:3], 1e-3).model.parameters.buffer
        assert np.array_equal(rounded(kept, FORMATS[recipe.weights]), kept)
        fits_bfloat16 = np.array_equal(rounded(kept, FORMATS["bfloat16"]), kept)
        assert fits_bfloat16 == (recipe.weights == "bfloat16")


def test_gradients_as_small_as_in_a_large_batch_vanish_and_loss_scaling_brings_them_back():
    tiny = Recipe("tiny", "", "float16", as_if_masked=10**9)
    unscaled, scaled = (train(tiny._replace(scaled=s), CONFIG, BATCHES, 1e-3) for s in (False, True))
    exact = train(BY_NAME["float32"], CONFIG, BATCHES, 1e-3)
    error = [np.abs(np.subtract(curve.losses, exact.losses)).max() for curve in (unscaled, scaled)]
    assert error[0] > 0.02
    assert error[0] > 10 * error[1]
    assert BERT_MASKED == 19_660


def test_a_step_that_overflows_is_skipped_and_the_scale_halved(monkeypatch):
    monkeypatch.setattr("mini_bert.analysis.precision_training.DynamicScale", lambda: DynamicScale(2.0**40))
    curve = train(BY_NAME["float16_scaled"]._replace(as_if_masked=None), CONFIG, BATCHES, 1e-3)
    assert curve.skipped == len(BATCHES)  # 2^40 needs more halvings than there are steps
    assert curve.scale == 2.0 ** (40 - len(BATCHES) + 1)
    start = MiniBERT(CONFIG.model, seed=3).parameters.buffer
    assert np.array_equal(curve.model.parameters.buffer, start)


def test_the_small_model_keeps_vocabulary_and_rows():
    small = small_config(Config())
    assert (small.model.vocab_size, small.model.max_position_embeddings) == (8192, 64)
    assert (small.model.hidden_size, small.model.hidden_dropout_prob, small.train.batch_size) == (96, 0.0, 32)


def test_the_small_model_learns_masks_alone_in_no_order_and_from_nothing():
    settings = {
        "model": {"decoder_bias_init": "unigram"},
        "curriculum": {"kind": "loss", "reference": "given"},
        "tasks": {"masked_lm": 0.0, "token_order": 1.0},
    }
    small = small_config(Config.model_validate(settings))
    assert small.model.decoder_bias_init == "zeros"
    assert small.curriculum == Config().curriculum
    assert small.tasks == Config().tasks
