"""What would one have noticed? The numbers with a bug beside those without it, as a sentence."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

OFF = 1e-9
"""Relative error from which a gradient or a result is off; right ones are below 1e-12."""

USUAL_NOISE = 0.05
"""Standard deviation of the last held-out loss over seeds, rounded up from what `hunt` finds, where one seed is run."""

DEVIATIONS = 3.0
"""A held-out loss that is so many standard deviations from the one without the bug is not the seed's doing."""

_LONGEST = 90
"""Characters of an error message that a sentence bears."""

Errors = dict[str, float | str]
"""Name → relative error (infinite where it is no number), or what stopped the measurement; the largest first."""


class Seen(NamedTuple):
    """What there is to see, each in its own words."""

    loss: str
    gradients: str
    results: str

    def __str__(self) -> str:
        sentence = "; ".join(part for part in self if part)
        return f"{sentence[0].upper()}{sentence[1:]}."


def seen(without: Mapping[str, Any], with_: Mapping[str, Any], noise: float) -> Seen:
    """Compare two measurements of the same seed.

    Args:
        without: the measurement with no bug.
        with_: the one with the bug.
        noise: standard deviation of the last held-out loss over seeds.
    """
    if "crash" in with_:
        return Seen(f"the process ends with {with_['crash']}", "", "")
    loss = _loss(without["training"], with_["training"], noise)
    gradients, results = gradient_errors(with_), result_errors(with_)
    if not gradients and not results:
        return Seen(loss, "gradients and results are right", "")
    return Seen(loss, _gradients(gradients), _results(results))


def gradient_errors(measured: Mapping[str, Any]) -> Errors:
    """Parameters whose gradient is off; operations only where no parameter of the model shows it."""
    errors: Errors = {}
    for check, of_check in measured["model"]["gradients"].items():
        if isinstance(of_check, str):
            errors[f"the {check} check"] = of_check
            continue
        for name, error in of_check.items():
            known = errors.get(name, 0.0)
            errors[name] = max(_number(error), known if isinstance(known, float) else 0.0)
    of_model = _off(errors)
    return of_model or _off(
        {name: error if isinstance(error, str) else error["gradient"] for name, error in measured["operations"].items()}
    )


def result_errors(measured: Mapping[str, Any]) -> Errors:
    """Operations whose result is not that of the definition; parts of the model only where no operation shows it."""
    operations = {
        name: error if isinstance(error, str) else error["definition"] for name, error in measured["operations"].items()
    }
    return _off(operations) or _off(measured["model"]["results"])


def noise_of(measurements: Iterable[Mapping[str, Any]]) -> float:
    """Standard deviation of the last held-out loss over the measurements without a bug."""
    return statistics.stdev(last_held_out(measured["training"]) or 0.0 for measured in measurements)


def last_held_out(training: Mapping[str, Any]) -> float | None:
    """The last held-out loss; None where there is none, or where it is no number."""
    return training["held_out"][-1][1] if training["held_out"] else None


def _off(errors: Mapping[str, float | str | None]) -> Errors:
    known = {name: error if isinstance(error, str) else _number(error) for name, error in errors.items()}
    large = {name: error for name, error in known.items() if isinstance(error, str) or error > OFF}
    return dict(sorted(large.items(), key=lambda item: -item[1] if isinstance(item[1], float) else -float("inf")))


def _number(error: float | None) -> float:
    return float("inf") if error is None else float(error)


