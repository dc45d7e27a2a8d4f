"""Which theorems do the right values and gradients of an operation fulfil, whatever its inputs?

An identity needs no reference: it compares two ways to the same number, or a sum with the zero that it has to be. The
error is relative to the numbers that enter, so that 1e-10 means ten digits whatever their size. All are written against
the contract alone (inputs, output, gradients, taps), never against what an operation saves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops.contract import Array, Case

EVERY_OPERATION, ACTIVATIONS = "every operation", "activations"


class Call(NamedTuple):
    """An operation on one of its cases, with a random cotangent and the gradients that it leads to."""

    operation: ModuleType
    values: tuple[Array, ...]
    constants: dict[str, Any]
    output: Array
    cotangent: Array
    gradients: tuple[Array, ...]

    @classmethod
    def of(cls, operation: ModuleType, case: Case, seed: int = 0) -> Call:
        """Call `operation` on `case`."""
        rng = np.random.default_rng(seed)
        values, constants = case.make(rng)
        output, saved = operation.forward(*values, **constants)
        cotangent = np.asarray(rng.normal(size=output.shape))
        return cls(operation, values, constants, output, cotangent, tuple(operation.backward(cotangent, saved)))

    def output_for(self, *values: Array, **constants: Any) -> Array:
        """The output for other inputs, or other constants."""
        return np.asarray(self.operation.forward(*values, **{**self.constants, **constants})[0])

    def gradients_for(self, cotangent: Array, *values: Array) -> tuple[Array, ...]:
        """The gradients for another cotangent, and for other inputs where they are given."""
        _, saved = self.operation.forward(*(values or self.values), **self.constants)
        return tuple(self.operation.backward(cotangent, saved))


class OperationIdentity(NamedTuple):
    """A theorem about an operation; `error` is None on a case that it says nothing about."""

    operation: str
    """The name of one, `activations` for all that a model can be configured with, or `every operation`."""
    statement: str
    error: Callable[[Call], float | None]


def apart(got: Any, expected: Any) -> float:
    """‖got − expected‖ relative to the larger of the two.

    >>> apart([1.0, 2.0], [1.0, 2.0]), apart(4.0, 5.0)
    (0.0, 0.2)
    """
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        return math.inf
    difference, scale = float(np.linalg.norm((got - expected).ravel())), max(_size(got), _size(expected))
    return difference / scale if scale else difference


def cancels(terms: Array, axis: int = -1) -> float:
    """The largest |Σ terms| along an axis, relative to the largest √Σ terms² there.

    >>> cancels(np.array([[3.0, -3.0], [0.5, -0.5]])), cancels(np.array([3.0, 4.0]))
    (0.0, 1.4)
    """
    sums = float(np.abs(terms.sum(axis=axis)).max(initial=0.0))
    sizes = float(np.sqrt((terms * terms).sum(axis=axis)).max(initial=0.0))
    return sums / sizes if sizes else sums


def _size(x: Array) -> float:
    return float(np.linalg.norm(np.ravel(x)))


def _inner(x: Array, y: Array) -> float:
    return float((x * y).sum())


def _same_inner(*pairs: tuple[Array, Array]) -> float:
    """How far the sums Σ x y of the pairs are apart, relative to the largest ‖x‖ ‖y‖: a sum may nearly cancel."""
    sums = [_inner(x, y) for x, y in pairs]
    return (max(sums) - min(sums)) / max(_size(x) * _size(y) for x, y in pairs)


def _row_shift(c: Call) -> Array:
    """The first input with something of its size added that is the same along the last axis."""
    x = c.values[0]
    return np.asarray(x + np.random.default_rng(7).normal(size=(*x.shape[:-1], 1)) * np.abs(x).max())


# --- layer normalisation --------------------------------------------------------------------------------------------


def _standardised(c: Call) -> tuple[Array, Array]:
    """x̂ and the variance, from the input alone."""
    x, eps = c.values[0], c.constants["eps"]
    deviation = x - x.mean(axis=-1, keepdims=True)
    variance = (deviation * deviation).mean(axis=-1, keepdims=True)
    return deviation / np.sqrt(variance + eps), variance


def _moments(c: Call) -> float:
    """(y − β) / γ has mean 0 and mean square σ² / (σ² + ε)."""
    _, gamma, beta = c.values
    y, variance = (c.output - beta) / gamma, _standardised(c)[1]
    square = (y * y).mean(axis=-1, keepdims=True)
    return max(cancels(y), apart(square, variance / (variance + c.constants["eps"])))


def _beside_x_hat(c: Call) -> float:
    """Σ dx x̂ = ε (σ² + ε)^(-3/2) Σ dy γ x̂, which is nothing for BERT's ε. It is x̂ that dx is orthogonal to, not γ x̂."""
    x_hat, variance = _standardised(c)
    eps, terms = c.constants["eps"], c.gradients[0] * x_hat
    left_by_eps = eps * (variance + eps) ** -1.5 * (c.cotangent * c.values[1] * x_hat).sum(axis=-1, keepdims=True)
    sizes = np.sqrt((terms * terms).sum(axis=-1))
    return float(np.abs(terms.sum(axis=-1, keepdims=True) - left_by_eps).max() / sizes.max())


