"""Is an operation of your own right, and if not, where is the fault?

`check_op` puts any pair of functions that keep the contract of `mini_bert.ops`

    forward(inputs…, constants…) -> (output, saved)
    backward(doutput, saved) -> gradients, in the order of the inputs

before the oracles that our own operations stand before: complex step for every entry of every gradient (central
differences where a forward pass cannot take complex numbers), a slow reference of yours where there is one, float32
beside float64, and the rules of the contract. The answer is a verdict in words.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array
from mini_bert.verification.diagnosis import explain
from mini_bert.verification.evidence import FLOAT32, place, raised
from mini_bert.verification.gradient_check import (
    CENTRAL_DIFFERENCE,
    COMPLEX_STEP,
    FINER_DIFFERENCE,
    Rule,
    TensorError,
    direction_derivatives,
    entry_derivatives,
    gradient_errors,
)
from mini_bert.verification.own_cases import input_names_of, own_cases
from mini_bert.verification.own_trial import Operation, Trial, breaches, call_forward, copied
from mini_bert.verification.verdict import Finding, Verdict

_TO_REFERENCE = 1e-10
"""How far an output may be from a reference: that may add in another order."""

_OWN = tuple(b"check_op")
"""Begins the seed, so that no cotangent is an input that somebody has drawn with the seed 0."""


def check_op(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    cases: Any,
    *,
    names: Sequence[str] | None = None,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> Verdict:
    """Check an operation of your own, and say in words what is wrong with it.

    Args:
        forward: takes the differentiable inputs by position and constants by name; returns `(output, saved)`.
        backward: takes the gradient of the output and `saved`; returns one gradient an input, in their order.
        cases: what to call `forward` with. A tuple of float arrays is one case, `(arrays, {"eps": 1e-5})` one with
            constants, a function `make(rng)` makes one of either kind; a list or a dictionary of these are several.
        names: of the inputs; by default those in the signature of `forward`.
        reference: a slow function that returns the output alone, for the same inputs and constants.
        seed: of cotangents, and of the generator that cases are made with.

    Returns:
        A verdict: true if nothing is wrong; `print` it, or look at its `findings`.

    Raises:
        InvalidInputError: what was handed over is no such pair of functions, or no such cases.
        Exception: whatever `forward` or `backward` themselves raise.

    >>> def forward(x, W):
    ...     return x @ W, (x, W)
    >>> def backward(dy, saved):
    ...     x, W = saved
    ...     return dy @ W, x.T @ dy
    >>> rng = np.random.default_rng(0)
    >>> verdict = check_op(forward, backward, (rng.normal(size=(4, 3)), rng.normal(size=(3, 3))))
    >>> bool(verdict), verdict.findings[0].text
    (False, 'would be right if W were transposed')
    """
    for argument, function in (("forward", forward), ("backward", backward), ("reference", reference)):
        if not callable(function) and not (argument == "reference" and function is None):
            raise InvalidInputError(argument, got=type(function).__name__, expected="a function")
    findings: list[Finding] = []
    errors: list[tuple[str, TensorError]] = []
    notes: dict[str, None] = {}
    inputs: tuple[str, ...] = ()
    with np.errstate(all="ignore"):  # what is not finite is found, and said
        for number, case in enumerate(own_cases(cases)):
            rng = np.random.default_rng([*_OWN, seed, number])
            values, constants = case.make(rng)
            inputs = input_names_of(forward, len(values), constants, names)
            op = Operation(forward, backward, inputs, reference)
            output, _ = call_forward(op, [value.copy() for value in values], copied(constants))
            trial = Trial(op, case.name, list(values), constants, output, np.asarray(rng.normal(size=output.shape)))
            found = list(breaches(trial))
            if not found:
                rule, note = _rule(trial)
                notes.update(dict.fromkeys([note] if note else []))
                measured, found = _gradients(trial, rule)
                errors += [(rule.name, error) for error in measured]
            findings += found + list(_beside_reference(trial)) + list(_in_float32(trial, quiet=bool(found)))
    return Verdict(_name(forward), inputs, tuple(findings), tuple(errors), tuple(notes))


def _name(forward: Callable[..., Any]) -> str:
    """That of the function; where that says nothing, that of its file."""
    name, module = getattr(forward, "__name__", "operation"), getattr(forward, "__module__", None) or "__main__"
    return name if name != "forward" or module == "__main__" else module.rpartition(".")[2]


def _objective(trial: Trial, arrays: Sequence[Array]) -> Callable[[], Any]:
    def objective() -> Any:
        output, _ = call_forward(trial.op, [array.copy() for array in arrays], copied(trial.constants))
        return (trial.cotangent * output).sum()

    return objective


def _rule(trial: Trial) -> tuple[Rule, str]:
    """Complex step, unless the forward pass is not the same function for complex numbers; and then, why."""
    reason = _why_not_complex(trial)
    if not reason:
        return COMPLEX_STEP, ""
    return CENTRAL_DIFFERENCE, f"forward cannot take complex numbers ({reason}): checked by central differences instead"


def _why_not_complex(trial: Trial) -> str:
    arrays = dict(zip(trial.op.names, (value.astype(np.complex128) for value in trial.values), strict=True))
    exact = dict(zip(trial.op.names, (value.copy() for value in trial.values), strict=True))
    rng = np.random.default_rng(1)
    directions = {name: rng.normal(size=value.shape) for name, value in exact.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            output, _ = trial.forward(np.complex128)
            if output.dtype.kind != "c":
                return "what it returns is real"
            along = direction_derivatives(COMPLEX_STEP, _objective(trial, list(arrays.values())), arrays, directions)
    except Exception as exception:
        return raised(exception)
    if not np.allclose(output.real, trial.output, rtol=1e-9, atol=1e-12):
        return "its result is another one"
    steps = [
        direction_derivatives(rule, _objective(trial, list(exact.values())), exact, directions)
        for rule in (CENTRAL_DIFFERENCE, FINER_DIFFERENCE)
    ]
    for name, slope in along.items():
        if min(abs(slope - step[name]) for step in steps) > 1e-5 * max(map(abs, (slope, *steps[0].values()))):
            return "their imaginary part is lost on the way"
    return ""


def _gradients(trial: Trial, rule: Rule) -> tuple[list[TensorError], list[Finding]]:
    """Every entry of every gradient: the errors, and what is wrong."""
    names = [f"d{name}" for name in trial.op.names]
    gradients = dict(zip(names, trial.backward(trial.cotangent, trial.forward()[1]), strict=True))
    candidates = (COMPLEX_STEP,) if rule is COMPLEX_STEP else (CENTRAL_DIFFERENCE, FINER_DIFFERENCE)
    best: tuple[list[TensorError], list[Finding]] | None = None
    for candidate in candidates:
        arrays = [value.astype(candidate.dtype) for value in trial.values]
        derivatives = entry_derivatives(candidate, _objective(trial, arrays), dict(zip(names, arrays, strict=True)))
        outcome = _compared(trial, gradients, derivatives, rule)
        if best is None or len(outcome[1]) < len(best[1]):
            best = outcome
        if not best[1]:
            break
    assert best is not None
    return best


def _compared(
    trial: Trial, gradients: Mapping[str, Any], derivatives: Mapping[str, Array], rule: Rule
) -> tuple[list[TensorError], list[Finding]]:
    order = _order(gradients, derivatives)
    if order:
        return [], [trial.found("backward", f"returns its gradients in another order: {', '.join(order)}")]
    floor = 1e-2 * max(float(np.linalg.norm(np.ravel(derivative))) for derivative in derivatives.values())
    errors, findings = [], []
    for name, derivative in derivatives.items():
        got = gradients[name]
        comparable = isinstance(got, np.ndarray | np.generic | float) and np.shape(got) == derivative.shape
        if comparable and np.asarray(got).dtype == np.float64:
            (error,) = gradient_errors({name: np.asarray(got)}, {name: derivative}, scales={name: floor})
            errors.append(error)
            if error.error <= rule.operation_threshold:
                continue
            detail = f"error {error.error:.1e}, largest at {place(error)}"
        else:
            detail = ""
        text = _right_elsewhere(trial, name, got, rule) or explain(got, derivative, trial.context(name))
        findings.append(trial.found(name, text, detail))
    return errors, findings


def _right_elsewhere(trial: Trial, name: str, got: Any, rule: Rule) -> str:
    """Whether a gradient would be right if a square input were transposed: `dy @ W` for `dy @ W.T`."""
    for number, (other, value) in enumerate(zip(trial.op.names, trial.values, strict=True)):
        if f"d{other}" == name or value.ndim < 2 or value.shape[-1] != value.shape[-2] or value.shape[-1] == 1:
            continue
        arrays = [array.astype(rule.dtype) for array in trial.values]
        arrays[number] = arrays[number].swapaxes(-1, -2).copy()
        array = arrays[[f"d{known}" for known in trial.op.names].index(name)]
        elsewhere = entry_derivatives(rule, _objective(trial, arrays), {name: array})[name]
        if np.shape(got) == elsewhere.shape and np.allclose(got, elsewhere, rtol=1e-6, atol=1e-9):
            return f"would be right if {other} were transposed"
    return ""


def _order(gradients: Mapping[str, Any], derivatives: Mapping[str, Array]) -> list[str]:
    """What really comes back, by name, where all gradients are right but in another order; else nothing."""
    names = list(derivatives)
    if len(names) < 2 or len(names) > 5:
        return []

    def same(got: Any, expected: Array) -> bool:
        return np.shape(got) == expected.shape and np.allclose(got, expected, rtol=1e-6, atol=1e-9)

    for order in permutations(names):
        if all(same(gradients[name], derivatives[other]) for name, other in zip(names, order, strict=True)):
            return [] if list(order) == names else list(order)
    return []


def _beside_reference(trial: Trial) -> Iterator[Finding]:
    if trial.op.reference is None:
        return
    expected = trial.op.reference(*(value.copy() for value in trial.values), **copied(trial.constants))
    expected = np.asarray(expected, np.float64)
    if trial.output.shape == expected.shape:
        (error,) = gradient_errors({"output": trial.output}, {"output": expected})
        if error.error <= _TO_REFERENCE:
            return
        detail = f"error {error.error:.1e}, largest at {place(error)}"
    else:
        detail = ""
    yield trial.found("output", explain(trial.output, expected, trial.context("output")), detail)


def _in_float32(trial: Trial, *, quiet: bool) -> Iterator[Finding]:
    """Whether float32 stays float32, and agrees; `quiet` where something is wrong in float64 already."""
    if quiet:
        return
    narrow_values = [value.astype(np.float32) for value in trial.values]
    output, saved = call_forward(trial.op, narrow_values, copied(trial.constants, np.float32))
    gradients = trial.backward(trial.cotangent.astype(np.float32), saved)
    names = ["output", *(f"d{name}" for name in trial.op.names)]
    got = dict(zip(names, map(np.asarray, (output, *gradients)), strict=True))
    for name, array in got.items():
        if array.dtype != np.float32:
            yield trial.found(name, f"is {array.dtype} for float32 inputs")
    wide = trial._replace(values=[value.astype(np.float64) for value in narrow_values])
    wide_output, saved = wide.forward()
    wide_gradients = wide.backward(trial.cotangent.astype(np.float32).astype(np.float64), saved)
    expected = {
        "output": wide_output,
        **{f"d{name}": g for name, g in zip(trial.op.names, wide_gradients, strict=True)},
    }
    for name, array in got.items():
        (error,) = gradient_errors({name: array.astype(np.float64)}, {name: expected[name]})
        assert FLOAT32.operation_threshold is not None
        if not error.error <= FLOAT32.operation_threshold:
            detail = f"error {error.error:.1e} beside float64, largest at {place(error)}"
            yield trial.found(name, "loses its digits in float32", detail)