def _loss(without: Mapping[str, Any], with_: Mapping[str, Any], noise: float) -> str:
    steps = without["steps"][-1]
    if with_["stopped"] and not with_["losses"]:
        return f"training does not begin: {with_['stopped']}"
    if with_["stopped"] and with_["steps"] != without["steps"]:
        return f"training stops after step {with_['steps'][-1]}: {with_['stopped']}"
    parts = []
    first, usual = with_["losses"][0], without["losses"][0]
    if first is None:
        parts.append("training begins with a loss that is no number")
    elif abs(first - usual) > 0.1 * usual:
        parts.append(f"training begins at a loss of {first:.2f} instead of {usual:.2f}")
    finite = [loss for loss in with_["losses"] if loss is not None]
    if first is not None and min(finite) > 0.97 * first:
        parts.append(f"training loss does not fall ({first:.2f}, and {finite[-1]:.2f} at the end)")
    end, right = last_held_out(with_), last_held_out(without)
    assert right is not None
    if end is None:
        parts.append(f"held-out loss is no number after {steps} steps")
    elif with_["losses"] == without["losses"] and with_["held_out"] == without["held_out"]:
        parts.append("training is the same to the last digit")
    elif abs(end - right) <= DEVIATIONS * noise:
        parts.append(f"loss as good as without ({end:.2f} on held-out text, {right:.2f} without)")
    else:
        verdict = ", too good to be true" if end < right else ""
        parts.append(f"held-out loss {end:.2f} instead of {right:.2f} after {steps} steps{verdict}")
    if with_["stopped"]:
        parts.append(f"going on from a checkpoint fails: {with_['stopped']}")
    elif with_["same_bits"] is False and without["same_bits"]:
        pairs = zip(with_["resumed"], with_["losses"][-len(with_["resumed"]) :], strict=False)
        gap = max((abs(one - other) for one, other in pairs if one is not None and other is not None), default=0.0)
        parts.append(f"a run that was resumed goes another way, by up to {gap:.2g} nats")
    return ", ".join(parts)


def _gradients(errors: Errors) -> str:
    if not errors:
        return "gradients agree with the wrong forward pass"
    (worst, error), others = next(iter(errors.items())), len(errors) - 1
    more = f", as are {others} more" if others > 1 else ", as is one more" if others else ""
    return f"gradient of {worst} {_by(error)}{more}"


def _results(errors: Errors) -> str:
    if not errors:
        return "results are right"
    worst, error = next(iter(errors.items()))
    others = len(errors) - 1
    more = f" and {others} more" if others > 1 else " and one more" if others else ""
    beside = " beside the definition" if isinstance(error, float) and error < float("inf") else ""
    return f"{worst} {_by(error)}{beside}{more}"


def _by(error: float | str) -> str:
    if isinstance(error, str):
        return f"fails ({error if len(error) <= _LONGEST else error[:_LONGEST] + ' …'})"
    if error == float("inf"):
        return "is no number"
    return f"off by {percent(error)}"


def percent(error: float) -> str:
    """A relative error in as many digits as it is worth.

    >>> percent(0.714), percent(0.0123), percent(3e-8)
    ('71 %', '1.2 %', '3e-08')
    """
    return f"{100 * error:.0f} %" if error >= 0.095 else f"{100 * error:.1f} %" if error >= 1e-3 else f"{error:.0e}"


def chart(curves: Mapping[str, Sequence[tuple[float, float]]], width: int = 64, height: int = 14) -> list[str]:
    """Curves as lines of text, one mark each, the first on top of the others; points are (step, loss).

    >>> print(*chart({"o": [(0, 2.0), (9, 1.0)]}, 10, 2), sep="\\n")
     2.00 │o
     1.00 │         o
          └──────────
    """
    points = [point for curve in curves.values() for point in curve]
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    canvas = [[" "] * width for _ in range(height)]
    for mark, curve in reversed(curves.items()):
        for step, loss in curve:
            column = round((step - left) / ((right - left) or 1) * (width - 1))
            row = round((high - loss) / ((high - low) or 1) * (height - 1))
            canvas[row][column] = mark
    labels = [f"{high - (high - low) * row / max(height - 1, 1):5.2f}" for row in range(height)]
    return [f"{label} │{''.join(line).rstrip()}" for label, line in zip(labels, canvas, strict=True)] + [
        f"      └{'─' * width}"
    ]
