"""Which part of a training step is wrong: averaging, clipping, moments, counting, decay? Each has a test of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, OptimizerConfig, TrainConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.training.parallel import ShardPool
from mini_bert.training.step import StepResult, TrainingState, training_step

V, B, T = 40, 8, 12
NO_CLIPPING = 1e9
MASKED = (6, 1, 2, 1, 0, 0, 3, 5)
"""Hidden pieces in each row; shards of two rows have 7, 3, 0 and 8."""


def batch_of(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    positions = np.concatenate([b * T + np.sort(rng.choice(T, n, replace=False)) for b, n in enumerate(MASKED)])
    ids = rng.integers(5, V, (B, T)).astype(np.int32)
    return Batch(ids, None, None, positions.astype(np.int64), rng.integers(5, V, positions.size))


def config_of(optimizer: Mapping[str, float] | None = None, **train: Any) -> Config:
    shape = ModelConfig(
        vocab_size=V,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=T,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    settings = {"batch_size": B, "warmup_ratio": 0.0, "schedule": "constant", "lr": 1e-3, "shards": 4, **train}
    return Config(model=shape, optimizer=OptimizerConfig(**(optimizer or {})), train=TrainConfig(**settings))


def fresh(config: Config) -> TrainingState:
    """Away from the initial values, where gradients of unlike tensors are of unlike sizes."""
    model = MiniBERT(config.model, np.float64)
    model.parameters.buffer[...] += 0.5 * np.random.default_rng(2).normal(size=model.parameters.buffer.size)
    return TrainingState.fresh(model)


def stepped(config: Config, steps: int = 1, threads: int = 1) -> tuple[TrainingState, StepResult]:
    state = fresh(config)
    with ShardPool(threads, config.train.shards) as pool:
        for step in range(steps):
            result = training_step(state, batch_of(step), config, 100, pool)
    return state, result


def mean_gradient() -> Array:
    """Of the mean over all masked tokens, from the whole batch at once."""
    state = fresh(config_of())
    gradients = Parameters(state.model.config, np.float64)
    _, n_masked = state.model.mlm_loss_and_gradients(batch_of(), gradients)
    return gradients.buffer / n_masked


def given_to_adamw(state: TrainingState) -> Array:
    """The gradient that the first update saw: m = (1 − β₁) g."""
    return state.optimizer["m"] / 0.1


@pytest.mark.parametrize("shards", [1, 4])
def test_gradient_is_the_mean_over_masked_tokens(shards: int) -> None:
    state, _ = stepped(config_of(shards=shards, max_grad_norm=NO_CLIPPING))
    np.testing.assert_allclose(given_to_adamw(state), mean_gradient(), rtol=1e-9, atol=1e-12)


def test_clipping_is_of_the_mean_gradient() -> None:
    gradient = mean_gradient()
    norm = float(np.linalg.norm(gradient))
    state, result = stepped(config_of(max_grad_norm=norm / 4))
    assert result.grad_norm == pytest.approx(norm, rel=1e-9), "the norm that is reported"
    np.testing.assert_allclose(given_to_adamw(state), gradient / 4, rtol=1e-9, atol=1e-12)


def test_clipping_leaves_a_gradient_below_the_limit_alone() -> None:
    gradient = mean_gradient()
    state, _ = stepped(config_of(max_grad_norm=1.5 * float(np.linalg.norm(gradient))))
    np.testing.assert_allclose(given_to_adamw(state), gradient, rtol=1e-9, atol=1e-12)


def test_clipping_keeps_the_direction() -> None:
    """One factor for the whole gradient, whatever the norms of its tensors and shards."""
    gradient = mean_gradient()
    given = given_to_adamw(stepped(config_of(max_grad_norm=0.5))[0])
    cosine = gradient @ given / np.linalg.norm(gradient) / np.linalg.norm(given)
    assert cosine == pytest.approx(1, abs=1e-12)


def test_moments_have_their_own_betas() -> None:
    state, _ = stepped(config_of({"beta1": 0.5, "beta2": 0.75}, max_grad_norm=NO_CLIPPING))
    np.testing.assert_allclose(state.optimizer["m"], 0.5 * mean_gradient(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.optimizer["v"], 0.25 * mean_gradient() ** 2, rtol=1e-9, atol=1e-15)


def test_second_moment_is_of_the_gradient_that_the_first_is_of() -> None:
    state, _ = stepped(config_of(max_grad_norm=0.1))
    np.testing.assert_allclose(state.optimizer["v"], 0.001 * given_to_adamw(state) ** 2, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_bias_correction_counts_the_steps(steps: int) -> None:
    """The last update, from the moments that it found: only the number of steps is to be seen in it."""
    config = config_of({"weight_decay": 0.0}, max_grad_norm=NO_CLIPPING)
    before, after = stepped(config, steps - 1)[0] if steps > 1 else fresh(config), stepped(config, steps)[0]
    m, v = after.optimizer.values()
    expected = 1e-3 * m / (1 - 0.9**steps) / (np.sqrt(v / (1 - 0.999**steps)) + 1e-6)
    moved = before.model.parameters.buffer - after.model.parameters.buffer
    np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_decay_acts_on_matrices_and_tables_alone(threads: int) -> None:
    with_decay, without = (
        stepped(config_of({"weight_decay": decay}), threads=threads)[0].model.parameters for decay in (0.5, 0.0)
    )
    before = fresh(config_of()).model.parameters
    for name, view in with_decay.items():
        expected = 1e-3 * 0.5 * before[name] if view.ndim == 2 else np.zeros_like(view)
        np.testing.assert_allclose(without[name] - view, expected, atol=1e-14, err_msg=f"decay of {name}")


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_schedule_counts_updates_whatever_the_shards(shards: int) -> None:
    config = config_of(shards=shards, warmup_ratio=0.2, schedule="linear", lr=1.0)
    state, rates = fresh(config), []
    with ShardPool(1, shards) as pool:
        for step in range(10):
            rates.append(training_step(state, batch_of(step), config, 10, pool).lr)
    assert rates == pytest.approx([1 / 2, 1, *(n / 9 for n in range(8, 0, -1))])


def test_accuracy_is_a_share_of_the_masked_tokens() -> None:
    state = fresh(config_of())
    batch = batch_of()
    best = state.model.mlm_logits(batch).argmax(axis=1)
    targets = np.where(np.arange(best.size) < 9, best, (best + 1) % V)
    with ShardPool(1, 4) as pool:
        result = training_step(state, batch._replace(target_ids=targets), config_of(), 10, pool)
    assert result.accuracy == 9 / sum(MASKED)
