"""What is wrong with a gradient? The right one is known; in words, how does the other differ from it?

Each hypothesis says what the right gradient would have to be changed by to give the wrong one: a factor, a transpose, a
term that is missing. The first that explains the difference, all but a thousandth of it, is the answer; they are asked
in the order in which they are worth knowing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mini_bert.ops.contract import Array

_LEFT_UNEXPLAINED = 1e-3
"""Share of the difference that a hypothesis may leave over."""


class Context(NamedTuple):
    """What stood around when the gradient was made."""

    name: str
    """`dW`; or `output`."""
    arrays: Mapping[str, Array]
    """By name: inputs, array constants, `output` and `doutput`."""

    @property
    def sizes(self) -> dict[int, str]:
        """Lengths of axes, and numbers of rows, with where they come from; the first to have a size names it."""
        sizes: dict[int, str] = {}
        for name, array in self.arrays.items():
            for axis, length in enumerate(array.shape):
                sizes.setdefault(length, f"the size of axis {axis} of {name}")
            if array.ndim > 2:
                sizes.setdefault(math.prod(array.shape[:-1]), f"the number of rows of {name}")
            sizes.setdefault(array.size, f"the number of elements of {name}")
        return {length: where for length, where in sizes.items() if length > 1}


def explain(got: object, expected: Array, context: Context) -> str:
    """A sentence about how `got` differs from `expected`, as it would follow the name: `has the wrong sign`."""
    if not isinstance(got, np.ndarray | np.number | float | int) or isinstance(got, bool):
        return f"is {type(got).__name__}, not an array"
    array = np.asarray(got)
    if array.dtype.kind not in "fiu":
        return f"is an array of {array.dtype}, not of floats"
    if array.shape != expected.shape:
        return _about_shape(array, expected)
    if not np.isfinite(array).all():
        return _about_nan(array)
    if array.dtype != expected.dtype:
        return f"is {array.dtype} for {expected.dtype} inputs"
    for hypothesis in _HYPOTHESES:
        if sentence := hypothesis(array, expected, context):
            return sentence
    cosine = float((array * expected).sum() / (np.linalg.norm(array.ravel()) * np.linalg.norm(expected.ravel())))
    return f"is something else (its cosine to the right one is {cosine:.2f})"


# --- what can be seen without the numbers ---------------------------------------------------------------------------


def _about_shape(got: Array, expected: Array) -> str:
    should = f"shape {list(got.shape)}; it should have {list(expected.shape)}"
    if got.T.shape == expected.shape and _explains(got.T, expected):
        return f"is the transpose of what it should be: {should}"
    if got.size == expected.size and _explains(got.reshape(expected.shape), expected):
        return f"has the right numbers in the wrong shape: {should}"
    extra = got.ndim - expected.ndim
    if extra > 0 and got.shape[extra:] == expected.shape and _explains(got.sum(axis=tuple(range(extra))), expected):
        axes = "axis 0" if extra == 1 else f"axes 0 to {extra - 1}"
        return f"is not yet summed over {axes}: {should}"
    for axis in range(expected.ndim):
        for keep in (False, True):
            summed = expected.sum(axis=axis, keepdims=keep)
            if summed.shape == got.shape and _explains(got, summed):
                return f"is summed over axis {axis}, which it should not be: {should}"
    return f"has {should}"


def _about_nan(got: Array) -> str:
    wrong = ~np.isfinite(got)
    first = [int(i) for i in np.unravel_index(int(wrong.argmax()), got.shape)]
    others = f" and in {int(wrong.sum()) - 1} more places" if wrong.sum() > 1 else ""
    return f"is {got[tuple(first)]} at {first}{others}"


# --- hypotheses about the numbers -----------------------------------------------------------------------------------


def _explains(got: Array, hypothesis: Array, difference: Array | None = None) -> bool:
    """Whether `hypothesis` is `got`, but for a thousandth of the difference to the right gradient (or of `got`)."""
    scale = np.linalg.norm(np.ravel(got if difference is None else difference))
    return bool(np.linalg.norm(np.ravel(got - hypothesis)) <= _LEFT_UNEXPLAINED * scale)


def _zero(got: Array, expected: Array, context: Context) -> str:
    if not got.any():
        return "is zero everywhere; it should not be"
    if np.linalg.norm(expected.ravel()) <= 1e-9 * np.linalg.norm(got.ravel()):
        return "should be zero: nothing depends on it here"
    return ""


def _factor(got: Array, expected: Array, context: Context) -> str:
    factor = float((got * expected).sum() / (expected * expected).sum())
    if not _explains(got, factor * expected, got - expected):
        return ""
    if abs(factor + 1.0) < 1e-6:
        return "has the wrong sign"
    digits = f"{factor:.3f}" if abs(factor - 1.0) > 1e-3 else f"{factor:.12g}"
    return f"is {digits} times what it should be everywhere{_meaning(abs(factor), context.sizes)}"


def _meaning(factor: float, sizes: Mapping[int, str]) -> str:
    """Where a factor may come from."""

    def near(value: float) -> bool:
        return abs(factor / value - 1.0) < 1e-6

    guesses = ["counted twice"] * near(2.0) + ["counted half"] * near(0.5)
    for n, where in sizes.items():
        if near(1.0 / n):
            guesses.append(f"divided by {n}, {where}: a mean where the sum belongs")
        if near(math.sqrt(n)) or near(1.0 / math.sqrt(n)):
            verb = "multiplied" if factor > 1 else "divided"
            guesses.append(f"{verb} by the root of {n}, {where}: a scale missing, or there once too often")
        if near(n):
            guesses.append(f"multiplied by {n}, {where}: a sum where the mean belongs")
    return f" ({'; or '.join(guesses)}?)" if guesses else ""


def _transposed(got: Array, expected: Array, context: Context) -> str:
    if got.ndim < 2 or got.shape[-1] != got.shape[-2]:
        return ""
    swapped = expected.swapaxes(-1, -2)
    return "is the transpose of what it should be" if _explains(got, swapped, got - expected) else ""


def _known_factor(got: Array, expected: Array, context: Context) -> str:
    for name, array in _broadcastable(context, got):
        if _explains(got, expected * array, got - expected):
            return f"has the factor {name} once too often"
        if _explains(got * array, expected, got - expected):
            return f"lacks the factor {name}"
    return ""


def _known_term(got: Array, expected: Array, context: Context) -> str:
    difference = got - expected
    for name, array in _broadcastable(context, got):
        if not array.any():
            continue
        array = np.broadcast_to(array, got.shape)
        factor = float((difference * array).sum() / (array * array).sum())
        if _explains(difference, factor * array):
            times = "" if abs(abs(factor) - 1.0) < 1e-6 else f"{abs(factor):.3g} · "
            return f"{'has' if factor > 0 else 'lacks'} the term {times}{name}{' too much' if factor > 0 else ''}"
    return ""


def _broadcastable(context: Context, got: Array) -> Iterator[tuple[str, Array]]:
    for name, array in context.arrays.items():
        if name == context.name or array.dtype.kind != "f" or array.ndim == 0 or array.ndim > got.ndim:
            continue
        if all(mine in (theirs, 1) for mine, theirs in zip(array.shape[::-1], got.shape[::-1], strict=False)):
            yield name, array


def _only_where(got: Array, expected: Array, context: Context) -> str:
    wrong = _wrong(got, expected)
    for name, array in context.arrays.items():
        if array.shape != got.shape or array.dtype.kind != "f":
            continue
        for relation, condition in (("< 0", array < 0), ("> 0", array > 0), ("= 0", array == 0)):
            if condition.any() and not condition.all() and np.array_equal(wrong, condition):
                return f"is wrong where {name} {relation}, and only there{_in_part(got, expected, wrong, context)}"
    return ""


def _only_some(got: Array, expected: Array, context: Context) -> str:
    """Wrong in some rows, columns or entries, and right in the others."""
    wrong = _wrong(got, expected)
    if wrong.sum() == 1 and got.size > 1:
        place = [int(i) for i in np.unravel_index(int(wrong.argmax()), got.shape)]
        return f"is wrong at {place} only"
    places = []
    for axis, length in enumerate(got.shape):
        others = tuple(other for other in range(got.ndim) if other != axis)
        hit = np.flatnonzero(wrong.any(axis=others))
        if hit.size < length:
            places.append(f"{_listed(hit.tolist(), length)} of axis {axis}")
    if not places:
        return ""
    return f"is wrong in {' and '.join(places)} only{_in_part(got, expected, wrong, context)}"


def _wrong(got: Array, expected: Array) -> Array:
    difference = np.abs(got - expected)
    return np.asarray(difference > 1e-6 * difference.max())


def _in_part(got: Array, expected: Array, wrong: Array, context: Context) -> str:
    """What the wrong part looks like by itself, if that is simple."""
    for hypothesis in (_zero, _factor, _constant):
        if wrong.sum() > 1 and (sentence := hypothesis(got[wrong], expected[wrong], context)):
            return f": there it {sentence.replace(' everywhere; it should not be', '').replace(' everywhere', '')}"
    return ""


def _listed(indices: list[int], length: int) -> str:
    if len(indices) == 1:
        return f"index {indices[0]}"
    if indices == list(range(indices[0], indices[-1] + 1)):
        return f"indices {indices[0]} to {indices[-1]}" if indices[-1] < length - 1 else f"indices {indices[0]} and up"
    shown = ", ".join(map(str, indices[:6]))
    return f"indices {shown}{', …' if len(indices) > 6 else ''}"


def _constant(got: Array, expected: Array, context: Context) -> str:
    difference = got - expected
    if difference.size > 1 and _explains(difference, np.full_like(difference, difference.mean())):
        return f"is off by {difference.mean():.4g} everywhere"
    return ""


def _constant_along_an_axis(got: Array, expected: Array, context: Context) -> str:
    difference = got - expected
    for axis in reversed(range(got.ndim)):
        if got.shape[axis] < 2:
            continue
        mean = difference.mean(axis=axis, keepdims=True)
        if not _explains(difference, np.broadcast_to(mean, got.shape)):
            continue
        along = "the last axis" if axis == got.ndim - 1 else f"axis {axis}"
        sums = np.linalg.norm(np.ravel(expected.sum(axis=axis)))
        if sums <= 1e-6 * np.linalg.norm(expected.ravel()):
            return f"lacks a term that is constant along {along}: the one that makes it sum to 0 there (a mean?)"
        return f"is off by a term that is constant along {along}: a mean over it that is missing, or too much?"
    return ""


def _multiple_of_rows(got: Array, expected: Array, context: Context) -> str:
    """In every row the difference lies along a known array: what a projection that was left out looks like."""
    difference = got - expected
    for name, array in context.arrays.items():
        if array.shape != got.shape or array.dtype.kind != "f" or got.shape[-1] < 4:
            continue
        for shift, centred in (("", array), (" less its mean", array - array.mean(axis=-1, keepdims=True))):
            squares = (centred * centred).sum(axis=-1, keepdims=True)
            if not squares.all():
                continue
            along = (difference * centred).sum(axis=-1, keepdims=True) / squares
            if _explains(difference, along * centred):
                term = f"a sum over the last axis times {name}{shift}"
                return f"is off by a multiple of {name}{shift} in every row: {term} is missing, or there once too often"
    return ""


def _factor_along_an_axis(got: Array, expected: Array, context: Context) -> str:
    """Each row, or each column, off by a factor of its own."""
    for axis in range(got.ndim):
        others = tuple(other for other in range(got.ndim) if other != axis)
        if not others or got.shape[axis] < 2 or math.prod(got.shape[other] for other in others) < 2:
            continue
        squares = (expected * expected).sum(axis=others, keepdims=True)
        if not squares.all():
            continue
        factors = (got * expected).sum(axis=others, keepdims=True) / squares
        if _explains(got, factors * expected, got - expected):
            shown = ", ".join(f"{factor:.3g}" for factor in factors.ravel()[:4])
            more = ", …" if factors.size > 4 else ""
            return f"is off by a factor of its own for each index of axis {axis}: {shown}{more}"
    return ""


def _reordered(got: Array, expected: Array, context: Context) -> str:
    if got.size > 2 and _explains(np.sort(got, axis=None), np.sort(expected, axis=None), got - expected):
        return "has the right numbers in the wrong order (a reshape where a transpose belongs?)"
    return ""


_HYPOTHESES: tuple[Callable[[Array, Array, Context], str], ...] = (
    _zero,
    _factor,
    _transposed,
    _known_factor,
    _known_term,
    _only_where,
    _only_some,
    _constant,
    _constant_along_an_axis,
    _multiple_of_rows,
    _factor_along_an_axis,
    _reordered,
)
