"""Is the rate right where schedules go wrong: at the first update, at the end of the warm-up, at the last?"""

from __future__ import annotations

import pytest

from mini_bert.optim.schedules import learning_rate

STEPS, WARMUP, PEAK = 50, 10, 2.0


def rates(schedule: str = "linear") -> list[float]:
    settings = {"steps": STEPS, "peak": PEAK, "warmup_ratio": WARMUP / STEPS, "schedule": schedule}
    return [learning_rate(step, **settings) for step in range(1, STEPS + 1)]


def test_warmup_begins_above_0_and_ends_at_the_peak() -> None:
    assert rates()[0] == pytest.approx(PEAK / WARMUP, rel=1e-14)
    assert rates()[WARMUP - 1] == PEAK


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_rate_never_rises_after_the_warmup(schedule: str) -> None:
    rest = rates(schedule)[WARMUP - 1 :]
    assert rest == sorted(rest, reverse=True), "the warm-up goes on"
    assert max(rates(schedule)) == PEAK


def test_last_update_is_one_step_above_0() -> None:
    """The line goes on to 0 at the update after the last."""
    last, before = rates()[-1], rates()[-2]
    assert last == pytest.approx(before - last, rel=1e-12)
    assert last > 0


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.6])
def test_the_decay_begins_at_the_peak(ratio: float) -> None:
    """However long the warm-up, the update behind it is one step of the line below the peak."""
    warmup = round(ratio * STEPS)
    settings = {"steps": STEPS, "peak": PEAK, "warmup_ratio": ratio}
    first, second = (learning_rate(warmup + number, **settings) for number in (1, 2))
    assert PEAK - first == pytest.approx(first - second, rel=1e-9)
