"""A sound model learns a batch by heart; a broken one is not said to."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, TrainConfig
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.overfit import LOSS, overfit_one_batch
from mini_bert.training import step as step_module

CONFIG = Config(
    model=ModelConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    ),
    train=TrainConfig(lr=5e-3, batch_size=8),
)


def one_batch():
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 64, (8, 16)).astype(np.int32)
    positions = np.sort(rng.permutation(128)[:20])
    targets = ids.reshape(-1)[positions].copy()
    ids.reshape(-1)[positions] = 4
    return Batch(ids, masked_positions=positions, target_ids=targets)


def test_a_sound_model_learns_its_batch_by_heart():
    told = []
    result = overfit_one_batch(CONFIG, one_batch(), threads=1, progress=lambda *now: told.append(now))
    assert result.passed, result
    assert result.accuracy == 1
    assert result.loss < LOSS
    assert result.n_masked == 20
    assert result.steps == len(result.curve) - 1 < 200
    assert result.curve == told
    assert result.curve[0][1] == pytest.approx(np.log(64), abs=0.1)
    assert json.loads(json.dumps(result.to_dict()))["kind"] == "overfit"


def test_it_is_the_same_for_any_number_of_threads():
    curves = [overfit_one_batch(CONFIG, one_batch(), 5, threads=threads).curve for threads in (1, 2)]
    assert curves[0] == curves[1]


def test_too_few_steps_are_said_to_be_too_few():
    result = overfit_one_batch(CONFIG, one_batch(), 3, threads=1)
    assert not result.passed
    assert result.steps == 3
    assert "Not learned by heart in 3 updates" in result.message
    assert f"{result.loss:.4f}" in result.message


def test_a_broken_update_does_not_pass(monkeypatch):
    """The optimiser climbs: the sign of the gradient is wrong."""
    update = step_module.optimizer.update
    monkeypatch.setattr(
        step_module.optimizer, "update", lambda *args, scale, **rest: update(*args, scale=-scale, **rest)
    )
    result = overfit_one_batch(CONFIG, one_batch(), 20, threads=1)
    assert not result.passed
    assert result.loss > np.log(64)


def test_a_loss_that_is_not_finite_ends_it(monkeypatch):
    def spoil(parameters, *_, **__):
        parameters[:] = np.nan

    monkeypatch.setattr(step_module.optimizer, "update", spoil)
    result = overfit_one_batch(CONFIG, one_batch(), 50, threads=1)
    assert not result.passed
    assert "not finite" in result.message
    assert result.steps < 10


def test_refusals():
    with pytest.raises(InvalidInputError, match="steps"):
        overfit_one_batch(CONFIG, one_batch(), 0)
    with pytest.raises(InvalidInputError, match="no masked position"):
        overfit_one_batch(CONFIG, Batch(np.zeros((8, 16), int)))


@pytest.mark.parametrize(("loss", "accuracy"), [(0.001, 0.95), (0.011, 1.0)])
def test_loss_and_accuracy_both_have_to_be_reached(monkeypatch, loss, accuracy):
    def step(state, batch, config, total_steps, pool):
        state.step += 1
        return step_module.StepResult(state.step, loss, accuracy, 1.0, 1e-3, 128, 20, False)

    monkeypatch.setattr(step_module, "training_step", step)
    assert not overfit_one_batch(CONFIG, one_batch(), 4, threads=1).passed


def test_a_warmup_in_steps_of_the_training_is_not_that_of_the_batch():
    train = CONFIG.train.model_copy(update={"warmup_steps": 100_000})
    config = CONFIG.model_copy(update={"train": train})
    assert overfit_one_batch(config, one_batch(), threads=1).passed
