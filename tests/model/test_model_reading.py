"""Layouts of the positions that the loss reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.random_streams import RandomStream

A = 3


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    B, T = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    return B, T, sorted(draw(st.sets(st.integers(0, B * T - 1))))


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


every_layout = given(layouts())


@every_layout
@settings(deadline=None)
def test_to_rectangle_and_back(layout: tuple[int, int, list[int]]) -> None:
    B, T, positions = layout
    read = Reading.of(np.array(positions, np.int64), B, T)
    x_MH = drawn(len(positions), 2)
    x_BPH = read.to_rectangle(x_MH)
    assert x_BPH.shape == (B, read.shape[1], 2)
    np.testing.assert_array_equal(read.from_rectangle(x_BPH), x_MH)

    by_row = [[m for m, position in enumerate(positions) if position // T == b] for b in range(B)]
    assert read.shape == (B, max(map(len, by_row)))
    for b, members in enumerate(by_row):
        np.testing.assert_array_equal(x_BPH[b, : len(members)], x_MH[members])
        assert not x_BPH[b, len(members) :].any()


@every_layout
@settings(deadline=None)
def test_to_rectangle_is_the_adjoint_of_from_rectangle(layout: tuple[int, int, list[int]]) -> None:
    B, T, positions = layout
    read = Reading.of(np.array(positions, np.int64), B, T)
    x_MH, y_BPH = drawn(len(positions), 2), drawn(B, read.shape[1], 2, seed=1)
    assert (read.to_rectangle(x_MH) * y_BPH).sum() == pytest.approx(
        (x_MH * read.from_rectangle(y_BPH)).sum(), abs=1e-12
    )


@every_layout
@settings(deadline=None)
def test_scatter_add_is_the_adjoint_of_gather(layout: tuple[int, int, list[int]]) -> None:
    B, T, positions = layout
    read = Reading.of(np.array(positions, np.int64), B, T)
    x_BTH, y_MH, start = drawn(B, T, 2), drawn(len(positions), 2, seed=1), drawn(B, T, 2, seed=2)
    scattered = start.copy()
    read.scatter_add(scattered, y_MH)
    assert (x_BTH * (scattered - start)).sum() == pytest.approx((read.gather(x_BTH) * y_MH).sum(), abs=1e-12)
    for m, position in enumerate(positions):
        np.testing.assert_array_equal(read.gather(x_BTH)[m], x_BTH[position // T, position % T])


@every_layout
@settings(deadline=None)
def test_weight_rows_number_the_rows_of_all_weights(layout: tuple[int, int, list[int]]) -> None:
    B, T, positions = layout
    read = Reading.of(np.array(positions, np.int64), B, T)
    P = read.shape[1]
    rows = read.weight_rows(A, T)
    assert rows.shape == (B * A * P,)
    assert np.all((rows >= 0) & (rows < B * A * T))
    numbers = np.arange(B * A * T).reshape(B, A, T)
    places = dict.fromkeys(range(B), 0)
    for position in positions:
        b, t = divmod(position, T)
        np.testing.assert_array_equal(rows.reshape(B, A, P)[b, :, places[b]], numbers[b, :, t])
        places[b] += 1


@every_layout
@settings(deadline=None)
def test_dropout_of_read_rows_is_that_of_all_rows(layout: tuple[int, int, list[int]]) -> None:
    B, T, positions = layout
    read = Reading.of(np.array(positions, np.int64), B, T)
    run = Pass(B, T, dropout=RandomStream(3, "dropout", 1), first_row=2)
    x_BTH = drawn(B, T, 5)
    whole, _ = run.drop(x_BTH, 0.4, "site")
    some, _ = run.drop(read.gather(x_BTH), 0.4, "site", read)
    np.testing.assert_array_equal(some, read.gather(whole))
