"""Every schedule beside its closed form, at its ends, and the switches that all of them share."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.config.schema import TrainConfig
from mini_bert.errors import InvalidInputError
from mini_bert.optim.schedules import SCHEDULES, learning_rate

DECAYS = ("linear", "cosine", "polynomial", "wsd", "one_cycle")
"""Those that go to the lowest rate."""


def rates(schedule: str, steps: int = 100, warmup_ratio: float = 0.1, peak: float = 2.0, **more: Any) -> list[float]:
    given = {"steps": steps, "warmup_ratio": warmup_ratio, "peak": peak, "schedule": schedule, **more}
    return [learning_rate(step, **given) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1, 2, 2 * 4 / 5, 2 * 3 / 5, 2 * 2 / 5, 2 / 5]),
        ("constant", [1, 2, 2, 2, 2, 2]),
        ("cosine", [1, 2, *(1 + math.cos(math.pi * k / 5) for k in (1, 2, 3, 4))]),
        ("polynomial", [1, 2, 2 * 16 / 25, 2 * 9 / 25, 2 * 4 / 25, 2 / 25]),
        (
            "inverse_sqrt",
            [1, 2, 2 * math.sqrt(2 / 3), 2 * math.sqrt(1 / 2), 2 * math.sqrt(2 / 5), 2 * math.sqrt(1 / 3)],
        ),
        ("wsd", [1, 2, 2, 2, 2 * 2 / 3, 2 / 3]),
        ("one_cycle", [2 * (0.04 + 0.96 / 2), 2, *(1 + math.cos(math.pi * k / 5) for k in (1, 2, 3, 4))]),
    ],
)
def test_six_updates_by_hand(schedule: str, expected: list[float]) -> None:
    """Two of warm-up; a third of all are wsd's decay."""
    found = rates(schedule, steps=6, warmup_ratio=1 / 3, decay_ratio=1 / 3)
    assert found == pytest.approx(expected, rel=1e-14)


def test_the_names_are_those_of_the_configuration() -> None:
    assert set(SCHEDULES) == set(get_args(TrainConfig.model_fields["schedule"].annotation))


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(steps=st.integers(1, 300), ratio=st.floats(0, 0.95), low=st.floats(0, 0.9), tail=st.floats(0.01, 1))
@settings(deadline=None, max_examples=30)
def test_it_rises_to_the_peak_and_never_rises_again(
    schedule: str, steps: int, ratio: float, low: float, tail: float
) -> None:
    found = rates(schedule, steps, ratio, min_lr_ratio=low, decay_ratio=tail)
    warmup = round(ratio * steps)
    assert all(0 < rate <= 2 * (1 + 1e-15) for rate in found)
    rising, rest = found[:warmup], found[warmup:]
    assert rising == sorted(rising)
    assert all(after <= before * (1 + 1e-15) for before, after in pairwise(rest))
    assert all(rate >= 2 * low * (1 - 1e-15) for rate in rest)
    if rising:
        assert rising[-1] == pytest.approx(2.0, rel=1e-15)


@pytest.mark.parametrize("schedule", DECAYS)
@pytest.mark.parametrize("low", [0.0, 0.1])
def test_the_update_after_the_last_would_have_the_lowest_rate(schedule: str, low: float) -> None:
    """A longer run of the same decay, read at the place where the shorter one is over, is the way to ask for it."""
    last = rates(schedule, steps=100, min_lr_ratio=low)[-1]
    assert last > 2 * low
    nearer = rates(schedule, steps=10_000, min_lr_ratio=low)[-1]
    assert nearer - 2 * low < (last - 2 * low) / 50


@pytest.mark.parametrize("schedule", DECAYS)
def test_a_lowest_rate_lifts_the_decay_in_proportion(schedule: str) -> None:
    free, lifted = (rates(schedule, min_lr_ratio=low)[10:] for low in (0.0, 0.25))
    assert lifted == pytest.approx([0.5 + 0.75 * rate for rate in free], rel=1e-14)


def test_inverse_sqrt_stops_at_the_lowest_rate() -> None:
    found = rates("inverse_sqrt", steps=1000, warmup_ratio=0.01, min_lr_ratio=0.25)
    assert found[159] == pytest.approx(2 * math.sqrt(10 / 160), rel=1e-14)
    assert found[160:] == [0.5] * 840


def test_wsd_is_stable_and_then_falls_in_equal_steps() -> None:
    found = rates("wsd", steps=100, warmup_ratio=0.1, decay_ratio=0.3)
    assert found[9:70] == [2.0] * 61
    steps = [before - after for before, after in pairwise(found[69:])]
    assert steps == pytest.approx([2 / 31] * 30, rel=1e-12)


def test_a_tail_that_begins_in_the_warmup_begins_behind_it() -> None:
    assert rates("wsd", warmup_ratio=0.5, decay_ratio=0.9) == pytest.approx(rates("linear", warmup_ratio=0.5))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_in_steps_comes_before_the_ratio(schedule: str) -> None:
    assert rates(schedule, warmup_ratio=0.9, warmup_steps=10) == rates(schedule, warmup_ratio=0.1)
    assert rates(schedule, warmup_ratio=0.9, warmup_steps=0) == rates(schedule, warmup_ratio=0.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warmup_that_is_longer_than_the_run_goes_on_to_its_end(schedule: str) -> None:
    found = rates(schedule, steps=5, warmup_steps=50)
    assert found == sorted(found)
    assert found[-1] < 2.0 / 4


def test_power_one_is_the_line_and_power_two_its_square() -> None:
    line = rates("linear", peak=1.0)[10:]
    assert rates("polynomial", peak=1.0, power=1.0)[10:] == pytest.approx(line, rel=1e-15)
    assert rates("polynomial", peak=1.0, power=2.0)[10:] == pytest.approx([rate**2 for rate in line], rel=1e-14)


def test_one_cycle_begins_at_a_twenty_fifth() -> None:
    found = rates("one_cycle", steps=10_000, warmup_ratio=0.3)
    assert found[0] == pytest.approx(2 / 25, rel=1e-3)
    assert found[1499] == pytest.approx(2 * (1 + 1 / 25) / 2, rel=1e-12)  # half way up


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_peak_is_a_factor(schedule: str) -> None:
    one, other = (rates(schedule, peak=peak, min_lr_ratio=0.1) for peak in (1.0, 3e-4))
    assert other == pytest.approx([3e-4 * rate for rate in one], rel=1e-14)


@pytest.mark.parametrize(
    ("step", "schedule", "argument"), [(0, "wsd", "step"), (11, "cosine", "step"), (1, "x", "schedule")]
)
def test_refused(step: int, schedule: str, argument: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        learning_rate(step, steps=10, peak=1.0, warmup_ratio=0.1, schedule=schedule)
    assert error.value.argument == argument
