"""One training step: what it computes, what it leaves alone, and that it does it again to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.cross_entropy import mlm_cross_entropy
from mini_bert.training.parallel import ShardPool, ShardSum
from mini_bert.training.step import StepResult, TrainingState, training_step

V, B, T = 512, 8, 32


def config_of(dropout: float = 0.1, **train: Any) -> Config:
    return Config(
        model=ModelConfig(
            vocab_size=V,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=T,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        ),
        optimizer=OptimizerConfig(eps=1e-5, weight_decay=0.1),
        train=TrainConfig(**{"lr": 1e-2, "batch_size": B, "warmup_ratio": 0.2, **train}),
        run=RunConfig(seed=5),
    )


def batch_of(step: int = 0, counts: tuple[int, ...] = (9, 1, 2, 3, 0, 0, 4, 5)) -> Batch:
    """Shards of two rows with 10, 5, 0 and 9 masked positions."""
    rng = np.random.default_rng(step)
    ids = rng.integers(5, V, (B, T), dtype=np.int32)
    mask = np.arange(T) < rng.integers(20, T + 1, B)[:, None]
    positions = [b * T + np.sort(rng.choice(20, n, replace=False)) for b, n in enumerate(counts)]
    masked = np.concatenate(positions).astype(np.int64)
    return Batch(ids, mask, None, masked, rng.integers(5, V, masked.size), first_row=0)


def run(
    config: Config, steps: int, threads: int = 1, dtype: Any = np.float32, total: int = 10
) -> tuple[TrainingState, list[StepResult]]:
    state = TrainingState.fresh(MiniBERT(config.model, dtype))
    with ShardPool(threads, config.train.shards) as pool:
        results = [training_step(state, batch_of(step), config, total, pool) for step in range(steps)]
    return state, results


def bits(state: TrainingState) -> tuple[bytes, ...]:
    return tuple(vector.tobytes() for vector in (state.model.parameters.buffer, *state.optimizer.values()))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_number_of_threads_changes_no_bit(dropout: float) -> None:
    config = config_of(dropout)
    state, results = run(config, 5)
    for threads in (2, 4):
        other, other_results = run(config, 5, threads)
        assert bits(other) == bits(state)
        assert other_results == results


def test_two_runs_are_alike_to_the_bit_and_two_seeds_are_not() -> None:
    state, results = run(config_of(), 5, threads=2)
    again, again_results = run(config_of(), 5, threads=2)
    assert bits(state) == bits(again)
    assert results == again_results
    seeded = config_of().model_copy(update={"run": RunConfig(seed=6)})
    assert run(seeded, 5)[1][0].loss != results[0].loss  # the dropout's seed


def test_loss_is_the_mean_over_the_masked_tokens_of_all_shards() -> None:
    """Shards have 10, 5, 0 and 9 of them; a mean of the shards' means would be another number."""
    config = config_of(dropout=0.0)
    model = MiniBERT(config.model, np.float64)
    batch = batch_of()
    logits, _ = model.forward(batch.input_ids, batch.attention_mask)
    rows = logits.reshape(-1, V)[batch.masked_positions]
    expected, _ = mlm_cross_entropy(rows, batch.target_ids)
    _, (result,) = run(config, 1, dtype=np.float64)
    assert result.loss == pytest.approx(expected, rel=1e-12)
    assert result.masked == 24
    assert result.tokens == batch.attention_mask.sum()
    assert result.accuracy == (rows.argmax(axis=1) == batch.target_ids).mean()
    assert not result.skipped
    shard_means = [mlm_cross_entropy(rows[a:b], batch.target_ids[a:b])[0] for a, b in ((0, 10), (10, 15), (15, 24))]
    assert abs(np.mean(shard_means) - expected) > 1e-4


