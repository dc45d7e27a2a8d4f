"""Optimum, valley and bracket of grids whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mini_bert.analysis.learning_rate_sensitivity import (
    LEVEL,
    Sensitivity,
    analyze_learning_rate_sensitivity,
    trials_of_study,
)
from mini_bert.errors import InvalidInputError

GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def trials(loss: Callable[[float, int], float | None], grid: Sequence[float] = GRID, seeds: int = 3) -> list[Any]:
    return [
        {"lr": lr, "seed": seed, "loss": loss(lr, seed), "diverged": loss(lr, seed) is None}
        for lr in grid
        for seed in range(seeds)
    ]


def parabola(at: float, bend: float = 0.1, base: float = 3.0) -> Callable[[float, int], float]:
    return lambda lr, seed: base + 0.01 * seed + bend * math.log(lr / at) ** 2


def analyzed(*arguments: Any, **more: Any) -> Sensitivity:
    return analyze_learning_rate_sensitivity(trials(*arguments, **more))


@pytest.mark.parametrize("at", [4e-4, 1e-3, 2.2e-3])
def test_the_optimum_of_a_parabola_is_exact_on_an_uneven_grid(at: float) -> None:
    found = analyzed(parabola(at))
    assert found.bracketed
    assert found.optimum == pytest.approx(at, rel=1e-9)
    assert found.message.startswith(f"The loss is lowest at a rate of {at:.2g}")


def test_the_interval_is_students_over_the_seeds_optima() -> None:
    """Optima of three seeds at 1/1.2, 1 and 1.2 times 1e-3: t(2) = 4.303 standard errors, in factors."""
    found = analyzed(lambda lr, seed: 3 + 0.1 * math.log(lr / (1e-3 * 1.2 ** (seed - 1))) ** 2)
    reach = math.exp(4.302652729749464 * math.log(1.2) / math.sqrt(3))
    assert found.optimum == pytest.approx(1e-3, rel=1e-9)
    assert found.interval == pytest.approx((1e-3 / reach, 1e-3 * reach), rel=1e-9)


def test_one_seed_has_an_optimum_and_no_interval() -> None:
    found = analyzed(parabola(1e-3), seeds=1)
    assert found.optimum == pytest.approx(1e-3)
    assert found.interval is None
    assert all(rate.interval is None for rate in found.rates)


def test_the_valley_is_cut_where_straight_lines_cross_the_level() -> None:
    """A V in log lr with slope 0.1 a nat: within 0.05 nats is half an e-fold to either side."""
    found = analyzed(lambda lr, seed: 3 + 0.1 * abs(math.log(lr / 1e-3)))
    assert found.best_loss == pytest.approx(3.0)
    assert (found.valley.low, found.valley.high) == pytest.approx((1e-3 / math.exp(0.5), 1e-3 * math.exp(0.5)))
    assert found.valley.factor == pytest.approx(math.e)
    assert not found.valley.low_open
    assert not found.valley.high_open
    assert LEVEL == 0.05


@pytest.mark.parametrize(("at", "side"), [(1e-5, "lower"), (1.0, "higher")])
def test_a_grid_that_does_not_bracket_the_optimum_says_so(at: float, side: str) -> None:
    found = analyzed(parabola(at))
    assert not found.bracketed
    assert found.optimum is None
    assert found.interval is None
    assert found.best == (GRID[0] if side == "lower" else GRID[-1])
    assert f"does not bracket the optimum: {found.best:.2g}, the best, is its end. Try {side} rates" in found.message
    assert (found.valley.low_open, found.valley.high_open) == (side == "lower", side == "higher")
    assert "at least a factor" in found.message


def test_one_seed_outside_is_enough_to_say_so() -> None:
    found = analyzed(lambda lr, seed: parabola(1.0 if seed == 2 else 1e-3, bend=0.01 if seed == 2 else 0.1)(lr, seed))
    assert found.best not in (GRID[0], GRID[-1])
    assert not found.bracketed
    assert "of every seed" in found.message


def test_divergence_is_a_wall_and_not_a_number() -> None:
    found = analyzed(lambda lr, seed: None if lr > 2e-3 else 5.0 - lr * 1000)
    assert [rate.diverged for rate in found.rates] == [0, 0, 0, 3, 3]
    assert [rate.mean for rate in found.rates[3:]] == [None, None]
    assert found.bracketed
    assert found.optimum == pytest.approx(1e-3)
    assert found.interval is None
    assert found.valley.high == 1e-3
    assert not found.valley.high_open


def test_a_rate_with_one_lost_seed_has_no_mean() -> None:
    found = analyzed(lambda lr, seed: None if (lr, seed) == (3e-3, 1) else parabola(3e-3)(lr, seed))
    assert found.rates[3].diverged == 1
    assert found.rates[3].mean is None
    assert found.best == 1e-3


def test_all_diverged() -> None:
    found = analyzed(lambda lr, seed: None)
    assert found[1:7] == (None, None, None, None, None, False)
    assert found.message == "Every rate diverged: try lower ones."


def test_a_flat_floor_has_its_optimum_in_the_middle() -> None:
    found = analyzed(lambda lr, seed: 3.0 if 1e-4 < lr < 1e-2 else 4.0)
    assert 3e-4 <= found.optimum <= 3e-3


def test_order_of_the_trials_does_not_matter() -> None:
    made = trials(parabola(1e-3))
    assert analyze_learning_rate_sensitivity(made[::-1]) == analyze_learning_rate_sensitivity(made)


@pytest.mark.parametrize(
    ("broken", "argument"),
    [
        (lambda made: made[:6], "trials"),
        (lambda made: made[:-1], "trials"),
        (lambda made: [*made, made[0]], "trials"),
        (lambda made: [{**made[0], "lr": 0.0}, *made[1:]], "lr"),
        (lambda made: [{**made[0], "lr": math.inf}, *made[1:]], "lr"),
    ],
)
def test_refused(broken: Callable[[list[Any]], list[Any]], argument: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        analyze_learning_rate_sensitivity(broken(trials(parabola(1e-3))))
    assert error.value.argument == argument


def test_a_loss_that_is_not_a_number_has_diverged() -> None:
    made = trials(parabola(1e-3))
    made[-1] = {**made[-1], "loss": math.nan}
    assert analyze_learning_rate_sensitivity(made).rates[-1].diverged == 1


def test_trials_of_a_study() -> None:
    study = {
        "trials": [
            {"piece": "a", "seed": 0, "settings": {"train.lr": 1e-3}, "status": "done", "loss": 3.0},
            {"piece": "b", "seed": 1, "settings": {"train": {"lr": "3e-3"}}, "status": "diverged", "loss": None},
            {"piece": "b", "seed": 2, "settings": {"train": {"lr": 3e-3}}, "status": "failed", "loss": None},
        ]
    }
    assert trials_of_study(study) == [
        {"lr": 1e-3, "seed": 0, "loss": 3.0, "diverged": False},
        {"lr": 3e-3, "seed": 1, "loss": None, "diverged": True},
    ]
    with pytest.raises(InvalidInputError):
        trials_of_study({"trials": [{"piece": "a", "seed": 0, "settings": {}, "status": "done", "loss": 3.0}]})
