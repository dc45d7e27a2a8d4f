"""The order of rows: a permutation for every size, seed and epoch, and a random one."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mini_bert.data.order import permuted, sample_numbers, visited_rows, visits_per_epoch
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream


@pytest.mark.parametrize("n_rows", [*range(1, 70), 127, 128, 129, 1000, 4096, 4097, 50_000])
def test_every_row_once_an_epoch(n_rows: int) -> None:
    for epoch in range(3):
        rows = sample_numbers(n_rows, seed=1, epoch=epoch, positions=np.arange(n_rows))
        assert rows.dtype == np.int64
        np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))


def test_an_element_depends_on_its_position_alone() -> None:
    whole = sample_numbers(1000, seed=5, epoch=2, positions=np.arange(1000))
    for positions in ([999], [3, 3, 500], np.arange(17, 400, 5), np.arange(1000).reshape(10, 100)):
        np.testing.assert_array_equal(sample_numbers(1000, 5, 2, positions), whole[np.asarray(positions)])


GOLDEN_10 = [0, 5, 2, 6, 7, 3, 1, 4, 9, 8]
GOLDEN_BIG = [600989536, 713708751, 873516401, 755724693, 958936948]
GOLDEN_SHA256 = "36932c15fadb593a559abca40cef8474d6388b1f4021c9934c334c30ac24ca3f"


def test_golden_values_hold_for_ever() -> None:
    assert sample_numbers(10, 0, 0, range(10)).tolist() == GOLDEN_10
    assert sample_numbers(1_000_000_007, 2**64 - 1, 3, range(5)).tolist() == GOLDEN_BIG
    digest = hashlib.sha256(sample_numbers(100_000, 42, 7, np.arange(100_000)).astype("<i8").tobytes()).hexdigest()
    assert digest == GOLDEN_SHA256


def test_epochs_and_seeds_give_unlike_orders() -> None:
    """Two random permutations of n agree in one place on average, Poisson distributed: 12 or more is p < 1e-9."""
    orders = [sample_numbers(2000, seed, epoch, np.arange(2000)) for seed in range(4) for epoch in range(4)]
    for i, first in enumerate(orders):
        for second in orders[:i]:
            assert np.count_nonzero(first == second) < 12


@pytest.mark.parametrize("n_rows", [2, 5, 6, 24])
def test_every_place_gets_every_row_equally_often(n_rows: int) -> None:
    """Chi-square over (position, row) in 3000 epochs, within 3.5 standard deviations of its mean.

    A permutation has one row a position and one position a row, hence (n - 1)^2 degrees of freedom and the (n - 1) / n.
    """
    counts = np.zeros((n_rows, n_rows))
    for epoch in range(3000):
        counts[np.arange(n_rows), sample_numbers(n_rows, 3, epoch, np.arange(n_rows))] += 1
    expected = 3000 / n_rows
    chi_square = ((counts - expected) ** 2 / expected).sum() * (n_rows - 1) / n_rows
    freedom = (n_rows - 1) ** 2
    assert abs(chi_square - freedom) < 3.5 * np.sqrt(2 * freedom)


def test_neighbours_do_not_stay_together() -> None:
    """In a random permutation, distances of neighbours are as those of any two rows: mean n/3, steps of 1 rare."""
    n_rows = 30_000
    rows = sample_numbers(n_rows, 0, 0, np.arange(n_rows))
    steps = np.abs(np.diff(rows))
    assert abs(steps.mean() / (n_rows / 3) - 1) < 0.02
    assert np.count_nonzero(steps == 1) < 15
    assert abs(np.corrcoef(np.arange(n_rows), rows)[0, 1]) < 0.03
    for bit in range(14):
        assert abs(np.mean(rows >> bit & 1) - np.mean(np.arange(n_rows) >> bit & 1)) < 1e-12
        assert abs(np.corrcoef(np.arange(n_rows) >> bit & 1, rows >> bit & 1)[0, 1]) < 0.03


def test_positions_outside_are_refused() -> None:
    for positions in ([-1], [10]):
        with pytest.raises(InvalidInputError, match=r"positions.*0\.\.9"):
            sample_numbers(10, 0, 0, positions)


@pytest.mark.parametrize(("weight", "visits"), [(1.0, 10), (2.5, 25), (0.3, 3), (0.01, 1)])
def test_a_weight_is_visits_an_epoch_and_fair_over_epochs(weight: float, visits: int) -> None:
    counts, weights = [7, 10], [1.0, weight]
    assert visits_per_epoch(counts, weights) == [7, visits]
    seen = np.zeros(17, int)
    for epoch in range(12):
        rows = visited_rows(counts, weights, 0, epoch, np.arange(7 + visits))
        seen += np.bincount(rows, minlength=17)
        assert (seen[:7] == epoch + 1).all()
        assert seen[7:].sum() == (epoch + 1) * visits
        assert seen[7:].max() - seen[7:].min() <= 1


def test_visits_depend_on_the_slot_alone() -> None:
    whole = visited_rows([7, 10], [0.5, 2.5], 0, 3, np.arange(29))
    some = np.array([28, 3, 11, 4])
    np.testing.assert_array_equal(visited_rows([7, 10], [0.5, 2.5], 0, 3, some), whole[some])


def test_streams_of_other_names_give_other_permutations() -> None:
    first, second = (permuted(500, RandomStream(0, name), np.arange(500)) for name in ("a", "b"))
    assert np.count_nonzero(first == second) < 12
