"""What a step does with the kinds of clipping and the settings of the schedule, and what the log says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, RunConfig, TrainConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.optim.schedules import SCHEDULES, learning_rate
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.progress import Progress, Window
from mini_bert.training.report import Report
from mini_bert.training.step import StepResult, TrainingState, training_step

V, B, T = 40, 8, 12


def config_of(**train: Any) -> Config:
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
    return Config(model=shape, train=TrainConfig(**settings), run=RunConfig(seed=1))


def batch() -> Batch:
    rng = np.random.default_rng(0)
    positions = np.sort(rng.choice(B * T, 18, replace=False)).astype(np.int64)
    return Batch(rng.integers(5, V, (B, T)).astype(np.int32), None, None, positions, rng.integers(5, V, 18))


def fresh(config: Config) -> TrainingState:
    return TrainingState.fresh(MiniBERT(config.model, np.float64), config.optimizer)


def mean_gradient() -> Parameters:
    config = config_of()
    gradients = Parameters(config.model, np.float64)
    _, n_masked = MiniBERT(config.model, np.float64).mlm_loss_and_gradients(batch(), gradients)
    gradients.buffer /= n_masked
    return gradients


def stepped(config: Config, threads: int = 1) -> tuple[Array, StepResult]:
    """The gradient that AdamW was given, from m = (1 − β₁) g, and the step's result."""
    state = fresh(config)
    with ShardPool(threads, config.train.shards) as pool:
        result = training_step(state, batch(), config, 10, pool)
    return np.asarray(state.vectors[1]) / 0.1, result


def layer_of(name: str) -> int:
    if "embeddings" in name:
        return 0
    return int(name[-1]) + 1 if name[-2:-1] == "_" and name[-1].isdigit() else 3


def by_layer(gradients: Mapping[str, Array]) -> dict[int, float]:
    squares = dict.fromkeys(range(4), 0.0)
    for name, gradient in gradients.items():
        squares[layer_of(name)] += float((gradient**2).sum())
    return {layer: square**0.5 for layer, square in squares.items()}


def test_by_layer_each_part_is_brought_to_the_limit() -> None:
    gradients = mean_gradient()
    norms = by_layer(gradients)
    limit = sorted(norms.values())[1] * 1.01  # two of the four are longer
    given, result = stepped(config_of(clipping="layer", max_grad_norm=limit))
    found = Parameters(config_of().model, np.float64, given)
    for name, gradient in gradients.items():
        factor = min(1.0, limit / norms[layer_of(name)])
        np.testing.assert_allclose(found[name], gradient * factor, rtol=1e-9, atol=1e-14, err_msg=name)
    assert result.clipped == 0.5
    assert result.grad_norm == pytest.approx(float(np.linalg.norm(gradients.buffer)), rel=1e-9)


def test_adaptive_is_of_the_mean_gradient_beside_the_weights_before_the_update() -> None:
    gradients, weights = mean_gradient(), MiniBERT(config_of().model, np.float64).parameters
    given, result = stepped(config_of(clipping="adaptive", adaptive_clip=0.5))
    found = Parameters(config_of().model, np.float64, given)
    long = units = 0
    for name, gradient in gradients.items():
        if name in ("token_embeddings", "b_vocabulary"):  # the decoder is left alone
            np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-14, err_msg=name)
            continue
        axis = None if gradient.ndim == 1 else 1 if "embeddings" in name else 0
        norm = np.sqrt((gradient**2).sum(axis=axis, keepdims=True))
        limit = 0.5 * np.maximum(np.sqrt((weights[name] ** 2).sum(axis=axis, keepdims=True)), 1e-3)
        expected = np.where(norm > limit, gradient * limit / np.maximum(norm, 1e-300), gradient)
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-14, err_msg=name)
        long, units = long + int((norm > limit).sum()), units + norm.size
    assert 0 < long < units
    assert result.clipped == pytest.approx(long / units)


def test_none_leaves_a_long_gradient_as_it_is() -> None:
    given, result = stepped(config_of(clipping="none", max_grad_norm=1e-6))
    np.testing.assert_allclose(given, mean_gradient().buffer, rtol=1e-9, atol=1e-14)
    assert result.clipped == 0.0


@pytest.mark.parametrize(("factor", "share"), [(0.5, 1.0), (2.0, 0.0)])
def test_global_says_whether_it_clipped(factor: float, share: float) -> None:
    norm = float(np.linalg.norm(mean_gradient().buffer))
    assert stepped(config_of(max_grad_norm=factor * norm))[1].clipped == share


@pytest.mark.parametrize("kind", ["global", "layer", "adaptive", "none"])
def test_threads_change_no_bit(kind: str) -> None:
    config = config_of(clipping=kind, max_grad_norm=0.3, adaptive_clip=0.05)
    one, other = (stepped(config, threads) for threads in (1, 3))
    assert one[0].tobytes() == other[0].tobytes()
    assert one[1] == other[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_setting_of_the_schedule_reaches_it(schedule: str) -> None:
    settings = {"schedule": schedule, "warmup_ratio": 0.5, "warmup_steps": 2, "min_lr_ratio": 0.2, "power": 3.0}
    settings["decay_ratio"] = 0.4
    config = config_of(**settings)
    state, rates = fresh(config), []
    with ShardPool(1, 4) as pool:
        for _ in range(10):
            rates.append(training_step(state, batch(), config, 10, pool).lr)
    assert rates == [learning_rate(step, steps=10, peak=1e-3, **settings) for step in range(1, 11)]


def test_the_log_has_the_mean_share_of_the_steps_since_the_record_before(configured: Any, tokens: Any) -> None:
    shares: list[float] = []

    class Told(Report):
        def ticked(self, result: StepResult) -> None:
            shares.append(result.clipped)

    config = configured(train__steps=12, train__clipping="adaptive", train__lr=1e-2, model__initializer_range=0.5)
    result = pretrain(config, tokens=tokens, report=Told())
    logged = [record["clipped"] for record in read_metrics(result.run / "metrics.jsonl") if record["kind"] == "train"]
    assert logged == pytest.approx([sum(shares[first : first + 3]) / 3 for first in range(0, 12, 3)])
    assert len(set(shares)) > 1


def test_shares_are_averaged_over_the_steps_that_were_not_skipped() -> None:
    progress = Progress()
    for clipped, skipped in ((1.0, False), (0.25, False), (0.0, True)):
        result = StepResult(1, 2.0, 0.5, 1.0, 1e-3, 10, 4, skipped, clipped=clipped)
        progress.count(result, 0.1)
    assert progress.take_window()["clipped"] == pytest.approx(0.625)
    assert np.isnan(Window().means()["clipped"])


def test_counters_of_a_checkpoint_from_before_have_no_share() -> None:
    saved = {"window": {"steps": 2, "grad_norm": 3.0}, "tokens": 5}
    assert Progress.restored(saved).take_window()["clipped"] == 0.0