def _stretched(c: Call) -> float:
    x, *others = c.values
    return apart(c.output_for(3.0 * x, *others, eps=9.0 * c.constants["eps"]), c.output)


def _unit_square(c: Call) -> float:
    """(y / γ)² has the mean q / (q + ε), where q is that of x²."""
    x, gamma = c.values
    y, square, eps = c.output / gamma, (x * x).mean(axis=-1), c.constants["eps"]
    return apart((y * y).mean(axis=-1), square / (square + eps))


def _beside_x(c: Call) -> float:
    """Σ dx x = ε (q + ε)^(-3/2) Σ dy γ x, q the mean of x²: nothing for BERT's ε."""
    x, gamma = c.values
    root, eps = np.sqrt((x * x).mean(axis=-1) + c.constants["eps"]), c.constants["eps"]
    terms = c.gradients[0] * x
    left_by_eps = eps * root**-3 * (c.cotangent * gamma * x).sum(axis=-1)
    return float(np.abs(terms.sum(axis=-1) - left_by_eps).max() / np.sqrt((terms * terms).sum(axis=-1)).max())


# --- attention ------------------------------------------------------------------------------------------------------


def _weights(c: Call) -> Array:
    """The weights before dropout, as a tap sees them."""
    seen: dict[str, Array] = {}

    def tap(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    c.output_for(*c.values, tap=tap)
    return seen["attention.attention_weights"]


def _at_padding(c: Call) -> float | None:
    """The largest weight of a key of padding, and the largest gradient there, in rows that have a real key."""
    mask = c.constants["mask_BS"]
    if mask is None:
        return None
    hidden = ~mask & mask.any(axis=1, keepdims=True)
    weights = np.abs(_weights(c)) * hidden[:, None, None, :]
    gradients = [np.abs(gradient) * hidden[:, None, :, None] for gradient in c.gradients[1:3]]
    return float(max(array.max() for array in (weights, *gradients)))


def _shifted_keys(c: Call) -> float:
    Q, K, V, *bias = c.values
    shift = np.random.default_rng(7).normal(size=(*K.shape[:-2], 1, K.shape[-1]))
    return max(apart(c.output_for(Q, K + shift, V, *bias), c.output), cancels(c.gradients[1], axis=-2))


def _other_order_of_keys(c: Call) -> float | None:
    if c.constants["stream"] is not None:
        return None  # a draw belongs to its place
    Q, K, V, *bias = c.values
    mask, order = c.constants["mask_BS"], np.random.default_rng(7).permutation(K.shape[-2])
    permuted = [Q, K[..., order, :], V[..., order, :], *(N[..., order] for N in bias)]
    return apart(c.output_for(*permuted, mask_BS=None if mask is None else mask[:, order]), c.output)


def _biased_rows(c: Call) -> float | None:
    """A number added to all scores of a query changes nothing, so each query's gradient of the bias sums to 0."""
    if len(c.values) < 4:
        return None
    Q, K, V, bias = c.values
    shift = np.random.default_rng(7).normal(size=(*bias.shape[:-1], 1))
    return max(apart(c.output_for(Q, K, V, bias + shift), c.output), cancels(c.gradients[3]))


# --- positions and gates --------------------------------------------------------------------------------------------


def _lengths_of_pairs(c: Call) -> float:
    x, y = (array.reshape(*array.shape[:-1], -1, 2) for array in (c.values[0], c.output))
    return apart((y * y).sum(axis=-1), (x * x).sum(axis=-1))


def _turned_further(c: Call) -> float:
    """Inner products of rows at two positions, before and after both have moved on by 5."""
    x, positions = c.values[0], c.constants["positions"]
    other = np.random.default_rng(7).normal(size=x.shape)
    elsewhere = np.roll(positions, 1, axis=-1)

    def products(shift: int) -> Array:
        left = c.output_for(x, positions=positions + shift)
        return np.asarray((left * c.output_for(other, positions=elsewhere + shift)).sum(axis=-1))

    return apart(products(5), products(0))


def _turned_back(c: Call) -> float:
    """Backward is the inverse, and the inverse is to go to the negative positions."""
    there_and_back = c.gradients_for(c.output)[0]
    return max(
        apart(there_and_back, c.values[0]),
        apart(c.gradients[0], c.output_for(c.cotangent, positions=-c.constants["positions"])),
    )


def _all_distances_alike(c: Call) -> float:
    """A table whose rows are all the same adds the same to all scores of a query."""
    *before, table = c.values
    output = c.output_for(*before, np.broadcast_to(table[:1], table.shape))
    return apart(output, np.broadcast_to(output[..., :1], output.shape))


# --- others ---------------------------------------------------------------------------------------------------------


def _kept_or_dropped(c: Call) -> float:
    x, y = c.values[0], c.output
    dropped_levels = round(c.constants["p"] * 2**16) if c.constants["stream"] is not None else 0
    scaled = x * 2**16 / (2**16 - dropped_levels)
    return float(np.minimum(np.abs(y), np.abs(y - scaled)).max() / np.abs(scaled).max())


def _linear_in_cotangent(c: Call) -> float:
    other = np.asarray(np.random.default_rng(7).normal(size=c.cotangent.shape))
    together = c.gradients_for(np.asarray(2.0 * c.cotangent - 3.0 * other))
    apart_s = zip(together, c.gradients, c.gradients_for(other), strict=True)
    return max(apart(both, 2.0 * one - 3.0 * two) for both, one, two in apart_s)


def _same_bits(c: Call) -> float:
    again = (c.output_for(*c.values), *c.gradients_for(c.cotangent))
    return float(sum(np.sum(one != two) for one, two in zip(again, (c.output, *c.gradients), strict=True)))


def _negated(c: Call) -> Array:
    return np.asarray(-c.values[0])


OPERATION_IDENTITIES = (
    OperationIdentity("softmax", "rows sum to 1", lambda c: apart(c.output.sum(-1), np.ones(c.output.shape[:-1]))),
    OperationIdentity("softmax", "the gradient of a row sums to 0", lambda c: cancels(c.gradients[0])),
    OperationIdentity(
        "softmax", "a shift of a whole row changes nothing", lambda c: apart(c.output_for(_row_shift(c)), c.output)
    ),
    OperationIdentity("cross_entropy", "the gradient of a row sums to 0", lambda c: cancels(c.gradients[0])),
    OperationIdentity(
        "cross_entropy",
        "a shift of a whole row changes nothing",
        lambda c: apart(c.output_for(_row_shift(c)), c.output),
    ),
    OperationIdentity("layer_norm", "(y − β) / γ has mean 0 and mean square σ² / (σ² + ε)", _moments),
    OperationIdentity("layer_norm", "dx is orthogonal to 1", lambda c: cancels(c.gradients[0])),
    OperationIdentity("layer_norm", "dx is orthogonal to x̂, but for what ε leaves", _beside_x_hat),
    OperationIdentity(
        "layer_norm",
        "a shift of a whole row changes nothing",
        lambda c: apart(c.output_for(_row_shift(c), *c.values[1:]), c.output),
    ),
    OperationIdentity("layer_norm", "stretching x, and ε with it, changes nothing", _stretched),
    OperationIdentity(
        "layer_norm",
        "Σ γ dγ = Σ dy (y − β), and Σ β dβ = Σ dy β",
        lambda c: max(
            _same_inner((c.values[1], c.gradients[1]), (c.cotangent, c.output - c.values[2])),
            _same_inner((c.values[2], c.gradients[2]), (c.cotangent, c.output * 0.0 + c.values[2])),
        ),
    ),
    OperationIdentity("rms_norm", "y / γ has the mean square q / (q + ε), q that of x", _unit_square),
    OperationIdentity("rms_norm", "dx is orthogonal to x, but for what ε leaves", _beside_x),
    OperationIdentity("rms_norm", "stretching x, and ε with it, changes nothing", _stretched),
    OperationIdentity(
        "rms_norm",
        "Σ γ dγ = Σ dy y",
        lambda c: _same_inner((c.values[1], c.gradients[1]), (c.cotangent, c.output)),
    ),
    OperationIdentity(
        "linear",
        "Σ x dx = Σ W dW = Σ dy (y − b), and Σ b db = Σ dy b",
        lambda c: max(
            _same_inner(
                (c.values[0], c.gradients[0]), (c.values[1], c.gradients[1]), (c.cotangent, c.output - c.values[2])
            ),
            _same_inner((c.values[2], c.gradients[2]), (c.cotangent, c.output * 0.0 + c.values[2])),
        ),
    ),
    OperationIdentity(
        "embedding",
        "the rows of dE sum to the rows of dy",
        lambda c: apart(c.gradients[0].sum(axis=0), c.cotangent.reshape(-1, c.cotangent.shape[-1]).sum(axis=0)),
    ),
    OperationIdentity(
        "embedding", "Σ E dE = Σ dy y", lambda c: _same_inner((c.values[0], c.gradients[0]), (c.cotangent, c.output))
    ),
    OperationIdentity("dropout", "every number is 0, or divided by 1 − p", _kept_or_dropped),
    OperationIdentity(
        "dropout", "Σ x dx = Σ dy y", lambda c: _same_inner((c.values[0], c.gradients[0]), (c.cotangent, c.output))
    ),
    OperationIdentity(
        ACTIVATIONS, "f(x) − f(−x) = x", lambda c: apart(c.output - c.output_for(_negated(c)), c.values[0])
    ),
    OperationIdentity(
        ACTIVATIONS,
        "f′(x) + f′(−x) = 1",
        lambda c: apart(c.gradients[0] + c.gradients_for(c.cotangent, _negated(c))[0], c.cotangent),
    ),
    OperationIdentity("tanh", "tanh(−x) = −tanh(x)", lambda c: apart(c.output_for(_negated(c)), -c.output)),
    OperationIdentity(
        "tanh",
        "tanh(2x) = 2 tanh(x) / (1 + tanh(x)²)",
        lambda c: apart(c.output_for(2.0 * c.values[0]), 2.0 * c.output / (1.0 + c.output * c.output)),
    ),
    OperationIdentity(
        "attention", "weights sum to 1", lambda c: apart(_weights(c).sum(-1), np.ones(c.output.shape[:-1]))
    ),
    OperationIdentity("attention", "padding has no weight and no gradient", _at_padding),
    OperationIdentity("attention", "a shift of all keys changes nothing, and Σ dK = 0", _shifted_keys),
    OperationIdentity("attention", "keys have no order", _other_order_of_keys),
    OperationIdentity("attention", "a shift of a query's whole bias changes nothing", _biased_rows),
    OperationIdentity(
        "attention",
        "Σ Q dQ = Σ K dK",
        lambda c: _same_inner((c.values[0], c.gradients[0]), (c.values[1], c.gradients[1])),
    ),
    OperationIdentity(
        "attention", "Σ V dV = Σ dC C", lambda c: _same_inner((c.values[2], c.gradients[2]), (c.cotangent, c.output))
    ),
    OperationIdentity("sigmoid", "σ(−x) = 1 − σ(x)", lambda c: apart(c.output_for(_negated(c)), 1.0 - c.output)),
    OperationIdentity(
        "sigmoid",
        "σ(x) = (1 + tanh(x/2)) / 2",
        lambda c: apart(c.output, 0.5 + 0.5 * np.tanh(0.5 * c.values[0])),
    ),
    OperationIdentity(
        "gate",
        "gates of 1 change nothing",
        lambda c: apart(c.output_for(c.values[0], c.values[1] * 0 + 1), c.values[0]),
    ),
    OperationIdentity(
        "gate",
        "Σ x dx = Σ g dg = Σ dy y",
        lambda c: _same_inner(*zip(c.values, c.gradients, strict=True), (c.cotangent, c.output)),
    ),
    OperationIdentity("rotary", "every pair keeps its length", _lengths_of_pairs),
    OperationIdentity("rotary", "inner products see the difference of positions alone", _turned_further),
    OperationIdentity("rotary", "backward turns back", _turned_back),
    OperationIdentity(
        "by_distance", "Σ x dx = Σ dy y", lambda c: _same_inner((c.values[0], c.gradients[0]), (c.cotangent, c.output))
    ),
    OperationIdentity("relative_keys", "embeddings that are all alike add the same for all keys", _all_distances_alike),
    OperationIdentity(
        "relative_keys",
        "Σ Q dQ = Σ E dE = Σ dN N",
        lambda c: _same_inner(*zip(c.values, c.gradients, strict=True), (c.cotangent, c.output)),
    ),
    OperationIdentity("relative_bias", "buckets that are all alike add the same for all keys", _all_distances_alike),
    OperationIdentity(
        "relative_bias",
        "the rows of dE sum to the gradient of each head",
        lambda c: apart(c.gradients[0].sum(axis=0), c.cotangent.sum(axis=(0, 2, 3))),
    ),
    OperationIdentity(EVERY_OPERATION, "backward is linear in its cotangent", _linear_in_cotangent),
    OperationIdentity(EVERY_OPERATION, "two calls give the same bits", _same_bits),
)
