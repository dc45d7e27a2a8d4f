"""The learning rate by hand, and the global norm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import BLOCK
from mini_bert.optim.clipping import clip_scale, global_norm
from mini_bert.optim.schedules import learning_rate


def rates(steps: int, warmup_ratio: float, schedule: str = "linear") -> list[float]:
    return [
        learning_rate(step, steps=steps, peak=2.0, warmup_ratio=warmup_ratio, schedule=schedule)
        for step in range(1, steps + 1)
    ]


@pytest.mark.parametrize(
    ("steps", "ratio", "schedule", "expected"),
    [
        (10, 0.4, "linear", [0.5, 1.0, 1.5, 2.0, 12 / 7, 10 / 7, 8 / 7, 6 / 7, 4 / 7, 2 / 7]),
        (4, 0.0, "linear", [1.6, 1.2, 0.8, 0.4]),
        (5, 0.4, "constant", [1.0, 2.0, 2.0, 2.0, 2.0]),
        (3, 0.0, "constant", [2.0, 2.0, 2.0]),
        (1, 0.1, "linear", [1.0]),
        (2, 0.9, "linear", [1.0, 2.0]),
    ],
)
def test_by_hand(steps: int, ratio: float, schedule: str, expected: list[float]) -> None:
    assert rates(steps, ratio, schedule) == pytest.approx(expected, rel=1e-14)


@given(st.integers(1, 400), st.floats(0, 0.99), st.sampled_from(["linear", "constant"]))
@settings(deadline=None)
def test_shape(steps: int, ratio: float, schedule: str) -> None:
    """Rises to the peak in the warm-up, never exceeds it, never is 0, and has the area of its triangles."""
    all_rates = rates(steps, ratio, schedule)
    warmup = round(ratio * steps)
    rising, rest = all_rates[:warmup], all_rates[warmup:]
    assert all(0 < rate <= 2.0 for rate in all_rates)
    assert rising == sorted(rising)
    assert rest == sorted(rest, reverse=True)
    if rising:
        assert rising[-1] == 2.0
    area = (warmup + 1) * (warmup > 0)  # 2 · (1 + 2 + … + w) / w
    area += 2 * len(rest) if schedule == "constant" else len(rest) * (len(rest) + 1) * 2 / (2 * (len(rest) + 1))
    assert sum(all_rates) == pytest.approx(area, rel=1e-10)


@pytest.mark.parametrize(
    ("step", "schedule", "argument"), [(0, "linear", "step"), (11, "linear", "step"), (1, "cosinus", "schedule")]
)
def test_refused(step: int, schedule: str, argument: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        learning_rate(step, steps=10, peak=1.0, warmup_ratio=0.1, schedule=schedule)
    assert error.value.argument == argument


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 5, BLOCK, 3 * BLOCK + 1])
def test_norm(dtype: type, size: int) -> None:
    vector = np.random.default_rng(size).normal(size=size).astype(dtype)
    expected = math.sqrt(math.fsum(float(x) ** 2 for x in vector))
    assert global_norm(vector) == pytest.approx(expected, rel=1e-6 if dtype is np.float32 else 1e-13)


def test_norm_by_hand() -> None:
    assert global_norm(np.array([3.0, -4.0])) == 5.0
    assert global_norm(np.zeros(4)) == 0.0
    assert global_norm(np.zeros(0)) == 0.0


@pytest.mark.parametrize("place", [0, BLOCK, 2 * BLOCK - 1])
def test_norm_shows_what_is_not_finite(place: int) -> None:
    vector = np.ones(2 * BLOCK, np.float32)
    for value in (np.nan, np.inf, -np.inf):
        vector[place] = value
        assert not math.isfinite(global_norm(vector))
    vector[place] = 3e38
    assert global_norm(vector) == math.inf  # its square is not a float32


def test_norm_of_finite_blocks_whose_sum_is_not() -> None:
    assert global_norm(np.full(4 * BLOCK, 7e151)) == math.inf


@pytest.mark.parametrize(
    ("norm", "scale"),
    [(0.0, 1.0), (0.5, 1.0), (2.0, 1.0), (4.0, 0.5), (8.0, 0.25), (math.inf, 0.0), (1e-300, 1.0)],
)
def test_scale(norm: float, scale: float) -> None:
    assert clip_scale(norm, 2.0) == scale


@given(st.lists(st.floats(-1e3, 1e3), min_size=1), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_clipped_gradient_is_no_longer_than_allowed_and_points_the_same_way(values: list[float], most: float) -> None:
    vector = np.array(values)
    norm = global_norm(vector)
    clipped = vector * clip_scale(norm, most)
    assert global_norm(clipped) <= most * (1 + 1e-12)
    if norm <= most:
        np.testing.assert_array_equal(clipped, vector)
    else:
        assert global_norm(clipped) == pytest.approx(most)
