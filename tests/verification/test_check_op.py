"""`check_op`: what does it say about operations that are wrong on purpose, and about those that are right?"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.ops import attention, embedding, layer_norm, linear, relu, softmax
from mini_bert.ops.contract import Array, Case
from mini_bert.verification import Verdict, check_op
from mini_bert.verification.gradient_check import operations
from mini_bert.verification.oracles.operations import ORACLES

RNG = np.random.default_rng(0)
X, W, B = RNG.normal(size=(4, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=3)
SQUARE = RNG.normal(size=(5, 5))


@pytest.mark.parametrize("name", sorted(operations()))
def test_our_own_operations_are_right(name: str) -> None:
    operation = operations()[name]

    def reference(*values: Array, **constants: Any) -> Any:
        lists = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in constants.items()}
        return ORACLES[name](*(value.tolist() for value in values), **lists)

    verdict = check_op(operation.forward, operation.backward, operation.CASES, reference=reference)
    assert verdict, str(verdict)
    assert not verdict.notes
    assert {rule for rule, _ in verdict.errors} == {"complex step"}
    assert str(verdict).startswith(f"{name}: right\n  right: d")


def changed(operation: ModuleType, change: Callable[..., Any]) -> Callable[..., Any]:
    """The operation's backward pass with something done to its gradients."""

    def backward(doutput: Array, saved: Any) -> Any:
        gradients = [np.array(gradient) for gradient in operation.backward(doutput, saved)]
        return change(gradients, doutput, saved)

    return backward


def only(place: int, change: Callable[[Array], Any]) -> Callable[..., Any]:
    """Change one of the gradients."""

    def of_all(gradients: list[Array], doutput: Array, saved: Any) -> tuple[Any, ...]:
        return tuple(change(gradient) if number == place else gradient for number, gradient in enumerate(gradients))

    return of_all


def no_mean(gradients: list[Array], dy: Array, saved: layer_norm.Saved) -> tuple[Array, ...]:
    dx, dgamma, dbeta = gradients
    return dx + saved.inverse_deviation * (dy * saved.gamma).mean(axis=-1, keepdims=True), dgamma, dbeta


def no_projection(gradients: list[Array], dy: Array, saved: layer_norm.Saved) -> tuple[Array, ...]:
    dx, dgamma, dbeta = gradients
    along = (dy * saved.gamma * saved.x_hat).mean(axis=-1, keepdims=True)
    return dx + saved.inverse_deviation * saved.x_hat * along, dgamma, dbeta


def no_gamma(gradients: list[Array], dy: Array, saved: layer_norm.Saved) -> tuple[Array, ...]:
    return layer_norm.backward(dy / saved.gamma, saved)[0], *gradients[1:]


def no_deviation(gradients: list[Array], dy: Array, saved: layer_norm.Saved) -> tuple[Array, ...]:
    return gradients[0] / saved.inverse_deviation, *gradients[1:]


def spoiled(index: Any, value: float) -> Callable[[Array], Array]:
    def change(gradient: Array) -> Array:
        gradient[index] = value
        return gradient

    return change


def scaled(index: Any, factor: float) -> Callable[[Array], Array]:
    def change(gradient: Array) -> Array:
        gradient[index] *= factor
        return gradient

    return change


def overwritten(dy: Array, saved: embedding.Saved) -> tuple[Array]:
    dE = np.zeros((saved.rows, dy.shape[-1]), dy.dtype)
    dE[saved.ids] = dy
    return (dE,)


NORM = (RNG.normal(size=(3, 8)), RNG.normal(size=8), RNG.normal(size=8)), {"eps": 1e-12}
LINEAR = (X, W, B)
HEADS = tuple(RNG.normal(size=(1, 2, 3, 8)) for _ in range(3))
IDS = (RNG.normal(size=(6, 4)),), {"ids": np.array([5, 0, 5, 2])}

SQUARE_LINEAR = X, SQUARE, RNG.normal(size=5)
SOFTMAX = RNG.normal(size=(3, 6))

