"""Is every operation right, by every oracle, on all of its cases?

An operation is any module of `mini_bert.ops` with `forward`, `backward` and `CASES`: a new file is checked, and its
cases with it, the moment it exists. An operation that an oracle does not know fails there: nothing is excepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from mini_bert.errors import InvalidInputError, nearest
from mini_bert.ops.contract import Array, Case
from mini_bert.verification import torch_oracle
from mini_bert.verification.evidence import CENTRAL, COMPLEX, FLOAT32, LOOPS, TORCH, Evidence, Measured, Oracle, attempt
from mini_bert.verification.gradient_check import (
    RULES,
    check_operation,
    gradient_errors,
    input_names,
    operations,
)
from mini_bert.verification.oracles import scalars
from mini_bert.verification.oracles.operations import ORACLES as TRANSCRIPTIONS

PART = "operations"


def chosen_operations(names: Sequence[str] | None) -> dict[str, ModuleType]:
    """The operations of these names; None: all.

    Raises:
        InvalidInputError: there is no operation of that name.
    """
    known = operations()
    for name in names or ():
        if name not in known:
            raise InvalidInputError("--op", got=repr(name), expected="an operation", advice=nearest(name, known))
    return known if names is None else {name: known[name] for name in dict.fromkeys(names)}


def check_operations(chosen: Mapping[str, ModuleType], seed: int = 0) -> Iterator[Evidence]:
    """Every operation × case × oracle."""
    for name, operation in chosen.items():
        for case in operation.CASES:
            for oracle in (COMPLEX, CENTRAL, LOOPS, TORCH, FLOAT32):
                yield _check(name, operation, case, oracle, seed)


def _check(name: str, operation: ModuleType, case: Case, oracle: Oracle, seed: int) -> Evidence:
    if oracle is TORCH and not torch_oracle.installed():
        return Evidence(PART, name, oracle.name, case.name, None, _allowed(oracle), 0, torch_oracle.NOT_INSTALLED)

    def measure() -> Measured:
        if oracle.name in RULES:
            tensors = check_operation(operation, case, RULES[oracle.name], seed=seed).tensors
            return Measured.worst_of(tensor._replace(name=f"d{tensor.name}") for tensor in tensors)
        got, expected = _BESIDE[oracle.name](name, operation, case, seed)
        of_output = gradient_errors({"output": got.pop("output")}, {"output": expected.pop("output")})
        return Measured.worst_of((*of_output, *gradient_errors(got, expected)))

    return attempt(PART, name, case.name, oracle, oracle.operation_threshold, measure)


def _allowed(oracle: Oracle) -> float:
    assert oracle.operation_threshold is not None
    return oracle.operation_threshold


Results = dict[str, Array]
"""`output`, and `dx` for each input `x`."""


def _gradient_names(operation: ModuleType, count: int) -> list[str]:
    return [f"d{name}" for name in input_names(operation, count)]


def _ours(operation: ModuleType, values: Sequence[Array], constants: dict[str, Any], cotangent: Array) -> Results:
    output, saved = operation.forward(*values, **constants)
    gradients = operation.backward(cotangent, saved)
    return {"output": output, **dict(zip(_gradient_names(operation, len(values)), gradients, strict=True))}


def _inputs(operation: ModuleType, case: Case, seed: int) -> tuple[list[Array], dict[str, Any], Array]:
    """Inputs that float32 can hold, so that all dtypes stand at the same point; constants; a cotangent."""
    rng = np.random.default_rng(seed)
    values, constants = case.make(rng)
    exact = [value.astype(np.float32).astype(np.float64) for value in values]
    output, _ = operation.forward(*exact, **constants)
    return exact, constants, np.asarray(rng.normal(size=output.shape).astype(np.float32).astype(np.float64))


def _beside_loops(name: str, operation: ModuleType, case: Case, seed: int) -> tuple[Results, Results]:
    values, constants, cotangent = _inputs(operation, case, seed)
    lists = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in constants.items()}
    remembered = [scalars.remembered(value.tolist()) for value in values]
    nested = np.array(TRANSCRIPTIONS[name](*remembered, **lists), dtype=object)
    total = scalars.dot(cotangent.ravel().tolist(), nested.ravel().tolist())
    slopes = [np.array(slope, np.float64) for slope in scalars.gradients(total, remembered)]
    output = np.array([scalars.value_of(x) for x in nested.ravel()], np.float64).reshape(nested.shape)
    expected = {"output": output, **dict(zip(_gradient_names(operation, len(values)), slopes, strict=True))}
    return _ours(operation, values, constants, cotangent), expected


def _beside_torch(name: str, operation: ModuleType, case: Case, seed: int) -> tuple[Results, Results]:
    values, constants, cotangent = _inputs(operation, case, seed)
    output, gradients = torch_oracle.operation(name, values, constants, cotangent)
    expected = {"output": output, **dict(zip(_gradient_names(operation, len(values)), gradients, strict=True))}
    return _ours(operation, values, constants, cotangent), expected


def _beside_float64(name: str, operation: ModuleType, case: Case, seed: int) -> tuple[Results, Results]:
    values, constants, cotangent = _inputs(operation, case, seed)
    narrow = _ours(operation, [value.astype(np.float32) for value in values], constants, cotangent.astype(np.float32))
    for key, array in narrow.items():
        if array.dtype != np.float32:
            raise TypeError(f"{key} is {array.dtype} for float32 inputs")
    return narrow, _ours(operation, values, constants, cotangent)


_BESIDE = {LOOPS.name: _beside_loops, TORCH.name: _beside_torch, FLOAT32.name: _beside_float64}
