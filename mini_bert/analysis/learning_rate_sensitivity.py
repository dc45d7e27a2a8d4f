"""How much does the final loss depend on the learning rate, where is it lowest, and how wide is the valley?

Trials are trainings that differ in rate and seed alone. With x = log η and ℓ the final held-out loss, each seed s has
its own optimum, the vertex of the parabola through its lowest trial and the two beside it:

    x_s = x₁ − ((x₁ − x₀)² (ℓ₁ − ℓ₂) − (x₁ − x₂)² (ℓ₁ − ℓ₀)) / (2 ((x₁ − x₀)(ℓ₁ − ℓ₂) − (x₁ − x₂)(ℓ₁ − ℓ₀)))
    optimum = exp(mean of x_s), with Student's interval over seeds, in factors

The valley is where the mean loss over seeds, as straight lines in x, is within `LEVEL` nats of its lowest point. A grid
whose lowest trial is its first or last does not bracket the optimum: the optimum then lies at that end or beyond, and
is not given. A rate with which any seed diverged has no mean loss; it is a wall for the valley and for the bracket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.interval import UNKNOWN, Interval
from mini_bert.metrics.paired_seeds import paired_mean

LEVEL = 0.05
"""Nats above the lowest mean loss that count as the same."""


class AtRate(NamedTuple):
    """All trials of one rate."""

    lr: float
    losses: dict[int, float]
    """By seed, nats; those that diverged are not here."""
    diverged: int
    mean: float | None
    """None where a seed diverged."""
    interval: Interval | None
    """95 %, Student's, over seeds; None for fewer than two."""


class Valley(NamedTuple):
    """The rates whose mean loss is within `LEVEL` of the lowest."""

    low: float
    high: float
    factor: float
    """high / low"""
    low_open: bool
    """Whether it goes on below the grid."""
    high_open: bool
    """The same above; diverged trials end it, somewhere between `high` and theirs."""


class Sensitivity(NamedTuple):
    """What a grid of rates says."""

    rates: list[AtRate]
    """From the lowest rate to the highest."""
    best: float | None
    """The rate of the grid with the lowest mean loss; None where all diverged."""
    best_loss: float | None
    optimum: float | None
    """Between the rates of the grid; None where the grid does not bracket it."""
    interval: Interval | None
    """95 %, of the optimum; None for fewer than two seeds, where all seeds have it at one rate of the grid (beside one
    that diverged), and where there is none."""
    valley: Valley | None
    bracketed: bool
    message: str
    """All of it in a sentence or two."""


def analyze_learning_rate_sensitivity(trials: Sequence[Mapping[str, Any]]) -> Sensitivity:
    """Optimum, its interval and the width of the valley, from the trials of a grid of rates.

    Args:
        trials: each with `lr`, `seed`, `loss` (final, held out, nats) and `diverged`; a loss that is None or not finite
            has diverged. Every rate must have been tried with the same seeds.

    Raises:
        InvalidInputError: fewer than three rates, a rate that is not above 0, a trial twice, or one that is missing.
    """
    rates = [_at_rate(lr, found) for lr, found in sorted(_by_rate(trials).items())]
    finite = [(number, rate.mean) for number, rate in enumerate(rates) if rate.mean is not None]
    if not finite:
        return Sensitivity(rates, None, None, None, None, None, False, "Every rate diverged: try lower ones.")
    best, best_loss = min(finite, key=lambda entry: entry[1])
    optimum, interval = _optimum(rates)
    bracketed = _between(rates, best) and optimum is not None
    if not bracketed:
        optimum = interval = None
    valley = _valley(rates, best, best_loss)
    found = Sensitivity(rates, rates[best].lr, best_loss, optimum, interval, valley, bracketed, "")
    return found._replace(message=_message(found))


