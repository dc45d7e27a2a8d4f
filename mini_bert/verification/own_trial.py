"""What happens when an operation of one's own is called once, and does it keep the rules of the contract?

It returns a pair, leaves its arguments as they are, answers the same when it is called again, and hands back one
gradient an input, which depends on the gradient of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array
from mini_bert.verification.diagnosis import Context, explain
from mini_bert.verification.verdict import Finding


class Operation(NamedTuple):
    """The two functions, the names of the inputs, and a reference where there is one."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    names: tuple[str, ...]
    reference: Callable[..., Any] | None


class Trial(NamedTuple):
    """The operation on one case: what went in, and what a first call gave."""

    op: Operation
    case: str
    values: list[Array]
    constants: dict[str, Any]
    output: Array
    cotangent: Array

    def forward(self, dtype: Any = np.float64) -> tuple[Array, Any]:
        """Output and saved, from copies of the inputs."""
        return call_forward(self.op, [value.astype(dtype) for value in self.values], copied(self.constants, dtype))

    def backward(self, cotangent: Array, saved: Any) -> list[Any]:
        """The gradients as a list, whatever they are."""
        gradients = self.op.backward(cotangent.copy(), saved)
        if len(self.op.names) == 1 and not isinstance(gradients, tuple | list):
            return [gradients]
        return list(gradients) if isinstance(gradients, tuple | list) else [gradients]

    def found(self, place: str, text: str, detail: str = "") -> Finding:
        """Something that is wrong in this case."""
        return Finding(place, text, self.case, detail)

    def context(self, name: str) -> Context:
        """All arrays that stand around a result."""
        constants = {key: value for key, value in self.constants.items() if isinstance(value, np.ndarray)}
        inputs = dict(zip(self.op.names, self.values, strict=True))
        return Context(name, {**inputs, **constants, "output": self.output, "doutput": self.cotangent})


def call_forward(op: Operation, values: Sequence[Array], constants: Mapping[str, Any]) -> tuple[Array, Any]:
    """Output and saved.

    Raises:
        InvalidInputError: `forward` returns no such pair, or an output that is not one array of floats.
    """
    result = op.forward(*values, **constants)
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise InvalidInputError("what forward returns", got=got, expected="a pair (output, saved)")
    output, saved = result
    if isinstance(output, tuple | list):
        raise InvalidInputError(
            "the output of forward",
            got=f"{len(output)} outputs",
            expected="one array",
            advice="Join the outputs into one array, or check each by a function of its own.",
        )
    array = np.asarray(output)
    if array.dtype.kind not in "fc":
        raise InvalidInputError("the output of forward", got=f"an array of {array.dtype}", expected="floats")
    return array, saved


def copied(constants: Mapping[str, Any], dtype: Any = np.float64) -> dict[str, Any]:
    """Constants as they are; arrays as copies, in float32 where everything is."""
    narrow = dtype == np.float32
    return {
        name: (value.astype(dtype) if narrow and value.dtype.kind == "f" else value.copy())
        if isinstance(value, np.ndarray)
        else value
        for name, value in constants.items()
    }


def breaches(trial: Trial) -> Iterator[Finding]:
    """What makes a comparison of numbers pointless, or is wrong whatever the numbers."""
    op = trial.op
    values, constants = [value.copy() for value in trial.values], copied(trial.constants)
    output, saved = call_forward(op, values, constants)
    arrays = {**dict(zip(op.names, values, strict=True)), **constants}
    originals = {**dict(zip(op.names, trial.values, strict=True)), **trial.constants}
    for name in _written(originals, arrays):
        yield trial.found("forward", f"writes into its input {name}")
    if not np.array_equal(output, trial.output, equal_nan=True):
        yield trial.found(
            "forward",
            "gives something else when it is called again: no function of its inputs (random numbers? a state?)",
        )
        return
    if not np.isfinite(output).all():
        yield trial.found("output", explain(output, output, trial.context("output")))
        return
    before = copied(arrays)
    cotangent = trial.cotangent.copy()
    gradients = op.backward(cotangent, saved)
    if not np.array_equal(cotangent, trial.cotangent):
        yield trial.found("backward", "writes into its argument doutput")
    for name in _written(before, arrays):
        yield trial.found("backward", f"writes into {name}, an input that forward had saved")
    gradients = trial.backward(trial.cotangent, trial.forward()[1])
    if len(gradients) != len(op.names):
        count = f"{len(gradients)} gradient{'s' * (len(gradients) != 1)}"
        wanted = f"{len(op.names)} input{'s' * (len(op.names) != 1)} ({', '.join(op.names)})"
        yield trial.found("backward", f"returns {count} for {wanted}")
        return
    yield from _about_calls(trial, gradients)


def _about_calls(trial: Trial, gradients: list[Any]) -> Iterator[Finding]:
    _, saved = trial.forward()
    first = [np.array(gradient) for gradient in trial.backward(trial.cotangent, saved)]
    again = trial.backward(trial.cotangent, saved)
    if not _all_equal(first, again):
        yield trial.found("backward", "gives something else when it is called again: it changes what forward saved")
    double = trial.backward(np.asarray(2.0 * trial.cotangent), trial.forward()[1])
    if _all_equal(double, gradients) and any(np.any(np.asarray(gradient)) for gradient in gradients):
        yield trial.found("backward", "does not use doutput, the gradient of its output")


def _all_equal(ones: Sequence[Any], others: Sequence[Any]) -> bool:
    return all(_equal(one, other) for one, other in zip(ones, others, strict=True))


def _equal(one: Any, other: Any) -> bool:
    """NaN is equal to NaN, and None to None."""
    one, other = np.asarray(one), np.asarray(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc" and other.dtype.kind in "fc")


def _written(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name, value in before.items() if isinstance(value, np.ndarray) and not _equal(value, after[name])]
