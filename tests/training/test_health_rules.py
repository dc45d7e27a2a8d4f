"""What a run's health makes of skipped updates, evaluations and losses; each sequence is followed by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from mini_bert.config.schema import HealthConfig
from mini_bert.training.health import PASSED_OVER, REMEMBERED, WINDOW, Health, Remedy, spike_limit
from mini_bert.training.non_finite import NonFinite
from mini_bert.training.step import StepResult

FOUND = NonFinite("layer_0.attention.scores", "forward", "overflow", "ops/attention.py", 2, (5,))


def step(number: int, loss: float = 5.0, skipped: bool = False, found: NonFinite | None = FOUND) -> StepResult:
    nan = math.nan
    return StepResult(
        number, nan if skipped else loss, 0.1, nan if skipped else 1.5, 1e-3, 64, 9, skipped, found if skipped else None
    )


def remedies(health: Health, pattern: str, **settings: Any) -> list[tuple[int, str]]:
    """Steps, `.` good and `x` skipped: when something is to be done, and what."""
    told = [
        (n, health.after_step(step(n, skipped=c == "x"), HealthConfig(**settings))) for n, c in enumerate(pattern, 1)
    ]
    return [(n, remedy.kind) for n, remedy in told if remedy is not None]


def evaluated(health: Health, losses: list[float | None], **settings: Any) -> list[tuple[int, str]]:
    told = [(n, health.after_evaluation(n, loss, HealthConfig(**settings))) for n, loss in enumerate(losses, 1)]
    return [(n, remedy.kind) for n, remedy in told if remedy is not None]


# --- skipped updates


@pytest.mark.parametrize("most", [1, 2, 5])
def test_so_many_skips_in_a_row_and_no_fewer_end_a_run(most: int) -> None:
    health = Health()
    assert remedies(health, "." + ("x" * (most - 1) + ".") * 3 + "x" * most, max_skipped=most) == [
        (1 + 3 * most + most, "give up")
    ]
    assert health.skipped_in_a_row == most
    assert health.lr_scale == 1.0


def test_what_is_said_when_a_run_gives_up() -> None:
    health = Health()
    for number in (7, 8):
        assert health.after_step(step(number, skipped=True), HealthConfig(max_skipped=3)) is None
    remedy = health.after_step(step(9, skipped=True), HealthConfig(max_skipped=3))
    assert remedy == Remedy(
        "give up",
        "3 updates in a row had no finite loss and gradient, at the steps 7 to 9. The last: overflow in "
        "layer_0.attention.scores, made by ops/attention.py, shard 2, row 5 of the batch.",
    )


def test_learning_rate_is_cut_after_skips_and_the_count_begins_anew() -> None:
    health = Health()
    cuts = remedies(health, "xx.x.xxxx", lr_cut_after_skips=2, lr_cut=0.5)
    assert cuts == [(2, "cut"), (7, "cut"), (9, "cut")]
    assert health.lr_scale == 0.125
    assert remedies(Health(), "xxxxx", lr_cut_after_skips=2, max_skipped=5) == [(2, "cut"), (4, "cut"), (5, "give up")]


def test_a_parameter_that_is_not_finite_is_not_waited_for() -> None:
    bad = NonFinite("W_Q_0", "parameter", "NaN")
    remedy = Health().after_step(step(4, skipped=True, found=bad), HealthConfig())
    assert remedy == Remedy("give up", "Step 4 found NaN in the parameter W_Q_0.")


# --- evaluations


def test_plateau_cuts_and_begins_to_count_anew() -> None:
    health = Health()
    losses = [5.0, 4.0, 4.1, 4.2, 4.0, 4.3, 3.9, 4.0, 4.0]
    assert evaluated(health, losses, lr_cut_after_evaluations=2, lr_cut=0.1) == [(4, "cut"), (6, "cut"), (9, "cut")]
    assert health.lr_scale == pytest.approx(1e-3)
    assert health.best_loss == 3.9


def test_a_better_loss_begins_the_count_of_a_plateau_anew() -> None:
    assert evaluated(Health(), [5.0, 4.0, 4.1, 3.9, 4.0, 3.8, 3.9], lr_cut_after_evaluations=2) == []


def test_early_stopping_counts_from_the_best() -> None:
    assert evaluated(Health(), [5.0, 4.0, 4.1, 4.2, 3.9, 4.0, 4.0, 4.0], stop_after_evaluations=3) == [(8, "stop")]


def test_a_cut_gives_early_stopping_no_more_patience() -> None:
    """Cut at 2 and at 4 without a better loss; patience of 5 counts through both."""
    health = Health()
    told = evaluated(health, [4.0] + [4.5] * 5, lr_cut_after_evaluations=2, stop_after_evaluations=5)
    assert told == [(3, "cut"), (5, "cut"), (6, "stop")]


def test_where_both_are_due_the_run_stops_and_nothing_is_cut() -> None:
    health = Health()
    assert evaluated(health, [4.0, 4.5, 4.5], lr_cut_after_evaluations=2, stop_after_evaluations=2) == [(3, "stop")]
    assert health.lr_scale == 1.0


def test_least_improvement_is_in_nats_from_the_best_that_counted() -> None:
    """Steps of 0.04 below the best: each is too small by itself, the third is 0.12 below 4.0."""
    losses = [4.0, 3.96, 3.92, 3.88, 3.87]
    health = Health()
    assert evaluated(health, losses, min_improvement=0.1, stop_after_evaluations=3) == []
    assert health.best_loss == 3.88
    assert evaluated(Health(), losses, min_improvement=0.1, stop_after_evaluations=2) == [(3, "stop")]
    assert evaluated(Health(), [4.0, 4.0], stop_after_evaluations=1) == [(2, "stop")], "as good is not better"


@pytest.mark.parametrize("loss", [math.nan, math.inf, None])
def test_a_loss_that_is_no_number_is_no_better_one(loss: float | None) -> None:
    health = Health()
    assert evaluated(health, [loss, 4.0, loss, loss], stop_after_evaluations=2) == [(4, "stop")]
    assert health.best_loss == 4.0


def test_without_settings_evaluations_change_nothing() -> None:
    assert evaluated(Health(), [4.0] + [5.0] * 50) == []


# --- spikes


def noisy(count: int, seed: int = 0, level: float = 5.0, sd: float = 0.2, slope: float = 0.0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(x) for x in level + slope * np.arange(count) + sd * rng.normal(size=count)]


def spikes(losses: list[float], health: Health | None = None, **settings: Any) -> list[tuple[int, str]]:
    health = health or Health()
    told = [(n, health.after_step(step(n, loss), HealthConfig(**settings))) for n, loss in enumerate(losses)]
    return [(n, remedy.kind) for n, remedy in told if remedy is not None]


def test_limit_is_median_and_deviations_of_neighbours() -> None:
    losses = noisy(WINDOW)
    sigma = 1.4826 * np.median(np.abs(np.diff(losses))) / np.sqrt(2)
    assert spike_limit(losses, 4.0) == pytest.approx(np.median(losses) + 4 * sigma, rel=1e-12)
    many = noisy(4001, seed=1)
    assert spike_limit(many, 6.0) == pytest.approx(5.0 + 6 * 0.2, rel=0.02), "sigma of normal noise"
    falling = noisy(4001, seed=1, slope=-1e-3)
    assert spike_limit(falling, 6.0) - np.median(falling) == pytest.approx(6 * 0.2, rel=0.02), "a trend is no noise"


@pytest.mark.parametrize(("jump", "told"), [(0.7, []), (1.6, [(60, "warn")])])
def test_a_loss_far_above_the_recent_is_a_spike(jump: float, told: list[tuple[int, str]]) -> None:
    losses = noisy(100)
    losses[60] = 5.0 + jump
    assert spikes(losses) == told
    assert spikes(losses, spike="ignore") == []


def test_fewer_deviations_are_a_spike_sooner() -> None:
    losses = noisy(100)
    losses[60] = 5.7
    assert spikes(losses, spike_deviations=4.0) == [(60, "warn")]


def test_ordinary_noise_is_no_spike() -> None:
    """20,000 losses with normal noise, and 20,000 with the heavier tails of a t distribution of 5 degrees."""
    assert spikes(noisy(20_000, slope=-1e-4)) == []
    heavy = 5.0 + 0.1 * np.random.default_rng(2).standard_t(5, 2_000)
    assert len(spikes([float(loss) for loss in heavy])) <= 4


def test_a_flat_curve_has_no_spikes_in_its_last_digits() -> None:
    losses = [3.0] * 60
    losses[50], losses[55] = 3.0 + 1e-6, 3.17
    assert spikes(losses) == []
    losses[57] = 3.19  # floor: 6 × a hundredth of 3
    assert spikes(losses) == [(57, "warn")]
    assert spikes([0.0] * 60) == []


def test_a_finite_explosion_is_a_spike_however_few_losses_were_seen() -> None:
    assert spikes([9.0, 9.1, 8.9, 28.0]) == []
    assert spikes([9.0, 9.1, 8.9, 28.5]) == [(3, "warn")], "3 × 9.1 and a nat"
    assert spikes([1e30]) == [], "the first has nothing to be compared with"
    assert spikes([3.0, 9.0, 5.0, 8.0] * 10 + [1e30]) == [(40, "warn")]


def test_a_spike_is_told_of_once_and_does_not_hide_the_next() -> None:
    losses = noisy(100)
    losses[60:65] = [8.0, 9.0, 8.5, 8.0, 7.0]
    losses[70] = 7.5
    assert spikes(losses) == [(60, "warn"), (70, "warn")]


def test_a_new_level_is_got_used_to() -> None:
    losses = noisy(60) + noisy(140, seed=3, level=8.0)
    assert spikes(losses) == [(60, "warn")]
    losses[150] = 11.0
    health = Health()
    assert spikes(losses, health) == [(60, "warn"), (150, "warn")]
    assert health.losses == losses[-WINDOW:]
    assert [told["step"] for told in health.steps] == list(range(200 - REMEMBERED, 200))


def test_skipped_steps_and_batches_without_masked_pieces_are_not_in_the_window() -> None:
    health = Health()
    spikes(noisy(30), health)
    before = list(health.losses)
    health.after_step(step(30, skipped=True), HealthConfig())
    health.after_step(step(31, 0.0)._replace(masked=0), HealthConfig())
    assert health.losses == before


def test_rollbacks_are_asked_for_so_often_and_then_it_is_a_warning() -> None:
    health = Health(losses=noisy(WINDOW))
    saved = asdict(health)
    settings = HealthConfig(spike="roll-back", max_rollbacks=2)
    for number in (1, 2):
        remedy = health.after_step(step(50 + number, 9.0), settings)
        assert remedy is not None
        assert remedy.kind == "roll-back"
        health.rolled_back(50 + number, 40, saved)
        assert health.rollbacks == number
    remedy = health.after_step(step(60, 9.0), settings)
    assert remedy is not None
    assert remedy.kind == "warn"
    assert "health.max_rollbacks is 2" in remedy.reason


def test_after_a_rollback_all_is_as_saved_but_its_number_and_the_batches() -> None:
    health = Health(
        lr_scale=0.5, best_loss=4.0, evaluations_since_best=1, losses=[5.0] * 30, batch_offset=7, rollbacks=1
    )
    saved = json.loads(json.dumps(asdict(health)))
    for number in range(30, 41):
        health.after_step(step(number), HealthConfig())
    health.lr_scale, health.best_loss = 0.25, 3.0
    health.rolled_back(41, 30, saved)
    assert asdict(health) == {**saved, "rollbacks": 2, "batch_offset": 7 + 11 + PASSED_OVER}
    health.rolled_back(35, 0)
    assert asdict(health) == asdict(Health(rollbacks=3, batch_offset=7 + 11 + 35 + 2 * PASSED_OVER))


def test_no_batch_is_met_twice_over_rollbacks() -> None:
    health, done, met = Health(), 0, []
    for back_to in (None, None, None, 0, None, None, 1, None, None, 2, None):
        if back_to is None:
            met.append(done + health.batch_offset)
            done += 1
        else:
            health.rolled_back(done, back_to, asdict(Health()))
            done = back_to
    assert len(set(met)) == len(met)
    assert met == sorted(met)


# --- a function of what was measured


@pytest.mark.parametrize("stop", [0, 1, 17, 60, 61, 149])
def test_a_restored_health_goes_on_as_if_nothing_had_been(stop: int) -> None:
    """150 steps with skips, spikes and evaluations, through JSON in the middle."""
    rng = np.random.default_rng(5)
    settings = HealthConfig(
        lr_cut_after_skips=2,
        lr_cut_after_evaluations=2,
        max_skipped=50,
        spike="roll-back",
        spike_deviations=2.0,
        max_rollbacks=1,
    )
    events = [(float(loss), rng.random() < 0.2) for loss in 5.0 + rng.standard_t(2, 150)]

    def through(health: Health, first: int, last: int) -> list[Remedy | None]:
        told = []
        for number in range(first, last):
            loss, skipped = events[number]
            told.append(health.after_step(step(number, loss, skipped), settings))
            if number % 5 == 0:
                told.append(health.after_evaluation(number, loss, settings))
            if told[-1] is not None and told[-1].kind == "roll-back":
                health.rolled_back(number + 1, number, asdict(health))
        return told

    whole, first = Health(), Health()
    expected = through(whole, 0, 150)
    got = through(first, 0, stop)
    text = json.dumps(asdict(first), allow_nan=False)
    second = Health.restored(json.loads(text))
    got += through(second, stop, 150)
    assert got == expected
    assert asdict(second) == asdict(whole)
    assert {remedy.kind for remedy in expected if remedy} == {"cut", "warn", "roll-back"}
    assert asdict(first) == json.loads(text), "what was restored is not shared"