def trials_of_study(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trials of a study's result over a grid of `train.lr`, as `analyze_learning_rate_sensitivity` wants them.

    Raises:
        InvalidInputError: a trial that is over does not say its rate.
    """
    trials = []
    for trial in study["trials"]:
        if trial["status"] not in ("done", "diverged"):
            continue
        settings = trial["settings"]
        lr = settings.get("train.lr", settings.get("train", {}).get("lr"))
        if lr is None:
            raise InvalidInputError("trials", got=f"{trial['piece']!r} without train.lr", expected="a grid of train.lr")
        diverged = trial["status"] == "diverged"
        trials.append({"lr": float(lr), "seed": trial["seed"], "loss": trial["loss"], "diverged": diverged})
    return trials


def _by_rate(trials: Sequence[Mapping[str, Any]]) -> dict[float, dict[int, float]]:
    """Rate → seed → loss, infinite where the trial diverged."""
    table: dict[float, dict[int, float]] = {}
    for trial in trials:
        lr, seed, loss = float(trial["lr"]), int(trial["seed"]), trial["loss"]
        if not (lr > 0.0 and math.isfinite(lr)):
            raise InvalidInputError("lr", got=lr, expected="a number above 0")
        if seed in table.setdefault(lr, {}):
            raise InvalidInputError("trials", got=f"lr {lr:g} with seed {seed} twice", expected="each once")
        lost = trial.get("diverged", False) or loss is None or not math.isfinite(loss)
        table[lr][seed] = math.inf if lost else float(loss)
    if len(table) < 3:
        raise InvalidInputError("trials", got=f"{len(table)} rates", expected="at least three rates")
    seeds = set().union(*table.values())
    for lr, losses in table.items():
        if missing := seeds - losses.keys():
            raise InvalidInputError("trials", got=f"none of lr {lr:g} with seed {min(missing)}", expected="all seeds")
    return table


def _at_rate(lr: float, found: Mapping[int, float]) -> AtRate:
    losses = {seed: loss for seed, loss in sorted(found.items()) if math.isfinite(loss)}
    diverged = len(found) - len(losses)
    if diverged:
        return AtRate(lr, losses, diverged, None, None)
    values = list(losses.values())
    mean = paired_mean(values, [0.0] * len(values))
    return AtRate(lr, losses, 0, fmean(values), None if mean.interval == UNKNOWN else mean.interval)


def _between(rates: Sequence[AtRate], best: int) -> bool:
    return 0 < best < len(rates) - 1


def _optimum(rates: Sequence[AtRate]) -> tuple[float | None, Interval | None]:
    """The optimum and its interval; None where one seed's lowest trial is at an end of the grid."""
    seeds = sorted(set().union(*(rate.losses for rate in rates)))
    vertices = [_vertex([(math.log(rate.lr), rate.losses.get(seed, math.inf)) for rate in rates]) for seed in seeds]
    known = [vertex for vertex in vertices if vertex is not None]
    if len(known) < len(vertices) or not known:
        return None, None
    if len(set(known)) == 1:
        return math.exp(known[0]), None
    mean = paired_mean(known, [0.0] * len(known))
    return math.exp(mean.mean), Interval(math.exp(mean.interval.low), math.exp(mean.interval.high))


def _vertex(points: Sequence[tuple[float, float]]) -> float | None:
    """Where the parabola through the lowest point and its neighbours is lowest; None at the ends of the points.

    Beside a trial that diverged there is no parabola, and the lowest point stands for it.
    """
    at = min(range(len(points)), key=lambda number: points[number][1])
    if not 0 < at < len(points) - 1:
        return None
    (x0, y0), (x1, y1), (x2, y2) = points[at - 1 : at + 2]
    if not (math.isfinite(y0) and math.isfinite(y2)):
        return x1
    before, behind = (x1 - x0) * (y1 - y2), (x1 - x2) * (y1 - y0)
    if before == behind:  # three losses alike
        return x1
    return x1 - ((x1 - x0) * before - (x1 - x2) * behind) / (2 * (before - behind))


def _valley(rates: Sequence[AtRate], best: int, lowest: float) -> Valley:
    low, low_open = _edge(rates[best::-1], lowest + LEVEL)
    high, high_open = _edge(rates[best:], lowest + LEVEL)
    return Valley(low, high, high / low, low_open, high_open)


def _edge(rates: Sequence[AtRate], level: float) -> tuple[float, bool]:
    """Where the mean loss first crosses `level`, going outward; the last rate, and True, where it does not."""
    for inner, outer in pairwise(rates):
        if outer.mean is None:  # it diverged: the edge lies between, and this much is sure
            return inner.lr, False
        if outer.mean > level:
            assert inner.mean is not None
            share = (level - inner.mean) / (outer.mean - inner.mean)
            return inner.lr * (outer.lr / inner.lr) ** share, False
    return rates[-1].lr, True


def _message(found: Sensitivity) -> str:
    valley = found.valley
    assert valley is not None
    if found.optimum is not None:
        about = f"The loss is lowest at a rate of {found.optimum:.2g}"
        if found.interval is not None:
            about += f" ({found.interval.low:.2g} to {found.interval.high:.2g})"
    elif found.best in (found.rates[0].lr, found.rates[-1].lr):
        side = "lower" if found.best == found.rates[0].lr else "higher"
        about = f"The grid does not bracket the optimum: {found.best:.2g}, the best, is its end. Try {side} rates"
    else:
        about = "The grid does not bracket the optimum of every seed. Try lower and higher rates"
    least = " at least" if valley.low_open or valley.high_open else ""
    return f"{about}. Rates within {LEVEL:g} nats of the lowest loss span{least} a factor of {valley.factor:.1f}."
