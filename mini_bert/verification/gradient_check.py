"""Is a gradient right? Compare it with derivatives that nobody has derived.

Two rules differentiate a function φ of one number at 0 without knowing what it computes:

    complex step          φ'(0) ≈ Im φ(ih) / h                                                        h = 1e-30
    central differences   φ'(0) ≈ (8 (φ(h) − φ(−h)) − (φ(2h) − φ(−2h))) / 12h                         h = 1e-3

The first subtracts nothing, so its step may be as small as one likes and its error is that of rounding alone
(Squire and Trapp 1998); it needs code that treats complex numbers as the analytic continuation of the real ones, which
all operations here do. The second is of fourth order and needs nothing but float64; it would see a backward pass that
is wrong together with a forward pass that is not analytic.

The function of one number is always the same: move one entry of one array, or all its entries along a direction, and
take the inner product of what comes out with a random cotangent. Never with ones: the sum of a softmax is 1 whatever
its input, so its gradient along ones is 0, and so would be that of many a wrong formula.

The error of a tensor's gradient g against the reference ĝ is

    ‖g − ĝ‖ / max(‖g‖, ‖ĝ‖, 1e-2 · the largest ‖ĝ‖ of the call)

so that a tensor whose gradient is zero (the bias of the keys, the rows of a table that no id names) is measured
against the call it was part of, instead of against its own rounding.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mini_bert import ops
from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, Case

FLOOR = 1e-2
"""Share of the largest tensor of a call that every tensor is measured against at least."""

Objective = Callable[[], Any]
"""A scalar, computed from the arrays under test as they stand at the moment of the call."""


class Rule(NamedTuple):
    """A way to differentiate a function of one number at 0, and what it asks for."""

    name: str
    derivative: Callable[[Callable[[Any], Any]], float]
    dtype: type[np.inexact[Any]]
    """What the arrays under test, and all that is computed from them, have to be."""
    operation_threshold: float
    """Largest error of a right gradient of one operation."""
    model_threshold: float
    """Largest error of a right gradient of a whole model."""


def _complex_step(phi: Callable[[complex], complex], h: float = 1e-30) -> float:
    return float(np.imag(phi(1j * h))) / h


def _central_difference(phi: Callable[[float], float], h: float = 1e-3) -> float:
    return (8.0 * float(phi(h) - phi(-h)) - float(phi(2 * h) - phi(-2 * h))) / (12.0 * h)


COMPLEX_STEP = Rule("complex step", _complex_step, np.complex128, 1e-12, 1e-12)
CENTRAL_DIFFERENCE = Rule("central differences", _central_difference, np.float64, 1e-6, 1e-5)
FINER_DIFFERENCE = CENTRAL_DIFFERENCE._replace(derivative=lambda phi: _central_difference(phi, h=1e-4))
"""For functions that bend within the step of the other, such as LayerNorm over embeddings that are small themselves:
its own error is a ten-thousandth then, that of rounding ten times as large."""
RULES = {rule.name: rule for rule in (COMPLEX_STEP, CENTRAL_DIFFERENCE)}


class TensorError(NamedTuple):
    """How far the gradient of one tensor is from its reference, and where it is furthest."""

    name: str
    error: float
    worst: tuple[int, ...]
    """Index of the entry with the largest difference; empty where whole directions were compared."""
    got: float
    """The gradient there."""
    expected: float
    """The reference there."""
    compared: int
    """How many derivatives stand behind `error`."""


class GradientCheck(NamedTuple):
    """Outcome of one check: `passed` if the error of every tensor is within `threshold`."""

    subject: str
    rule: str
    threshold: float
    tensors: tuple[TensorError, ...]

    @property
    def worst(self) -> TensorError:
        """The tensor with the largest error; one that is NaN goes first."""
        return max(self.tensors, key=lambda tensor: math.inf if math.isnan(tensor.error) else tensor.error)

    @property
    def passed(self) -> bool:
        """Whether every error is within the threshold (NaN is not)."""
        return all(tensor.error <= self.threshold for tensor in self.tensors)

    def __str__(self) -> str:
        name, error, worst, got, expected, _ = self.worst
        place = f"{name}{list(worst)}" if worst else name
        return (
            f"{self.subject}, {self.rule}: error {error:.1e} {'<=' if self.passed else '>'} {self.threshold:.0e}, "
            f"largest in {place}: got {got:.17g}, expected {expected:.17g}"
        )


def gradient_errors(
    gradients: Mapping[str, Array],
    references: Mapping[str, Array],
    scales: Mapping[str, float] | None = None,
    places: Mapping[str, Array] | None = None,
) -> tuple[TensorError, ...]:
    """Measure each tensor of `gradients` against the one of the same name in `references`.

    Args:
        gradients: what is under test.
        references: what it should be, in the same shapes.
        scales: norms that tensors are measured against at least, instead of the share of the largest reference.
        places: by name, indices [n, axes] that the n samples of a tensor were taken at; `worst` is then one of them.

    Raises:
        InvalidInputError: the names or the shapes differ.
    """
    if gradients.keys() != references.keys():
        difference = sorted(gradients.keys() ^ references.keys())
        raise InvalidInputError(
            "gradients", got=f"{difference} on one side only", expected="the names of the references"
        )
    norms = {name: float(np.linalg.norm(np.ravel(reference))) for name, reference in references.items()}
    floor = FLOOR * max(norms.values(), default=0.0)
    errors = []
    for name, reference in references.items():
        gradient = gradients[name]
        if gradient.shape != reference.shape:
            raise InvalidInputError(name, got=f"a gradient of shape {gradient.shape}", expected=str(reference.shape))
        difference = np.abs(gradient - reference)
        scale = max(float(np.linalg.norm(np.ravel(gradient))), norms[name], floor if scales is None else scales[name])
        error = float(np.linalg.norm(np.ravel(difference)))
        error = error / scale if scale > 0 else error
        worst = np.unravel_index(int(np.argmax(difference)), difference.shape) if difference.size else ()
        got, expected = (float(gradient[worst].real), float(reference[worst].real)) if difference.size else (0.0, 0.0)
        index = tuple(map(int, worst if places is None else places[name][worst]))
        errors.append(TensorError(name, error, index, got, expected, int(difference.size)))
    return tuple(errors)


def entry_derivatives(
    rule: Rule, objective: Objective, inputs: Mapping[str, Array], entries: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Array]:
    """Derivatives of `objective` with respect to single entries of the arrays it reads.

    Each entry is moved in place, and its very bits are put back. By default all entries are taken, and the answer has
    the shapes of `inputs`; with `entries`, flat indices by name, the answer lists theirs in that order.

    Raises:
        InvalidInputError: an array is not of the rule's dtype, or cannot be written to.
    """
    _require_dtype(rule, inputs)
    derivatives = {}
    for name, array in inputs.items():
        chosen = range(array.size) if entries is None else entries[name]
        values = np.array([_at_entry(rule, objective, array, int(entry)) for entry in chosen], np.float64)
        derivatives[name] = values.reshape(array.shape) if entries is None else values
    return derivatives


def _at_entry(rule: Rule, objective: Objective, array: Array, entry: int) -> float:
    index = np.unravel_index(entry, array.shape)
    value = array[index]

    def moved(by: Any) -> Any:
        array[index] = value + by
        return objective()

    try:
        return rule.derivative(moved)
    finally:
        array[index] = value


def direction_derivatives(
    rule: Rule, objective: Objective, inputs: Mapping[str, Array], directions: Mapping[str, Array]
) -> dict[str, float]:
    """Derivative of `objective` along one direction in each array alone, by name; see `entry_derivatives`."""
    _require_dtype(rule, inputs)
    derivatives = {}
    for name, direction in directions.items():
        array, values = inputs[name], inputs[name].copy()

        def moved(by: Any, array: Array = array, values: Array = values, direction: Array = direction) -> Any:
            array[...] = values + by * direction
            return objective()

        try:
            derivatives[name] = rule.derivative(moved)
        finally:
            array[...] = values
    return derivatives


def _require_dtype(rule: Rule, inputs: Mapping[str, Array]) -> None:
    for name, array in inputs.items():
        if array.dtype != rule.dtype or not array.flags.writeable:
            raise InvalidInputError(
                name,
                got=f"{array.dtype}{'' if array.flags.writeable else ', read-only'}",
                expected=f"a writable array of {np.dtype(rule.dtype)} for {rule.name}",
            )


def sample_entries(gradients: Mapping[str, Array], rng: np.random.Generator, count: int = 20) -> dict[str, Array]:
    """Flat indices of `count` entries of each tensor: half of them the largest of the gradient, the others at random.

    Entries at random alone would, of an embedding table, name rows that no id names.
    """
    chosen = {}
    for name, gradient in gradients.items():
        largest = np.argsort(-np.abs(gradient).ravel(), kind="stable")[: count // 2]
        others = np.setdiff1d(rng.permutation(gradient.size)[:count], largest)
        chosen[name] = np.concatenate((largest, rng.permutation(others)))[: min(count, gradient.size)]
    return chosen


def sample_tensors(
    rule: Rule,
    objective: Objective,
    inputs: Mapping[str, Array],
    gradients: Mapping[str, Array],
    *,
    seed: int = 0,
    entries: int = 20,
) -> Iterator[tuple[TensorError, TensorError]]:
    """Tensor by tensor: the error along one random direction, and that of `entries` single entries.

    Where central differences do not agree, a finer step is asked too, and the better of the two counts.

    Args:
        rule: how to differentiate.
        objective: the loss, computed from `inputs` as they stand.
        inputs: the parameters, of the rule's dtype; changed while this runs, then as before to the bit.
        gradients: the gradient of `objective`, by the same names and in the same shapes.
        seed: of the directions and entries.
        entries: so many single entries a tensor.

    Raises:
        InvalidInputError: an array is not of the rule's dtype, or a gradient has another shape.
    """
    rng = np.random.default_rng(seed)
    gradients = {name: np.array(gradients[name].real, np.float64) for name in inputs}
    places = sample_entries(gradients, rng, entries)
    sampled = {name: gradients[name].ravel()[places[name]] for name in inputs}
    floor, sampled_floor = (FLOOR * _largest_norm(tensors) for tensors in (gradients, sampled))
    for name, array in inputs.items():
        # A random direction of length 1 among n entries has a slope of about ‖g‖ / √n: that is what it is measured by.
        norm = max(float(np.linalg.norm(gradients[name].ravel())), floor)
        samples = _Samples(
            name,
            array,
            gradients[name],
            _unit(rng.normal(size=array.shape)),
            places[name],
            norm / math.sqrt(array.size),
            sampled_floor,
        )
        errors = samples.errors(rule, objective)
        if rule is CENTRAL_DIFFERENCE and not all(error.error <= rule.model_threshold for error in errors):
            finer = samples.errors(FINER_DIFFERENCE, objective)
            errors = min(errors, finer, key=lambda pair: max(error.error for error in pair))
        yield errors


class _Samples(NamedTuple):
    """Where the gradient of one tensor is looked at, and what its errors are measured against at least."""

    name: str
    array: Array
    gradient: Array
    direction: Array
    places: Array
    """Flat indices."""
    direction_scale: float
    entry_scale: float

    def errors(self, rule: Rule, objective: Objective) -> tuple[TensorError, TensorError]:
        """Along the direction, and at the places."""
        name, inputs, places = self.name, {self.name: self.array}, self.places
        along = direction_derivatives(rule, objective, inputs, {name: self.direction})
        (by_direction,) = gradient_errors(
            {name: np.asarray((self.gradient * self.direction).sum())},
            {name: np.asarray(along[name])},
            scales={name: self.direction_scale},
        )
        (by_entry,) = gradient_errors(
            {name: self.gradient.ravel()[places]},
            entry_derivatives(rule, objective, inputs, {name: places.tolist()}),
            scales={name: self.entry_scale},
            places={name: np.stack(np.unravel_index(places, self.array.shape), axis=-1)},
        )
        return by_direction, by_entry


def _largest_norm(tensors: Mapping[str, Array]) -> float:
    """One that is not finite is no measure for the others."""
    norms = (float(np.linalg.norm(np.ravel(tensor))) for tensor in tensors.values())
    return max((norm for norm in norms if math.isfinite(norm)), default=0.0)


def check_samples(
    subject: str,
    rule: Rule,
    objective: Objective,
    inputs: Mapping[str, Array],
    gradients: Mapping[str, Array],
    *,
    seed: int = 0,
    entries: int = 20,
    threshold: float | None = None,
) -> GradientCheck:
    """Check the gradients of a model as `sample_tensors` does: all directions, then all entries.

    Args:
        subject: what the report calls it.
        rule: how to differentiate.
        objective: the loss, computed from `inputs` as they stand.
        inputs: the parameters, of the rule's dtype.
        gradients: the gradient of `objective`, by the same names and in the same shapes.
        seed: of the directions and entries.
        entries: so many single entries a tensor.
        threshold: largest error that passes; by default that of the rule for models.
    """
    pairs = list(sample_tensors(rule, objective, inputs, gradients, seed=seed, entries=entries))
    threshold = rule.model_threshold if threshold is None else threshold
    return GradientCheck(
        subject, rule.name, threshold, tuple(error for errors in zip(*pairs, strict=True) for error in errors)
    )


def _unit(direction: Array) -> Array:
    return np.asarray(direction / np.linalg.norm(direction.ravel()))


def operations() -> dict[str, ModuleType]:
    """All operations of `mini_bert.ops` by name: every module with `forward`, `backward` and `CASES`."""
    modules = {info.name: import_module(f"{ops.__name__}.{info.name}") for info in pkgutil.iter_modules(ops.__path__)}
    return {name: module for name, module in sorted(modules.items()) if is_operation(module)}


def is_operation(module: ModuleType) -> bool:
    """Whether `module` keeps the contract of an operation, as far as names go."""
    return all(hasattr(module, name) for name in ("forward", "backward", "CASES"))


def input_names(operation: ModuleType, count: int | None = None) -> tuple[str, ...]:
    """The differentiable inputs of an operation: what its `forward` takes by position; with `count`, so many of them.

    Those that have a default may be left out.
    """
    parameters = inspect.signature(operation.forward).parameters.values()
    by_position = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    required = sum(parameter.default is parameter.empty for parameter in by_position)
    return tuple(parameter.name for parameter in by_position[: None if count is None else max(count, required)])


def check_operation(
    operation: ModuleType, case: Case, rule: Rule = COMPLEX_STEP, *, seed: int = 0, threshold: float | None = None
) -> GradientCheck:
    """Check all entries of all gradients of an operation on one of its cases.

    `operation` is any module, or object, with `forward` and `backward` as in `mini_bert.ops`.
    """
    rng = np.random.default_rng(seed)
    values, constants = case.make(rng)
    names = input_names(operation, len(values))
    inputs = {name: np.array(value, rule.dtype) for name, value in zip(names, values, strict=True)}
    exact = [np.array(value, np.float64) for value in values]
    output, saved = operation.forward(*exact, **constants)
    cotangent = rng.normal(size=np.shape(output))
    gradients = dict(zip(inputs, operation.backward(cotangent, saved), strict=True))

    def objective() -> Any:
        return (cotangent * operation.forward(*inputs.values(), **constants)[0]).sum()

    errors = gradient_errors(gradients, entry_derivatives(rule, objective, inputs))
    name = operation.__name__.rpartition(".")[2]
    threshold = rule.operation_threshold if threshold is None else threshold
    return GradientCheck(f"{name}, {case.name}", rule.name, threshold, errors)