WRONG: dict[str, tuple[ModuleType, Any, Any, str]] = {
    "a factor of 2": (linear, LINEAR, only(1, lambda g: 2 * g), "dW is 2.000 times what it should be everywhere (co"),
    "half": (linear, LINEAR, only(1, lambda g: g / 2), "dW is 0.500 times what it should be everywhere (counted half"),
    "another factor": (linear, LINEAR, only(0, lambda g: 0.3 * g), "dx is 0.300 times what it should be everywhere"),
    "a sign": (linear, LINEAR, only(0, lambda g: -g), "dx has the wrong sign"),
    "a mean for a sum": (
        linear, LINEAR, only(2, lambda g: g / 4),
        "db is 0.250 times what it should be everywhere (divided by 4, the size of axis 0 of x: "
        "a mean where the sum belongs?)",
    ),
    "a sum for a mean": (
        linear, LINEAR, only(2, lambda g: g * 4),
        "db is 4.000 times what it should be everywhere (multiplied by 4, the size of axis 0 of x",
    ),
    "the scale of attention": (
        attention, HEADS, only(0, lambda g: g * math.sqrt(8)),
        "dQ_BATK is 2.828 times what it should be everywhere (multiplied by the root of 8, the size of axis 3 of",
    ),
    "next to nothing": (linear, LINEAR, only(0, lambda g: g * (1 + 1e-9)), "dx is 1.000000001 times"),
    "a mean that is missing": (
        layer_norm, NORM, no_mean,
        "dx lacks a term that is constant along the last axis: the one that makes it sum to 0 there (a mean?)",
    ),
    "a constant along the first axis": (
        linear, LINEAR, only(0, lambda g: g + np.arange(1.0, 6.0)),
        "dx is off by a term that is constant along axis 0: a mean over it that is missing, or too much?",
    ),
    "a constant": (linear, LINEAR, only(2, lambda g: g + 0.25), "db is off by 0.25 everywhere"),
    "a projection that is missing": (
        layer_norm, NORM, no_projection, "dx is off by a multiple of x less its mean in every row: a sum over the last"
    ),
    "softmax without its sum": (
        softmax, SOFTMAX, lambda g, dy, saved: (dy * saved.probs,), "dx is off by a multiple of output in every row"
    ),
    "softmax times itself": (
        softmax, SOFTMAX, lambda g, dy, saved: (g[0] * saved.probs,), "dx has the factor output once too often"
    ),
    "a factor that is missing": (
        softmax, SOFTMAX, lambda g, dy, saved: (g[0] / saved.probs,), "dx lacks the factor output"
    ),
    "the deviation is missing": (
        layer_norm, NORM, no_deviation, "dx is off by a factor of its own for each index of axis 0"
    ),
    "gamma is missing": (layer_norm, NORM, no_gamma, "dx is something else (its cosine to the right one is"),
    "a term too much": (
        linear, SQUARE_LINEAR, lambda g, dy, saved: (g[0] + dy, g[1], g[2]), "dx has the term doutput too much"
    ),
    "a residual that is lost": (
        linear, SQUARE_LINEAR, lambda g, dy, saved: (g[0] - 0.5 * dy, *g[1:]), "dx lacks the term 0.5 · doutput"
    ),
    "the transpose": (linear, SQUARE_LINEAR, only(1, lambda g: g.T), "dW is the transpose of what it should be"),
    "the transpose's shape": (
        linear, LINEAR, only(1, lambda g: g.T),
        "dW is the transpose of what it should be: shape [3, 5]; it should have [5, 3]",
    ),
    "the other's transpose": (
        linear, SQUARE_LINEAR, lambda g, dy, saved: (dy @ saved.W, *g[1:]), "dx would be right if W were transposed"
    ),
    "not summed": (
        linear, LINEAR, lambda g, dy, saved: (g[0], g[1], dy),
        "db is not yet summed over axis 0: shape [4, 3]; it should have [3]",
    ),
    "summed": (
        linear, LINEAR, only(0, lambda g: g.sum(axis=0)), "dx is summed over axis 0, which it should not be: shape [5]"
    ),
    "an axis too many": (
        linear, LINEAR, only(2, lambda g: g[None]), "db has the right numbers in the wrong shape: shape [1, 3]"
    ),
    "another shape": (linear, LINEAR, only(2, lambda g: g[:2]), "db has shape [2]; it should have [3]"),
    "nothing": (linear, LINEAR, only(2, lambda g: 0 * g), "db is zero everywhere; it should not be"),
    "None": (linear, LINEAR, only(2, lambda g: None), "db is NoneType, not an array"),
    "bool": (linear, LINEAR, only(2, lambda g: g > 0), "db is an array of bool, not of floats"),
    "float32": (linear, LINEAR, only(1, lambda g: g.astype(np.float32)), "dW is float32 for float64 inputs"),
    "NaN": (linear, LINEAR, only(1, spoiled((slice(1, 3), 2), math.nan)), "dW is nan at [1, 2] and in 1 more places"),
    "infinity": (linear, LINEAR, only(1, spoiled((4, 0), math.inf)), "dW is inf at [4, 0]"),
    "an entry": (linear, LINEAR, only(1, spoiled((2, 1), 7.0)), "dW is wrong at [2, 1] only"),
    "rows": (
        linear, LINEAR, only(0, spoiled(slice(2, None), 0.0)),
        "dx is wrong in indices 2 and up of axis 0 only: there it is zero",
    ),
    "rows in between": (
        linear, LINEAR, only(0, scaled(slice(1, 3), 2.0)),
        "dx is wrong in indices 1 to 2 of axis 0 only: there it is 2.000 times what it should be",
    ),
    "some rows": (
        linear, LINEAR, only(0, scaled([0, 2], -1.0)),
        "dx is wrong in indices 0, 2 of axis 0 only: there it has the wrong sign",
    ),
    "a column": (
        linear, LINEAR, only(0, scaled((..., 3), 3.0)), "dx is wrong in index 3 of axis 1 only: there it is 3.000 times"
    ),
    "where x is negative": (
        relu, X, lambda g, dy, saved: (dy,), "dx is wrong where x < 0, and only there: there it should be zero"
    ),
    "the order of the numbers": (
        linear, LINEAR, only(0, lambda g: g.T.reshape(g.shape)), "dx has the right numbers in the wrong order"
    ),
    "the order of the gradients": (
        linear, LINEAR, lambda g, dy, saved: (g[1], g[0], g[2]),
        "backward returns its gradients in another order: dW, dx, db",
    ),
    "too few": (linear, LINEAR, lambda g, dy, saved: g[:2], "backward returns 2 gradients for 3 inputs (x, W, b)"),
    "only one": (linear, LINEAR, lambda g, dy, saved: g[0], "backward returns 1 gradient for 3 inputs (x, W, b)"),
    "the cotangent is not used": (
        softmax, SOFTMAX, lambda g, dy, saved: (saved.probs,), "backward does not use doutput"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "case", "change", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said(operation: ModuleType, case: Any, change: Any, words: str) -> None:
    verdict = check_op(operation.forward, changed(operation, change), case)
    assert not verdict
    assert [finding for finding in verdict.findings if str(finding).startswith(words)], str(verdict)
    assert len(verdict.findings) == 1, str(verdict)
    assert f"\n  {words}" in str(verdict)


def test_ids_that_occur_twice_and_overwrite_each_other() -> None:
    verdict = check_op(embedding.forward, overwritten, IDS)
    assert [str(finding) for finding in verdict.findings] == ["dE is wrong in index 5 of axis 0 only"]


def test_a_gradient_for_what_changes_nothing() -> None:
    verdict = check_op(lambda x, unused: (x * x, x), lambda dy, x: (2 * x * dy, dy), (X, X[::-1].copy()))
    assert [str(finding) for finding in verdict.findings] == ["dunused should be zero: nothing depends on it here"]


def test_the_rest_is_said_to_be_right() -> None:
    text = str(check_op(linear.forward, changed(linear, only(1, lambda g: -g)), LINEAR))
    assert text.splitlines()[0] == "linear: wrong"
    assert "  right: dx, db (23 entries by complex step, worst error " in text
    assert "      error 2.0e+00, largest at dW[" in text


def test_the_same_fault_in_several_cases_is_said_once() -> None:
    verdict = check_op(layer_norm.forward, changed(layer_norm, no_mean), layer_norm.CASES)
    assert len(verdict.findings) == 4
    text = str(verdict)
    assert text.count("lacks a term that is constant along the last axis") == 1
    assert "4 cases, the first in x [3, 8]: error" in text


def test_a_forward_pass_that_is_wrong_is_seen_beside_the_reference() -> None:
    def reference(x: Array, W: Array, b: Array) -> Array:
        return x @ W - b

    verdict = check_op(linear.forward, linear.backward, LINEAR, reference=reference)
    assert [str(finding) for finding in verdict.findings] == ["output has the term 2 · b too much"]
    assert verdict.findings[0].detail.startswith("error ")
    assert not check_op(linear.forward, linear.backward, LINEAR, reference=lambda x, W, b: (x @ W + b).T)


# --- the contract ---------------------------------------------------------------------------------------------------


def in_place(x: Array) -> tuple[Array, Array]:
    x *= 2.0
    return x, x


def test_inputs_that_are_written_to() -> None:
    assert "forward writes into its input x" in str(check_op(in_place, lambda dy, x: (2 * dy,), (X,)))

    def backward(dy: Array, saved: Any) -> tuple[Array, ...]:
        dy *= 1.0 + 1e-3
        return linear.backward(dy / (1.0 + 1e-3), saved)

    assert "backward writes into its argument doutput" in str(check_op(linear.forward, backward, LINEAR))

    def spoil(dy: Array, saved: linear.Saved) -> tuple[Array, ...]:
        gradients = linear.backward(dy, saved)
        saved.x[...] = 0.0
        return gradients

    text = str(check_op(linear.forward, spoil, LINEAR))
    assert "backward writes into x, an input that forward had saved" in text
    assert "backward gives something else when it is called again: it changes what forward saved" in text


def test_constants_that_are_written_to() -> None:
    def forward(x: Array, *, weights: Array) -> tuple[Array, Array]:
        weights[0] = 0.0
        return x * weights, weights

    verdict = check_op(forward, lambda dy, weights: (dy * weights,), ((X,), {"weights": np.ones(5)}))
    assert "forward writes into its input weights" in str(verdict)


def test_a_forward_pass_that_draws_numbers_of_its_own() -> None:
    generator = np.random.default_rng(0)

    def forward(x: Array) -> tuple[Array, Array]:
        keep = generator.random(x.shape) > 0.5
        return x * keep, keep

    verdict = check_op(forward, lambda dy, keep: (dy * keep,), (X,))
    assert [finding.place for finding in verdict.findings] == ["forward"]
    assert "gives something else when it is called again: no function of its inputs" in str(verdict)


def test_an_output_that_is_not_finite() -> None:
    verdict = check_op(lambda x: (1.0 / (x - X[1, 2]), x), lambda dy, x: (-dy / x**2,), (X,))
    assert str(verdict.findings[0]).startswith("output is inf at [1, 2]")


def test_float32_that_does_not_stay() -> None:
    offset = np.ones(3)
    verdict = check_op(lambda x: (x + offset[0] * np.ones(5), None), lambda dy, saved: (dy,), (X,))
    assert [str(finding) for finding in verdict.findings] == ["output is float64 for float32 inputs"]
    verdict = check_op(lambda x: (x * x, x), lambda dy, x: ((2 * x * dy).astype(np.float64),), (X,))
    assert [str(finding) for finding in verdict.findings] == ["dx is float64 for float32 inputs"]


def test_float32_that_loses_its_digits() -> None:
    """(x + 10⁶)² − 10¹² in float64 has ten digits left, in float32 none."""
    verdict = check_op(
        lambda x: ((x + 1e4) * (x + 1e4) - 1e8, x), lambda dy, x: (2 * (x + 1e4) * dy,), (np.array([[1.1, 2.3]]),)
    )
    assert [finding.text for finding in verdict.findings] == ["loses its digits in float32"]


NOT_COMPLEX = {
    "an absolute value": (lambda x: (np.abs(x), np.sign(x)), "what it returns is real"),
    "the real part": (lambda x: (np.real(x) * 2.0 + 0 * x, np.full_like(x, 2.0)), "their imaginary part is lost"),
    "a function for floats": (lambda x: (np.cbrt(x), np.cbrt(x) ** -2 / 3), "TypeError: ufunc 'cbrt' not supported"),
    "a cast": (lambda x: (x.astype(np.float64) * 2.0 + 0 * x, np.full_like(x, 2.0)), "ComplexWarning"),
    "a real branch": (lambda x: (np.where(np.isreal(x), x, 5.0 * x), np.ones_like(x)), "imaginary part is lost"),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "reason"), NOT_COMPLEX.values(), ids=NOT_COMPLEX.keys())
def test_what_cannot_take_complex_numbers_is_checked_by_differences(forward: Any, reason: str) -> None:
    case = (np.sign(X) * (np.abs(X) + 0.2),)  # away from zero, where some of these have no derivative
    verdict = check_op(forward, lambda dy, slope: (dy * slope,), case)
    assert not [finding for finding in verdict.findings if "float32" not in finding.text], str(verdict)
    (note,) = verdict.notes
    assert reason in note
    assert "checked by central differences instead" in note
    assert {rule for rule, _ in verdict.errors} == {"central differences"}

    wrong = check_op(forward, lambda dy, slope: (-dy * slope,), case)
    assert "dx has the wrong sign" in str(wrong)


def test_what_bends_sharply_is_checked_with_a_finer_step() -> None:
    x = np.array([0.02, -0.03, 0.05])
    verdict = check_op(lambda x: (np.abs(x) * x / (x * x), np.sign(x)), lambda dy, s: (0 * dy,), (x,))
    assert not [finding for finding in verdict.findings if "float32" not in finding.text], str(verdict)


# --- what may be handed over ----------------------------------------------------------------------------------------


def square(x: Array, *, power: int = 2) -> tuple[Array, tuple[Array, int]]:
    return x**power, (x, power)


def d_square(dy: Array, saved: tuple[Array, int]) -> Array:
    x, power = saved
    return power * x ** (power - 1) * dy


@pytest.mark.parametrize(
    "cases",
    [
        X,
        (X,),
        ((X,), {"power": 3}),
        (X, {"power": 3}),
        lambda rng: rng.normal(size=(2, 3)),
        lambda rng: ((rng.normal(size=(2, 3)),), {"power": 4}),
        Case("a case", lambda rng: ((rng.normal(size=4),), {})),
        [X, (X, {"power": 3})],
        {"two": X, "three": (X, {"power": 3})},
        (Case("one", lambda rng: ((X,), {})), Case("two", lambda rng: ((X,), {}))),
        0.7,
        X.astype(np.float32),
    ],
)
def test_cases_are_what_is_easy_to_write(cases: Any) -> None:
    verdict = check_op(square, d_square, cases)
    assert isinstance(verdict, Verdict)
    assert verdict, str(verdict)
    assert verdict.inputs == ("x",)


def test_names_of_cases_and_inputs_are_those_given() -> None:
    verdict = check_op(square, lambda dy, saved: -d_square(dy, saved), {"three": (X, {"power": 3})}, names=["u"])
    assert verdict.findings[0].case == "three"
    assert verdict.findings[0].place == "du"
    assert check_op(lambda *xs: (xs[0] * xs[1], xs), lambda dy, s: (dy * s[1], dy * s[0]), (X, X)).inputs == (
        "input0", "input1",
    )  # fmt: skip


BAD: dict[str, tuple[Any, Any, Any, dict[str, Any], str]] = {
    "no function": (3, d_square, X, {}, "forward: got int; expected a function"),
    "no backward": (square, None, X, {}, "backward: got NoneType; expected a function"),
    "no reference": (square, d_square, X, {"reference": 1}, "reference: got int; expected a function"),
    "no pair": (lambda x: x, d_square, X, {}, r"what forward returns: got ndarray; expected a pair \(output, saved\)"),
    "three": (lambda x: (x, x, x), d_square, X, {}, "what forward returns: got a tuple of 3"),
    "two outputs": (lambda x: ((x, x), x), d_square, X, {}, "the output of forward: got 2 outputs; expected one array"),
    "no floats": (lambda x: (x > 0, x), d_square, X, {}, "the output of forward: got an array of bool"),
    "no case": (square, d_square, [], {}, "cases: got none"),
    "a word": (square, d_square, "abc", {}, "cases: got str 'abc'"),
    "integers": (square, d_square, np.arange(3), {}, "input 0: got an array of int64; expected finite fl"),
    "NaN": (square, d_square, np.array([1.0, np.nan]), {}, "input 0: got NaN or infinity"),
    "ragged": (square, d_square, ([[1.0], [1.0, 2.0]],), {}, "input 0: got an array of object"),
    "too large": (square, d_square, np.ones(200_000), {}, "cases: got inputs of 200,000 numbers; expected at"),
    "too many inputs": (square, d_square, (X, X), {}, "cases: got 2 inputs; expected 1, as forward takes: x"),
    "too few names": (square, d_square, X, {"names": ["a", "b"]}, "names: got .* expected one name for each of the 1"),
    "a name": (square, d_square, X, {"names": "x"}, "names: got x; expected one name"),
}  # fmt: skip


@pytest.mark.parametrize(("forward", "backward", "cases", "options", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_checked_is_refused(forward: Any, backward: Any, cases: Any, options: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_op(forward, backward, cases, **options)


def test_errors_of_the_functions_themselves_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        check_op(lambda x: (x / 1, 1 // 0), d_square, X)


def test_arrays_that_were_handed_over_stay_as_they_are() -> None:
    x, weights = X.copy(), np.ones(5)
    check_op(lambda x, weights: (x * weights, weights), lambda dy, w: (dy * w,), ((x,), {"weights": weights}))
    check_op(in_place, lambda dy, x: (2 * dy,), x)
    assert np.array_equal(x, X)
    assert np.array_equal(weights, np.ones(5))
