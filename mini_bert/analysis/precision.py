"""How far is a pass in a narrow format from the exact one, and which operation is to blame?

The exact pass is that in float64. For each named intermediate x, with x̂ its narrow counterpart:

    own        error of rounding the exact x: what this one rounding costs                    (PREC.1)
    inherited  error of the operation's result before it is rounded: what came in, as the
               operation passes it on, and what rounded parameters add                        (PREC.2)
    error      of x̂ itself, after rounding                                                    (PREC.3)
    growth     inherited / the largest error among the operation's inputs                     (PREC.4)
    alone      error at the logits when x is the only thing that is rounded at all            (PREC.5)

Errors are ‖x̂ − x‖ / ‖x‖; beside them, |x̂ − x| is measured in ULPs of the format at x, element by element where x is not
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mini_bert.analysis.dataflow import inputs_of, operation_of
from mini_bert.analysis.narrow_pass import (
    Forward,
    Recording,
    backward,
    forward,
    loss,
    rounding_tap,
    with_rounded_parameters,
)
from mini_bert.analysis.rounding import Damage, Format, damage, relative_error, rounded, ulp
from mini_bert.batch import Batch
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.attention import MASKED_SCORE
from mini_bert.ops.contract import Array, Tap, identity

_TRUE_ZERO = 1e-10
"""Of the largest tensor norm: a gradient below this is zero in exact arithmetic."""


class Ulps(NamedTuple):
    """|x̂ − x| in units in the last place, over elements."""

    median: float
    most: float
    """99 % of the elements are within this."""
    largest: float


class Point(NamedTuple):
    """One named intermediate, or the gradient with respect to it."""

    name: str
    operation: str
    largest: float
    """max |x|, exact"""
    own: float
    inherited: float
    error: float
    growth: float | None
    """None where nothing but parameters comes in, and in the backward pass."""
    ulps: Ulps
    damage: Damage

    @property
    def broken(self) -> bool:
        """Whether something here is infinite or NaN."""
        return not np.isfinite(self.error)


class TensorError(NamedTuple):
    """The gradient of one parameter tensor."""

    name: str
    norm: float
    """‖g‖, exact"""
    true_zero: bool
    """The exact gradient is nothing but rounding, as that of b_K is: softmax does not see a shift."""
    error: float
    """‖ĝ − g‖ / ‖g‖; 0 where the exact gradient is truly zero."""
    lost: float
    """Share of the elements whose exact gradient is not zero and whose narrow one is."""


@dataclass(frozen=True)
class Exact:
    """The pass in float64 that all others are compared with."""

    model: MiniBERT
    batch: Batch
    forward: dict[str, Array]
    backward: dict[str, Array]
    gradients: Parameters
    loss: float
    """Mean over the masked tokens, nats."""
    dlogits_MV: Array

    @classmethod
    def of(cls, model: MiniBERT, batch: Batch) -> Exact:
        """Run `model`, which is float64, on a batch with masks and targets."""
        assert batch.target_ids is not None
        up, down = Recording(), Recording()
        done = forward(model, batch, up)
        mean_loss, dlogits_MV = loss(done.logits_MV, batch.target_ids)
        gradients = Parameters(model.config, model.dtype)
        backward(model, done, dlogits_MV, gradients, down)
        return cls(model, batch, up.after, down.after, gradients, mean_loss, dlogits_MV)


@dataclass(frozen=True)
class Narrow:
    """The same pass in a narrow format, beside the exact one."""

    format: Format
    model: MiniBERT
    """With its parameters rounded."""
    done: Forward
    forward: list[Point]
    backward: list[Point]
    gradients: list[TensorError]
    loss: float
    same_best: float
    """Share of the masked positions at which the same piece is scored best."""


def narrow_pass(exact: Exact, format: Format, tap: Tap | None = None) -> Narrow:
    """The pass of `exact` in `format`, forward and backward, loss not scaled.

    Args:
        exact: what to compare with.
        format: of parameters, intermediates and gradients.
        tap: what to do with each intermediate of the forward pass; by default, round it.
    """
    model, batch = with_rounded_parameters(exact.model, format), exact.batch
    assert batch.target_ids is not None
    up, down = Recording(tap or rounding_tap(format)), Recording(rounding_tap(format))
    done = forward(model, batch, up)
    mean_loss, dlogits_MV = loss(done.logits_MV, batch.target_ids)
    gradients = Parameters(model.config, model.dtype)
    backward(model, done, dlogits_MV, gradients, down)
    best, exact_best = (logits.argmax(axis=-1) for logits in (done.logits_MV, exact.forward["logits"]))
    return Narrow(
        format,
        model,
        done,
        _points(exact.forward, up.before, up.after, format, model.config.num_hidden_layers),
        _points(exact.backward, down.before, down.after, format, None),
        tensor_errors(rounded(gradients.buffer, format), exact.gradients),
        mean_loss,
        float(np.mean(best == exact_best)),
    )


def native_points(exact: Exact, format: Format) -> list[Point]:
    """The forward pass as NumPy itself computes it in the dtype of `format`: its sums are no wider than the rest."""
    model = MiniBERT.from_parameters(
        Parameters(exact.model.config, buffer=exact.model.parameters.buffer.astype(format.name))
    )
    up = Recording()
    forward(model, exact.batch, up)
    wide = {name: array.astype(np.float64) for name, array in up.after.items()}
    return _points(exact.forward, wide, wide, format, model.config.num_hidden_layers)


def alone(
    exact: Exact, format: Format, names: Sequence[str] | None = None, told: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """Name → error at the logits when only this intermediate is rounded; `parameters` → when only these are.

    `told` hears how many of how many passes are done.
    """
    exact_logits = exact.forward["logits"]
    names = list(exact.forward) if names is None else list(names)
    rounded_model = with_rounded_parameters(exact.model, format)
    errors = {"parameters": relative_error(forward(rounded_model, exact.batch, identity).logits_MV, exact_logits)}
    for done, name in enumerate(names, start=1):
        logits = forward(exact.model, exact.batch, rounding_tap(format, only=name)).logits_MV
        errors[name] = relative_error(logits, exact_logits)
        if told:
            told(done, len(names))
    return errors


def first_broken(points: Sequence[Point]) -> Point | None:
    """The first intermediate, in order of computation, that is no longer finite."""
    return next((point for point in points if point.broken), None)


def tensor_errors(gradient: Array, exact: Parameters) -> list[TensorError]:
    """Error of each parameter's gradient in the flat vector `gradient`."""
    narrow = Parameters(exact.config, buffer=gradient)
    norms = {name: float(np.linalg.norm(exact[name])) for name in exact}
    zero = _TRUE_ZERO * max(norms.values())
    return [
        TensorError(
            name,
            norms[name],
            norms[name] <= zero,
            relative_error(narrow[name], exact[name]) if norms[name] > zero else 0.0,
            float(np.mean(narrow[name][exact[name] != 0] == 0)) if norms[name] > zero else 0.0,
        )
        for name in exact
    ]


