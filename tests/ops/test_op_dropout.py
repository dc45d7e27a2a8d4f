from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.ops import dropout
from mini_bert.random_streams import RandomStream
from mini_bert.verification.oracles.philox import stream_lanes

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
STREAM = RandomStream(seed=3, name="dropout/test", step=11)


@quick
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**40), st.data())
def test_a_shard_draws_the_rows_of_the_whole(columns: int, rows: int, first_row: int, data: st.DataObject) -> None:
    x = np.ones((rows, columns))
    whole, _ = dropout.forward(x, p=0.4, stream=STREAM, first_row=first_row)
    cut = data.draw(st.integers(0, rows))
    head, _ = dropout.forward(x[:cut], p=0.4, stream=STREAM, first_row=first_row)
    tail, _ = dropout.forward(x[cut:], p=0.4, stream=STREAM, first_row=first_row + cut)
    np.testing.assert_array_equal(np.concatenate((head, tail)), whole)


@quick
@given(st.integers(1, 40), st.sets(st.integers(0, 30)), st.integers(0, 1000))
def test_selected_rows_get_the_draws_they_have_in_the_whole(columns: int, chosen: set[int], first_row: int) -> None:
    rows = np.array(sorted(chosen), np.int64)
    whole, _ = dropout.forward(np.ones((31, columns)), p=0.25, stream=STREAM, first_row=first_row)
    some, _ = dropout.forward(np.ones((rows.size, columns)), p=0.25, stream=STREAM, first_row=first_row, rows=rows)
    np.testing.assert_array_equal(some, whole[rows])


def test_selected_rows_with_leading_axes() -> None:
    whole, _ = dropout.forward(np.ones((2, 3, 4, 5)), p=0.3, stream=STREAM, first_row=7)
    rows = np.array([3, 4, 10, 11, 15, 16, 20, 23])
    some, _ = dropout.forward(np.ones((2, 2, 2, 5)), p=0.3, stream=STREAM, first_row=7, rows=rows)
    np.testing.assert_array_equal(some.reshape(8, 5), whole.reshape(24, 5)[rows])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_expectation_is_exact(p: float) -> None:
    """(1 − p') · 1/(1 − p') = 1 with p' the p that the draws can have, and p' is p to 16 bits."""
    _, saved = dropout.forward(np.ones((4, 4)), p=p, stream=STREAM)
    kept_share = 1.0 - round(p * 65_536) / 65_536
    assert saved.scale * kept_share == 1.0
    assert abs(kept_share - (1.0 - p)) <= 2.0**-17


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rate_is_that_of_a_fair_draw(p: float) -> None:
    n = 400_000
    _, saved = dropout.forward(np.ones((n // 100, 100)), p=p, stream=STREAM)
    assert saved.keep is not None
    dropped = n - np.count_nonzero(saved.keep)
    assert abs(dropped - n * p) < 4.0 * np.sqrt(n * p * (1 - p))
    assert abs(saved.keep[:-1] * 1.0 - 0).mean() == pytest.approx(1 - p, abs=0.01)
    agreement = (saved.keep[1:] == saved.keep[:-1]).mean()  # neighbouring rows know nothing of each other
    assert agreement == pytest.approx(p * p + (1 - p) ** 2, abs=0.01)


def test_elements_are_zero_or_scaled_as_the_draw_says() -> None:
    x = np.random.default_rng(0).normal(size=(3, 20))
    y, _ = dropout.forward(x, p=0.1, stream=STREAM, first_row=40)
    threshold = 6554  # 0.1 · 65536, rounded
    for r in range(3):
        draws = stream_lanes(STREAM.seed, STREAM.name, STREAM.step, 40 + r, 20)
        for c in range(20):
            expected = 0.0 if draws[c] < threshold else x[r, c] * 65_536 / (65_536 - threshold)
            assert y[r, c] == pytest.approx(expected, rel=1e-15)


def test_a_draw_that_equals_p_is_kept() -> None:
    draws = stream_lanes(STREAM.seed, STREAM.name, STREAM.step, 0, 20)
    assert len(set(draws)) == 20
    for c in range(20):
        _, saved = dropout.forward(np.ones((1, 20)), p=draws[c] / 65_536, stream=STREAM)
        assert saved.keep is not None
        assert saved.keep[0].tolist() == [draw >= draws[c] for draw in draws]


def test_a_probability_next_to_one_keeps_one_draw_in_65536() -> None:
    _, saved = dropout.forward(np.ones((1, 20)), p=0.999999, stream=STREAM)
    assert saved.scale == 65_536.0


def test_the_gradient_passes_where_the_value_passed() -> None:
    x = np.random.default_rng(0).normal(size=(5, 9))
    y, saved = dropout.forward(x, p=0.5, stream=STREAM)
    (dx,) = dropout.backward(np.full((5, 9), 3.0), saved)
    np.testing.assert_array_equal(dx, np.where(y == 0, 0.0, 6.0))


@pytest.mark.parametrize(("p", "stream"), [(0.5, None), (0.0, STREAM), (2.0**-18, STREAM)])
def test_nothing_is_dropped_without_stream_or_probability(p: float, stream: RandomStream | None) -> None:
    x = np.random.default_rng(0).normal(size=(5, 9))
    y, saved = dropout.forward(x, p=p, stream=stream)
    assert y is x
    assert saved == (None, 1.0)
    assert dropout.backward(x, saved)[0] is x


def test_steps_sites_seeds_and_names_draw_differently() -> None:
    x = np.ones((8, 64))
    streams = [STREAM, STREAM._replace(step=12), STREAM._replace(seed=4), STREAM.at("a"), STREAM.at("b")]
    masks = {dropout.forward(x, p=0.5, stream=stream)[0].tobytes() for stream in streams}
    assert len(masks) == len(streams)
