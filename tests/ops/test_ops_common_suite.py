"""What every operation has to pass: a new file in `mini_bert/ops` is tested the moment it exists."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mini_bert.ops import by_distance
from mini_bert.ops import erf as erf_module
from mini_bert.ops.contract import Array, Case, Cost
from mini_bert.random_streams import RandomStream
from mini_bert.verification.gradient_check import (
    CENTRAL_DIFFERENCE,
    COMPLEX_STEP,
    check_operation,
    gradient_errors,
    input_names,
    operations,
)
from mini_bert.verification.oracles.operations import ORACLES

OPERATIONS = operations()
CASES = [
    pytest.param(operation, case, id=f"{name}-{case.name}")
    for name, operation in OPERATIONS.items()
    for case in operation.CASES
]
every_case = pytest.mark.parametrize(("operation", "case"), CASES)
SEED = 20_260_101


def inputs_of(case: Case, dtype: Any = np.float64) -> tuple[list[Array], dict[str, Any]]:
    values, constants = case.make(np.random.default_rng(SEED))
    return [np.array(value, dtype) for value in values], constants


def cotangent_of(output: Array) -> Array:
    return np.random.default_rng(SEED + 1).normal(size=output.shape).astype(output.dtype)


def run(operation: ModuleType, values: list[Array], constants: dict[str, Any]) -> tuple[Array, tuple[Array, ...]]:
    output, saved = operation.forward(*values, **constants)
    return output, operation.backward(cotangent_of(output), saved)


def largest_error(got: tuple[Array, ...], expected: tuple[Array, ...]) -> float:
    names = [str(place) for place in range(len(expected))]
    errors = gradient_errors(dict(zip(names, got, strict=True)), dict(zip(names, expected, strict=True)))
    return max(error.error for error in errors)


def test_the_operations_of_the_faithful_bert_are_discovered() -> None:
    assert set(OPERATIONS) >= {
        "attention", "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "relu", "softmax", "tanh",
    }  # fmt: skip


def test_every_operation_has_an_oracle() -> None:
    assert set(OPERATIONS) == set(ORACLES)


@every_case
def test_forward_is_what_the_definition_says(operation: ModuleType, case: Case) -> None:
    values, constants = inputs_of(case)
    lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in constants.items()}
    expected = ORACLES[operation.__name__.rpartition(".")[2]](*(value.tolist() for value in values), **lists)
    output, _ = operation.forward(*values, **constants)
    assert output.shape == np.shape(expected)
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-13)


@every_case
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_by_complex_step(operation: ModuleType, case: Case, seed: int) -> None:
    check = check_operation(operation, case, COMPLEX_STEP, seed=seed)
    assert check.threshold == 1e-12
    assert check.passed, str(check)


@every_case
def test_gradient_by_central_differences(operation: ModuleType, case: Case) -> None:
    check = check_operation(operation, case, CENTRAL_DIFFERENCE)
    assert check.threshold == 1e-6
    assert check.passed, str(check)


@every_case
def test_gradients_come_in_the_order_and_shapes_of_the_inputs(operation: ModuleType, case: Case) -> None:
    values, constants = inputs_of(case)
    _, gradients = run(operation, values, constants)
    assert isinstance(gradients, tuple)
    assert [gradient.shape for gradient in gradients] == [value.shape for value in values]
    assert len(input_names(operation, len(values))) == len(values)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_dtype_is_preserved(operation: ModuleType, case: Case, dtype: Any) -> None:
    output, gradients = run(operation, *inputs_of(case, dtype))
    assert output.dtype == dtype
    assert {gradient.dtype for gradient in gradients} == {np.dtype(dtype)}


@every_case
def test_complex_numbers_on_the_real_axis_give_the_real_result(operation: ModuleType, case: Case) -> None:
    output, gradients = run(operation, *inputs_of(case))
    complex_output, complex_gradients = run(operation, *inputs_of(case, np.complex128))
    np.testing.assert_allclose(complex_output.real, output, rtol=1e-13, atol=1e-14)
    assert not complex_output.imag.any()
    assert largest_error(tuple(gradient.real for gradient in complex_gradients), gradients) <= 1e-13


@every_case
def test_float32_agrees_with_float64(operation: ModuleType, case: Case) -> None:
    narrow, constants = inputs_of(case, np.float32)
    output, gradients = run(operation, narrow, constants)
    wide_output, saved = operation.forward(*(value.astype(np.float64) for value in narrow), **constants)
    wide_gradients = operation.backward(cotangent_of(output).astype(np.float64), saved)
    assert largest_error((output,), (wide_output,)) <= 1e-4
    assert largest_error(gradients, wide_gradients) <= 1e-4


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_are_never_written_to(operation: ModuleType, case: Case, dtype: Any) -> None:
    values, constants = inputs_of(case, dtype)
    arrays = [*values, *(value for value in constants.values() if isinstance(value, np.ndarray))]
    for array in arrays:
        array.flags.writeable = False
    output, saved = operation.forward(*values, **constants)
    cotangent = cotangent_of(output)
    cotangent.flags.writeable = False
    operation.backward(cotangent, saved)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backward_can_be_called_again(operation: ModuleType, case: Case, dtype: Any) -> None:
    values, constants = inputs_of(case, dtype)
    output, saved = operation.forward(*values, **constants)
    output_before = output.copy()
    first = [gradient.copy() for gradient in operation.backward(cotangent_of(output), saved)]
    second = operation.backward(cotangent_of(output), saved)
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    assert np.array_equal(output, output_before)


@every_case
def test_two_calls_give_the_same_bits(operation: ModuleType, case: Case) -> None:
    first, first_gradients = run(operation, *inputs_of(case, np.float32))
    second, second_gradients = run(operation, *inputs_of(case, np.float32))
    assert first.tobytes() == second.tobytes()
    assert [g.tobytes() for g in first_gradients] == [g.tobytes() for g in second_gradients]


@every_case
def test_backward_is_linear_in_its_cotangent(operation: ModuleType, case: Case) -> None:
    values, constants = inputs_of(case)
    output, saved = operation.forward(*values, **constants)
    one, two = (np.random.default_rng(seed).normal(size=output.shape) for seed in (3, 4))
    together = operation.backward(np.asarray(2.0 * one - 3.0 * two), saved)
    apart = zip(operation.backward(one, saved), operation.backward(two, saved), strict=True)
    assert largest_error(together, tuple(2.0 * left - 3.0 * right for left, right in apart)) <= 1e-13


LAYOUTS = {
    "columns first": np.asfortranarray,
    "every other element": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "rows apart": lambda x: np.repeat(x, 3, axis=0)[::3],
}


@every_case
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_layout_in_memory_does_not_matter(operation: ModuleType, case: Case, layout: Any, dtype: Any) -> None:
    values, constants = inputs_of(case, dtype)
    output, gradients = run(operation, values, constants)
    other_output, saved = operation.forward(*(layout(value) for value in values), **constants)
    cotangent = cotangent_of(output)
    other_gradients = operation.backward(layout(cotangent) if cotangent.ndim else cotangent, saved)
    bound = 1e-13 if dtype is np.float64 else 1e-6
    assert largest_error((other_output,), (output,)) <= bound
    assert largest_error(other_gradients, gradients) <= bound


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_broadcast_inputs_and_cotangents(operation: ModuleType, case: Case, dtype: Any) -> None:
    values, constants = inputs_of(case, dtype)
    broadcast = [np.broadcast_to(value[:1], value.shape) for value in values]
    output, saved = operation.forward(*(value.copy() for value in broadcast), **constants)
    cotangent = cotangent_of(output)
    cotangent = np.broadcast_to(cotangent[:1] if output.ndim else cotangent, output.shape)
    gradients = operation.backward(cotangent.copy(), saved)
    other_output, other_saved = operation.forward(*broadcast, **constants)
    other_gradients = operation.backward(cotangent, other_saved)
    bound = 1e-13 if dtype is np.float64 else 1e-6
    assert largest_error((other_output,), (output,)) <= bound
    assert largest_error(other_gradients, gradients) <= bound


class Counted(np.ndarray):
    """An array that counts the arithmetic done with it: one for each element an elementary function makes or reduces.

    Comparisons, copies and index arithmetic are not arithmetic.
    """

    flops = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        bare = [np.asarray(value) if isinstance(value, Counted) else value for value in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(value) if isinstance(value, Counted) else value for value in out)
        result = getattr(ufunc, method)(*bare, **options)
        if ufunc is np.matmul:
            Counted.flops += 2 * result.size * bare[0].shape[-1]
        elif np.asarray(result).dtype.kind == "f":
            Counted.flops += result.size if method == "__call__" else bare[0].size
        elif ufunc is np.multiply and np.asarray(result).dtype.kind == "c":
            Counted.flops += 6 * result.size
        return out[0] if out is not None else np.asarray(result).view(Counted)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        bare = [np.asarray(value) if isinstance(value, Counted) else value for value in arguments]
        result = function(*bare, **options)
        if function is np.einsum:
            operands = bare[1:]
            Counted.flops += min(len(operands), 2) * max(value.size for value in operands)
        return result.view(Counted) if isinstance(result, np.ndarray) and result.dtype.kind == "f" else result

    def argmax(self, *arguments: Any, **options: Any) -> Any:
        Counted.flops += self.size  # as many comparisons as `max` has
        return np.asarray(self).argmax(*arguments, **options)


class CountingBuffers:
    """NumPy, except that an operation's own buffers count too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, *arguments: Any, **options: Any) -> Array:
        return np.empty(*arguments, **options).view(Counted)

    def zeros(self, *arguments: Any, **options: Any) -> Array:
        return np.zeros(*arguments, **options).view(Counted)


