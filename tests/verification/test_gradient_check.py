"""Does the check see what is wrong, and nothing else?"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.ops import layer_norm, linear, softmax
from mini_bert.ops.contract import Case
from mini_bert.verification.gradient_check import (
    CENTRAL_DIFFERENCE,
    COMPLEX_STEP,
    RULES,
    GradientCheck,
    Rule,
    TensorError,
    check_operation,
    check_samples,
    direction_derivatives,
    entry_derivatives,
    gradient_errors,
    input_names,
    sample_entries,
)


def errors_of(gradients: dict[str, Any], references: dict[str, Any]) -> dict[str, TensorError]:
    as_arrays = [{name: np.array(value, float) for name, value in side.items()} for side in (gradients, references)]
    return {error.name: error for error in gradient_errors(*as_arrays)}


def test_the_measure() -> None:
    errors = errors_of({"a": [3.0, 4.0], "b": [0.01]}, {"a": [3.0, 4.5], "b": [0.0]})
    assert errors["a"].error == pytest.approx(0.5 / math.hypot(3.0, 4.5), rel=1e-15)
    assert errors["a"].worst == (1,)
    assert (errors["a"].got, errors["a"].expected, errors["a"].compared) == (4.0, 4.5, 2)
    assert errors["b"].error == pytest.approx(0.01 / (1e-2 * math.hypot(3.0, 4.5)), rel=1e-15)


def test_a_tensor_whose_gradient_is_zero_is_measured_against_its_call() -> None:
    errors = errors_of({"zero": [1e-17, -1e-17], "other": [1.0]}, {"zero": [0.0, 0.0], "other": [1.0]})
    assert errors["zero"].error < 1e-14


def test_a_gradient_that_is_missing_or_too_large_has_an_error_of_one() -> None:
    assert errors_of({"a": [0.0, 0.0]}, {"a": [3.0, 4.0]})["a"].error == 1.0
    assert errors_of({"a": [3e9, 4e9]}, {"a": [3.0, 4.0]})["a"].error == pytest.approx(1.0)


def test_nothing_against_nothing_is_no_error() -> None:
    assert errors_of({"a": [0.0]}, {"a": [0.0]})["a"].error == 0.0
    assert errors_of({"a": np.zeros((0, 3))}, {"a": np.zeros((0, 3))})["a"].error == 0.0


def test_nan_does_not_pass() -> None:
    errors = errors_of({"a": [math.nan], "b": [1.0]}, {"a": [1.0], "b": [1.5]})
    check = GradientCheck("op", "rule", 1.0, tuple(errors.values()))
    assert not check.passed
    assert check.worst.name == "a"


def test_names_and_shapes_have_to_agree() -> None:
    with pytest.raises(InvalidInputError, match=r"gradients: got \['b'\] on one side"):
        errors_of({"a": [1.0]}, {"a": [1.0], "b": [1.0]})
    with pytest.raises(InvalidInputError, match=r"a: got a gradient of shape \(2,\); expected \(1,\)"):
        errors_of({"a": [1.0, 1.0]}, {"a": [1.0]})


@pytest.mark.parametrize(("rule", "bound"), [(COMPLEX_STEP, 1e-15), (CENTRAL_DIFFERENCE, 1e-11)])
def test_rules_differentiate_known_functions(rule: Rule, bound: float) -> None:
    for x in (-1.3, 0.2, 2.0):
        assert rule.derivative(lambda by, x=x: np.exp(x + by)) == pytest.approx(math.exp(x), rel=bound)
        assert rule.derivative(lambda by, x=x: np.sin(x + by)) == pytest.approx(math.cos(x), rel=bound)
        assert rule.derivative(lambda by, x=x: (x + by) ** 3) == pytest.approx(3 * x * x, rel=bound, abs=1e-12)


def test_central_differences_are_of_fourth_order() -> None:
    """Exact for polynomials up to the fourth power; of x⁵ the error at 0 is −4 h⁴."""
    at_zero = [CENTRAL_DIFFERENCE.derivative(lambda h, n=n: 1e12 * h**n) for n in (2, 3, 4, 5)]
    assert at_zero == pytest.approx([0.0, 0.0, 0.0, -4.0], abs=1e-6)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_entries_and_directions_of_a_quadratic_form(rule: Rule) -> None:
    rng = np.random.default_rng(0)
    M, start = rng.normal(size=(4, 4)), rng.normal(size=4)
    x, unused = np.array(start, rule.dtype), np.ones((2, 1), rule.dtype)
    inputs = {"x": x, "unused": unused}
    gradient = (M + M.T) @ start

    def objective() -> Any:
        return x @ M @ x

    derivatives = entry_derivatives(rule, objective, inputs)
    np.testing.assert_allclose(derivatives["x"], gradient, rtol=1e-9)
    np.testing.assert_allclose(derivatives["unused"], [[0.0], [0.0]], atol=1e-9)
    some = entry_derivatives(rule, objective, inputs, {"x": [3, 1], "unused": []})
    np.testing.assert_allclose(some["x"], gradient[[3, 1]], rtol=1e-9)
    assert some["unused"].shape == (0,)
    direction = rng.normal(size=4)
    along = direction_derivatives(rule, objective, inputs, {"x": direction})
    assert along["x"] == pytest.approx(gradient @ direction, rel=1e-9)
    assert x.tobytes() == np.array(start, rule.dtype).tobytes()


def test_the_arrays_are_put_back_even_when_the_objective_fails() -> None:
    x = np.array([0.1, 0.2])

    def objective() -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        entry_derivatives(CENTRAL_DIFFERENCE, objective, {"x": x})
    with pytest.raises(ZeroDivisionError):
        direction_derivatives(CENTRAL_DIFFERENCE, objective, {"x": x}, {"x": np.ones(2)})
    assert x.tolist() == [0.1, 0.2]


def test_an_array_of_another_dtype_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="x: got float32; expected a writable array of complex128"):
        entry_derivatives(COMPLEX_STEP, lambda: 0.0, {"x": np.zeros(2, np.float32)})
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    with pytest.raises(InvalidInputError, match="x: got float64, read-only"):
        direction_derivatives(CENTRAL_DIFFERENCE, lambda: 0.0, {"x": frozen}, {})


def test_samples_hold_the_largest_entries_and_others_without_repeats() -> None:
    gradient = np.zeros((50, 4))
    gradient[3], gradient[40, 1] = 7.0, -9.0
    places = sample_entries({"table": gradient, "small": np.ones(3)}, np.random.default_rng(0), 20)
    assert {12, 13, 14, 15, 161} <= set(places["table"].tolist())
    assert len(set(places["table"].tolist())) == 20
    assert sorted(places["small"].tolist()) == [0, 1, 2]


def mean_forgotten(dy: Any, saved: layer_norm.Saved) -> Any:
    dx, dgamma, dbeta = layer_norm.backward(dy, saved)
    return dx + saved.inverse_deviation * (dy * saved.gamma).mean(axis=-1, keepdims=True), dgamma, dbeta


def scaled(factor: float, place: int) -> Any:
    def backward(dy: Any, saved: Any) -> Any:
        gradients = list(linear.backward(dy, saved))
        gradients[place] = gradients[place] * factor
        return tuple(gradients)

    return backward


def sum_of_the_cotangent(dprobs: Any, saved: softmax.Saved) -> Any:
    return (saved.probs * (dprobs - dprobs.mean(axis=-1, keepdims=True)),)


WRONG = {
    "layer norm without its mean": (layer_norm, mean_forgotten),
    "a gradient of linear off by 1e-9": (linear, scaled(1 + 1e-9, 0)),
    "a bias that is averaged": (linear, scaled(0.25, 2)),
    "a sign": (linear, scaled(-1.0, 1)),
    "softmax with a mean for a weighted sum": (softmax, sum_of_the_cotangent),
}


@pytest.mark.parametrize(("operation", "backward"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_backward_pass_is_seen(operation: Any, backward: Any) -> None:
    broken = SimpleNamespace(__name__="broken", forward=operation.forward, backward=backward)
    check = check_operation(broken, operation.CASES[0])
    assert not check.passed
    assert check.worst.error > 1e-10
    assert "broken, " in str(check)
    assert " > 1e-12, largest in " in str(check)


def test_a_cotangent_of_ones_would_not_have_seen_it() -> None:
    """The last of the wrong ones above is right along ones: both gradients are zero there."""
    x = softmax.CASES[0].make(np.random.default_rng(0))[0][0]
    probs, saved = softmax.forward(x)
    ones = np.ones_like(probs)
    np.testing.assert_allclose(sum_of_the_cotangent(ones, saved)[0], softmax.backward(ones, saved)[0], atol=1e-15)


def test_a_right_operation_passes_and_says_so() -> None:
    check = check_operation(linear, linear.CASES[0], CENTRAL_DIFFERENCE)
    assert check.passed
    assert [tensor.name for tensor in check.tensors] == ["x", "W", "b"]
    assert [tensor.compared for tensor in check.tensors] == [20, 15, 3]
    assert str(check).startswith("linear, x [4, 5], central differences: error ")


def test_input_names_are_what_forward_takes_by_position() -> None:
    def forward(x: Any, W: Any, *, eps: float = 0.0) -> None: ...

    assert input_names(SimpleNamespace(forward=forward)) == ("x", "W")  # type: ignore[arg-type]


def test_inputs_with_a_default_may_be_left_out_and_others_may_not() -> None:
    def forward(x: Any, W: Any, b: Any = None, *, eps: float = 0.0) -> None: ...

    operation: Any = SimpleNamespace(forward=forward)
    assert input_names(operation) == input_names(operation, 3) == ("x", "W", "b")
    assert input_names(operation, 2) == input_names(operation, 1) == ("x", "W")


def test_a_function_that_is_not_analytic_is_caught_by_the_pair_of_rules() -> None:
    """|x| by `np.abs` has no complex step; central differences see its slope."""
    case = Case("x", lambda rng: ((rng.normal(size=(2, 3)),), {}))
    absolute = SimpleNamespace(
        __name__="absolute", forward=lambda x: (np.abs(x), np.sign(x)), backward=lambda dy, saved: (dy * saved,)
    )
    assert check_operation(absolute, case, CENTRAL_DIFFERENCE).passed  # type: ignore[arg-type]
    assert not check_operation(absolute, case, COMPLEX_STEP).passed  # type: ignore[arg-type]


def test_samples_of_a_model_see_one_wrong_tensor() -> None:
    rng = np.random.default_rng(0)
    parameters = {name: np.array(rng.normal(size=(5, 6)), np.complex128) for name in ("one", "two", "unused")}

    def objective() -> Any:
        return (np.tanh(parameters["one"]) * parameters["two"]).sum()

    one, two = parameters["one"].real.copy(), parameters["two"].real.copy()
    gradients = {"one": two * (1 - np.tanh(one) ** 2), "two": np.tanh(one), "unused": np.zeros((5, 6))}
    check = check_samples("two tables", COMPLEX_STEP, objective, parameters, gradients)
    assert check.passed, str(check)
    assert [tensor.compared for tensor in check.tensors] == [1, 1, 1, 20, 20, 20]

    gradients["two"][2, 3] += 1e-3
    wrong = check_samples("two tables", COMPLEX_STEP, objective, parameters, gradients, entries=30)
    assert {tensor.name for tensor in wrong.tensors if tensor.error > 1e-12} == {"two"}
    assert next(tensor.worst for tensor in wrong.tensors if tensor.compared == 30 and tensor.name == "two") == (2, 3)


def test_where_a_function_bends_within_the_step_a_finer_one_counts() -> None:
    """sin(300 x) turns around every 10 steps of 1e-3; a wrong gradient of it is wrong with every step."""
    x = np.array([0.31, 0.74])

    def objective() -> Any:
        return np.sin(300.0 * x).sum()

    gradient = {"x": 300.0 * np.cos(300.0 * x)}
    coarse = entry_derivatives(CENTRAL_DIFFERENCE, objective, {"x": x})
    assert errors_of(gradient, coarse)["x"].error > 1e-4
    assert check_samples("waves", CENTRAL_DIFFERENCE, objective, {"x": x}, gradient).passed
    wrong = check_samples("waves", CENTRAL_DIFFERENCE, objective, {"x": x}, {"x": 1.0001 * gradient["x"]})
    assert not wrong.passed
    assert wrong.worst.error == pytest.approx(1e-4, rel=0.01)
