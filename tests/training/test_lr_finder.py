"""The search changes nothing, is made of training's own steps, and reads its curve without lag."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig, RunConfig, TrainConfig
from mini_bert.data.batches import BatchStream
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.random_streams import RandomStream
from mini_bert.training import lr_finder
from mini_bert.training.checkpoint import load_checkpoint, model_and_optimizer_sha256
from mini_bert.training.lr_finder import LearningRateCurve, Point, find_learning_rate, propose, rate, search, smoothing
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.step import TrainingState, training_step

V, B, T = 40, 8, 12
OPTIMIZERS = ("adamw", "sgd", "lion", "adafactor", "muon")


def config_of(optimizer: dict[str, Any] | None = None, **train: Any) -> Config:
    shape = {
        "vocab_size": V,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": T,
        "hidden_dropout_prob": 0.1,
    }
    train = {"batch_size": B, "shards": 4, "steps": 50, **train}
    config = Config(model=ModelConfig(**shape), train=TrainConfig(**train), run=RunConfig(seed=3))
    return config.model_copy(update={"optimizer": config.optimizer.model_copy(update=optimizer or {})})


def batch(step: int) -> Batch:
    """Every target is the piece that stands at its place: there is something to learn."""
    rng = np.random.default_rng(step)
    ids = rng.integers(5, V, (B, T)).astype(np.int32)
    positions = np.sort(rng.choice(B * T, 40, replace=False)).astype(np.int64)
    return Batch(ids, None, None, positions, ids.reshape(-1)[positions].astype(np.int64))


def fresh(config: Config) -> TrainingState:
    return TrainingState.fresh(MiniBERT(config.model, seed=3), config.optimizer)


def found_by(
    config: Config, state: TrainingState | None = None, threads: int = 1, in_flight: int | None = None, **options: Any
) -> LearningRateCurve:
    with ShardPool(threads, config.train.shards, in_flight=in_flight) as pool:
        options = {"first": 1e-5, "last": 10.0, "steps": 40, **options}
        return find_learning_rate(state or fresh(config), config, batch, pool, **options)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("more", [{}, {"lookahead": 2}, {"ema_decay": 0.9}], ids=["", "lookahead", "average"])
def test_no_bit_of_a_training_under_way_changes(name: str, more: dict[str, Any]) -> None:
    config = config_of({"name": name, **more}, lr=1e-2)
    state = fresh(config)
    with ShardPool(1, 4) as pool:
        for step in range(5):
            training_step(state, batch(step), config, 50, pool)
        before, arrays = model_and_optimizer_sha256(state), [vector.copy() for vector in state.vectors]
        curve = find_learning_rate(state, config, batch, pool, first=1e-4, last=10.0, steps=20)
        assert len(curve.points) > 5
        assert state.step == 5
        assert model_and_optimizer_sha256(state) == before
        for vector, copied in zip(state.vectors, arrays, strict=True):
            assert vector.tobytes() == copied.tobytes()
        after = training_step(state, batch(5), config, 50, pool)
        undisturbed = fresh(config)
        for step in range(6):
            result = training_step(undisturbed, batch(step), config, 50, pool)
    assert after == result
    assert model_and_optimizer_sha256(state) == model_and_optimizer_sha256(undisturbed)


def test_it_is_made_of_training_steps_at_rising_rates() -> None:
    """The same losses as of a training whose rate is set by hand before each step."""
    config = config_of(clipping="layer", max_grad_norm=0.1)
    curve = found_by(config, steps=12, last=0.1)
    state, plain = fresh(config), config_of(clipping="layer", max_grad_norm=0.1, schedule="constant", lr=1.0)
    plain = plain.model_copy(update={"train": plain.train.model_copy(update={"warmup_ratio": 0.0})})
    with ShardPool(1, 4) as pool:
        for number, point in enumerate(curve.points):
            assert point.lr == pytest.approx(1e-5 * 1e4 ** (number / 11), rel=1e-12)
            result = training_step(state, batch(number), plain, 100, pool, point.lr)
            assert result.lr == point.lr
            assert result.loss == point.loss
    assert len(curve.points) == 12


def test_the_schedule_and_rate_of_the_training_do_not_matter() -> None:
    curves = [
        found_by(config_of(lr=lr, schedule=schedule, warmup_steps=warmup), steps=10)
        for lr, schedule, warmup in ((1e-3, "linear", None), (5.0, "wsd", 30), (1e-9, "one_cycle", 0))
    ]
    assert curves[0] == curves[1] == curves[2]


def test_threads_and_shards_in_flight_change_no_bit() -> None:
    config = config_of()
    curve = found_by(config)
    assert found_by(config, threads=4) == curve
    assert found_by(config, threads=2, in_flight=1) == curve
    assert found_by(config_of(shards=2)).points[0].loss == pytest.approx(curve.points[0].loss)


def test_it_begins_with_the_batch_of_the_next_step() -> None:
    state, read = fresh(config_of()), []
    state.step = 7

    def counted(step: int) -> Batch:
        read.append(step)
        return batch(step)

    with ShardPool(1, 4) as pool:
        find_learning_rate(state, config_of(), counted, pool, first=1e-6, last=1e-4, steps=10)
    assert read == list(range(7, 17))


def test_it_ends_where_the_loss_diverges() -> None:
    curve = found_by(config_of({"name": "sgd"}, clipping="none"), first=1e-3, last=1e6, steps=60)
    assert len(curve.points) < 60
    assert "rose 1 nat" in curve.stopped or "not finite" in curve.stopped
    lowest = min(point.smoothed_loss for point in curve.points)
    assert all(point.smoothed_loss <= lowest + 1 for point in curve.points[3:-1])


def test_it_ends_where_something_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: TrainingState, *arguments: Any) -> Any:
        result = training_step(state, *arguments)
        return result._replace(skipped=True, loss=math.nan) if state.step == 9 else result

    monkeypatch.setattr(lr_finder, "training_step", broken)
    curve = found_by(config_of(), steps=20)
    assert len(curve.points) == 8
    assert curve.stopped.startswith("loss or gradient were not finite at ")


@pytest.mark.parametrize("steps", [10, 20, 30, 200])
def test_smoothing_by_loops(steps: int) -> None:
    curve = found_by(config_of(), steps=steps, last=1e-2)
    beta = smoothing(steps)
    assert beta == pytest.approx(max(0.0, 1 - 20 / steps))
    for i, point in enumerate(curve.points):
        weights = [beta ** (i - j) for j in range(i + 1)]
        losses = sum(w * p.loss for w, p in zip(weights, curve.points[: i + 1], strict=True)) / sum(weights)
        logs = sum(w * math.log(p.lr) for w, p in zip(weights, curve.points[: i + 1], strict=True)) / sum(weights)
        assert point.smoothed_loss == pytest.approx(losses, rel=1e-10)
        assert point.smoothed_lr == pytest.approx(math.exp(logs), rel=1e-10)


def smoothed(
    loss: Any, steps: int = 200, first: float = 1e-6, last: float = 1.0, noise: float = 0.0, seed: int = 0
) -> list[Point]:
    """The points of a search in which the loss is a function of the rate."""
    rng = np.random.default_rng(seed)
    average, log = (lr_finder._Average(smoothing(steps)) for _ in range(2))
    points = []
    for number in range(steps):
        lr = rate(number, first, last, steps)
        value = loss(math.log10(lr)) + noise * rng.normal()
        points.append(Point(lr, value, math.exp(log.of(math.log(lr))), average.of(value)))
    return points


def test_a_straight_line_stays_where_it_is() -> None:
    """(LRF.3): without the average of the rates, the line would lie 9 steps, a factor of 1.9, to the right."""
    for point in smoothed(lambda x: 5 - x):
        assert point.smoothed_loss == pytest.approx(5 - math.log10(point.smoothed_lr), rel=1e-10)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_tenth_of_the_lowest_point_where_the_loss_turns(noise: float) -> None:
    proposal = propose(smoothed(lambda x: 7 + 0.5 * (x + 2) ** 2, noise=noise), 200)
    assert proposal.turned
    assert proposal.lowest == pytest.approx(1e-2, rel=0.5)
    assert proposal.lr == pytest.approx(proposal.lowest / 10)
    assert "tenth" in proposal.reason


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_steepest_point_where_the_loss_never_turns(noise: float) -> None:
    proposal = propose(smoothed(lambda x: 7 - 3 / (1 + math.exp(-4 * (x + 3))), noise=noise), 200)
    assert not proposal.turned
    assert proposal.lr == proposal.steepest
    assert proposal.lr == pytest.approx(1e-3, rel=0.3)
    assert "falls fastest" in proposal.reason


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_read_into_noise(seed: int) -> None:
    proposal = propose(smoothed(lambda x: 7.0, noise=0.2, seed=seed), 200)
    assert proposal.lr is None
    assert "more steps" in proposal.reason


def test_too_short_a_curve_speaks_for_nothing() -> None:
    proposal = propose(smoothed(lambda x: 7 + x)[:15], 200)
    assert proposal.lr is None
    assert "lower rate" in proposal.reason


@pytest.mark.parametrize(
    "options", [{"first": 0.0}, {"first": 1.0, "last": 1.0}, {"last": math.inf}, {"first": math.nan}, {"steps": 9}]
)
def test_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        found_by(config_of(), **options)


def test_a_run_on_the_disk_stays_as_it_is(configured: Any, tokens: Any) -> None:
    result = pretrain(configured(train__steps=6), tokens=tokens)
    files = {path: path.read_bytes() for path in sorted(result.run.rglob("*")) if path.is_file()}
    curve = search(configured(train__steps=6), tokens, result.checkpoint, first=1e-4, last=0.1, steps=12)
    assert len(curve.points) == 12
    assert {path: path.read_bytes() for path in sorted(result.run.rglob("*")) if path.is_file()} == files
    with pytest.raises(ConfigError, match="weight_decay"):
        search(configured(train__steps=6, optimizer__weight_decay=0.5), tokens, result.checkpoint)


def test_before_step_1_no_folder_is_made(configured: Any, tokens: Any, tmp_path: Path) -> None:
    config = configured()
    there = sorted(tmp_path.rglob("*"))
    search(config, tokens, first=1e-4, last=1.0, steps=10)
    assert sorted(tmp_path.rglob("*")) == there


def test_rows_are_masked_at_the_rate_that_a_training_has_come_to(configured: Any, tokens: Any) -> None:
    settings = {"masking__rate_schedule": "adaptive", "masking__rate": 0.15, "train__steps": 6}
    settings |= {"masking__adaptive_step": 0.2, "train__evaluate_every": 2}
    trained = pretrain(configured(**settings), tokens=tokens, evaluate=lambda model: {"loss": 1.0, "top1": 0.9})
    found = search(configured(**settings), tokens, trained.checkpoint, first=1e-4, last=0.1, steps=10).points[0].loss
    stream, losses = BatchStream(tokens.train, configured(**settings), tokens.tokenizer), []
    state = load_checkpoint(trained.checkpoint).state
    with ShardPool(1, configured().train.shards) as pool:
        for rate in (0.4, 0.15):
            sums = pool.gradients(state.model, stream.batch(6, rate), RandomStream(0, "dropout", 7))
            losses.append(sums.loss_sum / sums.n_masked)
    assert found == losses[0] != losses[1]