@pytest.mark.parametrize("max_grad_norm", [0.05, 1e6])
@pytest.mark.parametrize("shards", [1, 4])
def test_update_is_clipped_adamw_of_the_mean_gradient(shards: int, max_grad_norm: float) -> None:
    """Two steps in float64, written out here."""
    config = config_of(dropout=0.0, shards=shards, max_grad_norm=max_grad_norm)
    state, results = run(config, 2, dtype=np.float64)

    model = MiniBERT(config.model, np.float64)
    theta = model.parameters.buffer
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    decays = np.concatenate([np.full(view.size, view.ndim == 2) for view in model.parameters.values()])
    for t, result in enumerate(results, start=1):
        gradients = Parameters(model.config, np.float64)
        model.mlm_loss_and_gradients(batch_of(t - 1), gradients)
        g = gradients.buffer / 24
        norm = np.sqrt((g**2).sum())
        g = g * min(1.0, max_grad_norm / norm)
        lr = 1e-2 * t / 2
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta -= lr * (0.1 * theta * decays + m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-5))
        assert result.lr == pytest.approx(lr)
        assert result.grad_norm == pytest.approx(norm, rel=1e-11)
        assert (norm > max_grad_norm) == (max_grad_norm == 0.05)
    np.testing.assert_allclose(state.optimizer["m"], m, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(state.optimizer["v"], v, rtol=1e-9, atol=1e-20)
    np.testing.assert_allclose(state.model.parameters.buffer, theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_shards_do_not_matter_beyond_rounding(dtype: Any, tolerance: float) -> None:
    (_, (one,)), (_, (four,)) = (run(config_of(shards=shards), 1, dtype=dtype) for shards in (1, 4))
    assert four.loss == pytest.approx(one.loss, rel=tolerance)
    assert four.grad_norm == pytest.approx(one.grad_norm, rel=tolerance)


def test_steps_are_numbered_and_follow_the_schedule() -> None:
    state, results = run(config_of(), 5)
    assert [result.step for result in results] == [1, 2, 3, 4, 5]
    assert state.step == 5
    assert [result.lr for result in results] == pytest.approx([0.005, 0.01, 0.08 / 9, 0.07 / 9, 0.06 / 9])


def test_dropout_is_drawn_anew_each_step() -> None:
    def losses(dropout: float) -> list[float]:
        config = config_of(dropout, lr=1e-12)
        state = TrainingState.fresh(MiniBERT(config.model, np.float64))
        with ShardPool(1) as pool:
            return [training_step(state, batch_of(), config, 10, pool).loss for _ in range(2)]

    without, dropped = losses(0.0), losses(0.1)
    assert without[0] == pytest.approx(without[1], rel=1e-7)
    assert abs(dropped[0] - dropped[1]) > 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["W1_0", "b_vocabulary", "gamma_embeddings", "token_embeddings"])
@pytest.mark.parametrize("threads", [1, 2])
def test_step_that_is_not_finite_leaves_everything_as_it_was(name: str, value: float, threads: int) -> None:
    config = config_of()
    state, _ = run(config, 2)
    healthy = state.model.parameters[name].copy()
    state.model.parameters[name].flat[7::50] = value
    before = bits(state)
    with ShardPool(threads) as pool:
        result = training_step(state, batch_of(2), config, 10, pool)
        assert result.skipped
        assert bits(state) == before
        assert state.step == result.step == 3
        state.model.parameters[name][...] = healthy
        recovered = training_step(state, batch_of(3), config, 10, pool)
    assert not recovered.skipped
    assert math.isfinite(recovered.loss)
    assert bits(state) != before


@pytest.mark.parametrize(("loss", "gradient"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_loss_or_gradient_alone_is_enough_to_skip(loss: float, gradient: float) -> None:
    class Pool(ShardPool):
        def gradients(self, *arguments: Any, **options: Any) -> ShardSum:
            total = super().gradients(*arguments, **options)
            total.gradient[-1] = gradient
            return total._replace(loss_sum=loss)

    config = config_of()
    state, _ = run(config, 1)
    before = bits(state)
    with Pool(1) as pool:
        result = training_step(state, batch_of(1), config, 10, pool)
    assert result.skipped
    assert bits(state) == before


def test_batch_without_masked_positions_updates_nothing() -> None:
    config = config_of()
    state, _ = run(config, 2)
    before = bits(state)
    with ShardPool(2) as pool:
        result = training_step(state, batch_of(counts=(0,) * 8), config, 10, pool)
    assert bits(state) == before
    assert (result.loss, result.masked, result.grad_norm, state.step) == (0.0, 0, 0.0, 3)


def test_one_batch_is_learned() -> None:
    config = config_of(dropout=0.0, lr=1e-2)
    state = TrainingState.fresh(MiniBERT(config.model))
    with ShardPool(1) as pool:
        results = [training_step(state, batch_of(), config, 100, pool) for _ in range(100)]
    assert results[0].loss == pytest.approx(math.log(V), abs=0.2)
    assert results[-1].loss < 0.5
    assert results[-1].accuracy > 0.9