R, C = 40, 30  # large enough that the work done once a row or a column does not count
B, A, T, S, K = 2, 3, 8, 24, 16
SIZES: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any], tuple[int, ...]]] = {
    "attention": (((B, A, T, K), (B, A, S, K), (B, A, S, K)), {}, (B, A, T, S, K)),
    "by_distance": (((B, A, T, 2 * S - 1),), {}, (B * A * T, S)),
    "cross_entropy": (((R, C),), {"targets": np.arange(R) % C}, (R, C)),
    "dropout": (((R, C),), {"p": 0.1, "stream": RandomStream(0, "count")}, (R * C,)),
    "embedding": (((R, C),), {"ids": np.arange(R * 4) % 5}, (R * 4, C)),
    "gate": (((R, C), (R, 5)), {}, (R, C)),
    "gelu": (((R, C),), {}, (R * C,)),
    "gelu_new": (((R, C),), {}, (R * C,)),
    "layer_norm": (((R, C), (C,), (C,)), {}, (R, C)),
    "linear": (((R, C), (C, 20), (20,)), {}, (R, C, 20)),
    "relative_bias": (((32, A),), {"keys": S, "max_distance": 128}, (A, S, S)),
    "relative_keys": (((B, A, T, K), (2 * S - 1, K)), {"keys": S}, (B * A * T, S, K)),
    "relu": (((R, C),), {}, (R * C,)),
    "rms_norm": (((R, C), (C,)), {}, (R, C)),
    "rotary": (((B, A, T, K),), {"positions": np.arange(T)}, (B * A * T * K, T, K)),
    "sigmoid": (((R, C),), {}, (R * C,)),
    "softmax": (((R, C),), {}, (R, C)),
    "squared_error": (((R, 1),), {"targets": np.linspace(-1, 4, R)}, (R,)),
    "tanh": (((R, C),), {}, (R * C,)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_cost_is_what_is_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = OPERATIONS[name]
    shapes, constants, sizes = SIZES[name]
    cost = operation.cost(*sizes)
    if name == "dropout":
        cost = cost._replace(forward_flops=cost.forward_flops - R * C)  # the draw itself, which is not array arithmetic
    rng = np.random.default_rng(SEED)
    values = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    for module in (operation, by_distance):  # which works for two others
        monkeypatch.setattr(module, "np", CountingBuffers())

    Counted.flops = 0
    output, saved = operation.forward(*(value.view(Counted) for value in values), **constants)
    forward_flops = Counted.flops
    cotangent = rng.normal(size=output.shape).astype(np.float32).view(Counted)
    Counted.flops = 0
    operation.backward(cotangent, saved)
    assert isinstance(cost, Cost)
    assert cost.forward_flops == pytest.approx(forward_flops, rel=0.12)
    assert cost.backward_flops == pytest.approx(Counted.flops, rel=0.12)


def saved_bytes(saved: Any, others: list[Array]) -> int:
    if isinstance(saved, tuple):
        kept: list[Array] = []
        total = 0
        for part in saved:
            total += saved_bytes(part, [*others, *kept])
            kept += [part] if isinstance(part, np.ndarray) else list(part) if isinstance(part, tuple) else []
        return total
    if not isinstance(saved, np.ndarray) or any(np.shares_memory(saved, other) for other in others):
        return 0
    return saved.nbytes


@pytest.mark.parametrize("name", OPERATIONS)
def test_saved_bytes_are_those_that_are_kept(name: str) -> None:
    operation = OPERATIONS[name]
    shapes, constants, sizes = SIZES[name]
    values = [np.random.default_rng(SEED).normal(size=shape).astype(np.float32) for shape in shapes]
    _, saved = operation.forward(*values, **constants)
    kept = saved_bytes(saved, [*values, constants["targets"]] if name == "cross_entropy" else values)
    assert kept == operation.cost(*sizes).saved_bytes


def test_erf_fit_is_shared_with_gelu() -> None:
    from mini_bert.ops import gelu

    scaled = [c * np.sqrt(0.5) ** (2 * power + 1) for power, c in enumerate(erf_module.FIT)]
    np.testing.assert_allclose(gelu._FIT, scaled, rtol=1e-15)