def _points(
    exact: dict[str, Array], before: dict[str, Array], after: dict[str, Array], format: Format, layers: int | None
) -> list[Point]:
    """One point a name, in the order of `after`; with the number of `layers`, growth is measured too."""
    points: list[Point] = []
    errors: dict[str, float] = {}
    with np.errstate(all="ignore"):
        for name in exact:
            x, unrounded, narrow = _computed(name, exact[name], before[name], after[name])
            inherited, error = relative_error(unrounded, x), relative_error(narrow, x)
            inputs = [errors[other] for other in inputs_of(name, layers)] if layers is not None else []
            largest_input = max(inputs, default=0.0)
            errors[name] = error
            points.append(
                Point(
                    name,
                    operation_of(name),
                    float(np.abs(x).max()),
                    relative_error(rounded(x, format), x),
                    inherited,
                    error,
                    inherited / largest_input if 0 < largest_input < np.inf else None,
                    _in_ulps(narrow, x, format),
                    damage(unrounded, narrow, format),
                )
            )
    return points


def _computed(name: str, exact: Array, *others: Array) -> tuple[Array, ...]:
    """The elements that were computed: the score of a masked key is a constant, and −∞ is as good there as −10⁹."""
    if not name.endswith(".scores") or not (masked := exact == MASKED_SCORE).any():
        return exact, *others
    return tuple(array[~masked] for array in (exact, *others))


def _in_ulps(narrow: Array, exact: Array, format: Format) -> Ulps:
    there = exact != 0
    if not there.any():
        return Ulps(0.0, 0.0, 0.0)
    distances = np.abs(narrow - exact)[there] / ulp(exact[there], format)
    distances[np.isnan(distances)] = np.inf
    distances.sort()
    median, most = (float(distances[int(share * (len(distances) - 1))]) for share in (0.5, 0.99))
    return Ulps(median, most, float(distances[-1]))
