"""How random is the order of the rows? Its statistics beside what a random permutation has, with the chance of that.

A permutation of n rows is judged by sums whose mean and variance over all permutations are known exactly: sums of
a(position, row) (Hoeffding 1951, "A combinatorial central limit theorem"), products of neighbours (Wald and Wolfowitz
1943, "An exact test for randomness in the non-parametric case based on serial correlation"), and counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import sample_numbers
from mini_bert.reports.table import Table
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

LEAST_P = 1e-5
"""A fair order falls below it in one of a thousand runs of the whole experiment."""
_EPOCHS = 4
_BINS = 16
_SHARDS = 16
_BATCH = 64
_GRID = 400
"""Sizes above it are judged with the variance of a grid of this size, scaled."""


class Moments(NamedTuple):
    """Mean and variance of a statistic of one random permutation."""

    mean: float
    variance: float


class Judged(NamedTuple):
    """A statistic, averaged over permutations; what is expected; and how likely so much of a difference is."""

    found: float
    expected: float
    p: float


def quality(scale: Scale, folder: Path) -> Outcome:
    """Compare orders of 5 to a million rows, of many seeds and epochs, with random permutations in eight statistics."""
    outcome, lines, least, low = Outcome(), [], 1.0, 0
    sizes = (5, 24, 1000, 20_000) if scale.quick else (5, 6, 10, 24, 100, 1000, 4097, 65_536, 100_000, 1_000_000)
    for number, n_rows in enumerate(sizes):
        seeds = max(scale.of(full=10, quick=2), scale.of(full=200_000, quick=20_000) // n_rows // _EPOCHS)
        judged = judge(n_rows, min(seeds, 1000))
        for name, one in judged.items():
            sentence = f"{n_rows} rows: {name} {one.found:.6g} instead of {one.expected:.6g}, p = {one.p:.2g}"
            outcome.count(one.p >= LEAST_P, sentence)
            least, low = min(least, one.p), low + (one.p < 0.05)
        lines.append({"rows": n_rows, "orders": min(seeds, 1000) * _EPOCHS} | {k: [*v] for k, v in judged.items()})
        scale.told(number + 1, len(sizes))
    outcome.measured = {"smallest_p": least, "share_of_p_below_0.05": low / outcome.tried, "table": lines}
    return outcome


def judge(n_rows: int, seeds: int) -> dict[str, Judged]:
    """Every statistic of the orders of these seeds, four epochs each."""
    positions = np.arange(n_rows)
    sums = _sums(n_rows)
    found: dict[str, list[float]] = {name: [] for name in sums}
    places = np.zeros((min(_BINS, n_rows),) * 2)
    between, same, orders = [], [], 0
    for seed in range(seeds):
        before: NDArray[np.int64] | None = None
        for epoch in range(_EPOCHS):
            rows = sample_numbers(n_rows, seed, epoch, positions)
            np.add.at(places, (positions * len(places) // n_rows, rows * len(places) // n_rows), 1)
            for name, (statistic, _) in sums.items():
                found[name].append(statistic(rows))
            if before is not None:
                between.append(float(np.corrcoef(before, rows)[0, 1]))
                same.append(float(np.count_nonzero(before == rows)))
            before, orders = rows, orders + 1
    judged = {"uniformity": _uniformity(places, orders, n_rows)}
    judged |= {name: _judged(found[name], moments) for name, (_, moments) in sums.items()}
    judged["correlation of epochs"] = _judged(between, Moments(0.0, 1 / (n_rows - 1)))
    judged["rows in the same place"] = _judged(same, Moments(1.0, 1.0))
    return judged


def _sums(n_rows: int) -> dict[str, tuple[Callable[[NDArray[np.int64]], float], Moments]]:
    """Statistics of one order, with their moments."""
    positions, near = np.arange(n_rows), n_rows / 10
    sums: dict[str, tuple[Callable[[NDArray[np.int64]], float], Moments]] = {
        "displacement": (
            lambda rows: float(np.abs(rows - positions).mean() / n_rows),
            Moments((n_rows**2 - 1) / (3 * n_rows**2), (n_rows + 1) * (2 * n_rows**2 + 7) / 45 / n_rows**4),
        ),
        "displaced by a tenth": (
            lambda rows: float(np.count_nonzero(np.abs(rows - positions) < near) / n_rows),
            _of_band(n_rows, near),
        ),
        "neighbours": (
            lambda rows: float(np.count_nonzero(np.abs(np.diff(rows)) == 1) / (n_rows - 1)),
            _of_neighbours(n_rows),
        ),
        "serial correlation": (_serial, _of_serial(n_rows)),
    }
    if n_rows >= _SHARDS * _BATCH:
        sums["shards in a batch"] = (_shards, _of_shards(n_rows))
    return sums


def _of_band(n_rows: int, width: float) -> Moments:
    """The share of rows that are displaced by less than `width`."""
    size = min(n_rows, _GRID)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    inside = (distance < width * size / n_rows).astype(float)
    centred = inside - inside.mean(axis=0) - inside.mean(axis=1)[:, None] + inside.mean()
    variance = (centred**2).sum() / (size - 1) / size**2 * size / n_rows
    steps = np.arange(1, math.ceil(width))
    return Moments(float(n_rows + 2 * (n_rows - steps).sum()) / n_rows**2, variance)


def _of_neighbours(n: int) -> Moments:
    """The share of neighbouring rows that stay neighbours: 2 / n, and nearly a Poisson number of them."""
    mean = 2 * (n - 1) / n
    variance = 4 * (n - 2) ** 2 / (n * (n - 1)) + mean - mean**2
    return Moments(mean / (n - 1), variance / (n - 1) ** 2)


def _serial(rows: NDArray[np.int64]) -> float:
    """Correlation of a row's number with that of the next; the last one's next is the first."""
    centred = rows - (len(rows) - 1) / 2
    return float(centred @ np.roll(centred, -1) / (centred @ centred))


def _of_serial(n: int) -> Moments:
    x = (np.arange(n) - (n - 1) / 2) / n
    s2, s4 = float((x**2).sum()), float((x**4).sum())
    mean = -s2 / (n - 1)
    variance = (s2**2 - s4) / (n - 1) + (s2**2 - 2 * s4) / ((n - 1) * (n - 2)) - mean**2
    return Moments(mean / s2, variance / s2**2)


def _shards(rows: NDArray[np.int64]) -> float:
    """How many of 16 equal stretches of rows a batch of 64 comes from, on the mean over the batches."""
    n = len(rows)
    batches = rows[: n // _BATCH * _BATCH].reshape(-1, _BATCH) * _SHARDS // n
    there = np.zeros((len(batches), _SHARDS), bool)
    there[np.arange(len(batches))[:, None], batches] = True
    return float(there.sum(axis=1).mean())


def _of_shards(n: int) -> Moments:
    """A stretch is missed with the chance of drawing 64 rows from the others; batches count as independent."""
    shard = np.bincount(np.arange(n) * _SHARDS // n, minlength=_SHARDS)

    def missed(rows: int) -> float:
        others = n - rows
        ways = (
            math.lgamma(others + 1)
            - math.lgamma(others - _BATCH + 1)
            - math.lgamma(n + 1)
            + math.lgamma(n - _BATCH + 1)
        )
        return math.exp(ways)

    one = np.array([missed(int(size)) for size in shard])
    both = np.array([[missed(int(a + b)) for b in shard] for a in shard])
    np.fill_diagonal(both, one)
    return Moments(_SHARDS - one.sum(), float((both - np.outer(one, one)).sum()) / (n // _BATCH))


def _uniformity(places: NDArray[np.float64], orders: int, n: int) -> Judged:
    """Chi-square of how often rows of each sixteenth stood in each sixteenth of the positions, by degree of freedom."""
    size = np.bincount(np.arange(n) * len(places) // n).astype(float)
    expected = orders * np.outer(size, size) / n
    chi_square = float(((places - expected) ** 2 / expected).sum()) * (n - 1) / n
    freedom = (len(places) - 1) ** 2
    spread = math.sqrt(2 / (9 * freedom))  # Wilson and Hilferty 1931: the cube root is nearly normal
    return Judged(chi_square / freedom, 1.0, _two_sided(((chi_square / freedom) ** (1 / 3) - 1 + spread**2) / spread))


def _judged(found: list[float], moments: Moments) -> Judged:
    mean = math.fsum(found) / len(found)
    return Judged(mean, moments.mean, _two_sided((mean - moments.mean) / math.sqrt(moments.variance / len(found))))


def _two_sided(deviations: float) -> float:
    """The chance of a normal number that lies so many standard deviations from its mean, or more."""
    return math.erfc(abs(deviations) / math.sqrt(2))


def table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """The table that `quality` measured, for the page on data."""
    names = {
        "displacement": ("mean displacement / n", "{:.4f}"),
        "neighbours": ("neighbours that stay, times n", "{:.2f}"),
        "serial correlation": ("correlation of neighbours", "{:+.5f}"),
        "correlation of epochs": ("correlation of epochs", "{:+.5f}"),
        "shards in a batch": (f"shards of {_SHARDS} in a batch of {_BATCH}", "{:.3f}"),
    }
    rows = []
    for line in lines:
        cells = []
        for name, (_, shown) in names.items():
            found, expected, _ = line.get(name, (None, None, None))
            factor = line["rows"] if name == "neighbours" else 1
            cells.append("" if found is None else f"{shown} ({shown})".format(found * factor, expected * factor))
        least = min(value[2] for value in line.values() if isinstance(value, list))
        rows.append((f"{line['rows']:,}", f"{line['orders']:,}", *cells, f"{least:.2g}"))
    columns = ("rows n", "orders", *(title for title, _ in names.values()), "smallest p")
    return Table(
        "The order of rows beside a random permutation's",
        columns,
        tuple(rows),
        ("In brackets: what random permutations have on average. p: the chance that they are as far from it.",),
    )


EXPERIMENTS = (
    Experiment(
        "R14",
        "quality of the order: displacement, neighbours, correlations, spread of a batch over shards",
        f"no statistic off by more than chance allows (p under {LEAST_P:g})",
        quality,
    ),
)
