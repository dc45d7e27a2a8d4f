"""Every operation of `mini_bert.ops` as its definition says it, by loops over nested lists.

A function has the name of its operation and takes the same inputs and constants as its `forward`, arrays as nested
lists; it returns the output alone. `ORACLES` lists them. Numbers are floats, or `Scalar`s, which make the derivative of
the definition too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from mini_bert.verification.oracles import positions
from mini_bert.verification.oracles.philox import stream_lanes
from mini_bert.verification.oracles.scalars import Number, dot, erfc, exp, log, sqrt, total

Vector = list[Number]
Matrix = list[Vector]
Nested = Any
"""Lists of lists of … numbers, to any depth."""


def each_row(function: Callable[[Vector], Nested], x: Nested) -> Nested:
    """Apply `function` to each innermost list of `x`."""
    if x and isinstance(x[0], list):
        return [each_row(function, part) for part in x]
    return function(x)


def each_element(function: Callable[[Number], Number], x: Nested) -> Nested:
    """Apply `function` to each number of `x`."""
    return each_row(lambda row: [function(value) for value in row], x)


def linear(x: Nested, W: Matrix, b: Vector | None) -> Nested:
    """y_j = Σ_i x_i W_ij + b_j, or without b."""
    columns = [[W[i][j] for i in range(len(W))] for j in range(len(W[0]))]

    def map_row(row: Vector) -> Vector:
        products = [dot(row, column) for column in columns]
        return products if b is None else [b[j] + products[j] for j in range(len(b))]

    return each_row(map_row, x)


def embedding(E: Matrix, *, ids: Nested) -> Nested:
    """The row of the table that each id names."""
    return each_row(lambda row: [list(E[int(i)]) for i in row], ids)


def layer_norm(x: Nested, gamma: Vector, beta: Vector | None, *, eps: float = 1e-12) -> Nested:
    """Subtract the mean, divide by the root of the mean square deviation plus ε, stretch and shift."""

    def normalise(row: Vector) -> Vector:
        mean = total(row) / len(row)
        deviations = [value - mean for value in row]
        deviation = sqrt(dot(deviations, deviations) / len(row) + eps)
        stretched = [gamma[h] * deviations[h] / deviation for h in range(len(row))]
        return stretched if beta is None else [stretched[h] + beta[h] for h in range(len(row))]

    return each_row(normalise, x)


def rms_norm(x: Nested, gamma: Vector, *, eps: float = 1e-12) -> Nested:
    """Divide by the root of the mean square plus ε, and stretch."""

    def normalise(row: Vector) -> Vector:
        root = sqrt(dot(row, row) / len(row) + eps)
        return [gamma[h] * row[h] / root for h in range(len(row))]

    return each_row(normalise, x)


def gelu(x: Nested) -> Nested:
    """x times the probability that a standard normal variable lies below x."""
    return each_element(lambda value: value * 0.5 * erfc(-value / math.sqrt(2.0)), x)


def gelu_new(x: Nested) -> Nested:
    """x (1 + tanh u) / 2 with u = √(2/π) (x + 0.044715 x³), written with the logistic function: x / (1 + e^−2u)."""

    def activate(value: Number) -> Number:
        u = math.sqrt(2.0 / math.pi) * (value + 0.044715 * (value * value * value))
        return value / (1.0 + exp(-2.0 * u))

    return each_element(activate, x)


def relu(x: Nested) -> Nested:
    """The larger of x and 0."""
    return each_element(lambda value: max(value, 0.0), x)


def tanh(x: Nested) -> Nested:
    """(e^x − e^−x) / (e^x + e^−x)."""
    return each_element(lambda value: (exp(value) - exp(-value)) / (exp(value) + exp(-value)), x)


def sigmoid(x: Nested) -> Nested:
    """1 / (1 + e^−x)."""
    return each_element(lambda value: 1.0 / (1.0 + exp(-value)), x)


def dropout_factors(rows: list[int], columns: int, *, p: float, stream: Any) -> Matrix:
    """What each element of the rows numbered `rows` is multiplied by: 0 or 1 / (1 − p), p a multiple of 2⁻¹⁶."""
    if stream is None:
        return [[1.0] * columns for _ in rows]
    dropped_levels = round(p * 2**16)
    kept = 2**16 / (2**16 - dropped_levels)
    draws = (stream_lanes(stream.seed, stream.name, stream.step, row, columns) for row in rows)
    return [[kept if draw >= dropped_levels else 0.0 for draw in row] for row in draws]


def dropout(x: Nested, *, p: float, stream: Any, first_row: int = 0, rows: list[int] | None = None) -> Nested:
    """Each element times its factor; rows are numbered in the order in which they stand in `x`."""
    flat: Matrix = []
    each_row(flat.append, x)
    numbers = range(len(flat)) if rows is None else rows
    factors = dropout_factors([first_row + row for row in numbers], len(flat[0]), p=p, stream=stream)
    remaining: Iterator[Vector] = iter(factors)
    return each_row(lambda row: [value * factor for value, factor in zip(row, next(remaining), strict=True)], x)


def softmax(x: Nested) -> Nested:
    """exp(x_i) / Σ_j exp(x_j), written as 1 / Σ_j exp(x_j − x_i): no maximum is looked for."""

    def normalise(row: Vector) -> Vector:
        return [1.0 / total(exp(min(other - own, 700.0)) for other in row) for own in row]

    return each_row(normalise, x)


def cross_entropy(logits: Matrix, *, targets: list[int]) -> Number:
    """−Σ_m log p_m[target_m], with −log p[t] = log Σ_j exp(z_j − z_t)."""

    def surprise(row: Vector, target: int) -> Number:
        largest = max(row)
        return largest - row[target] + log(total(exp(value - largest) for value in row))

    return total(surprise(row, target) for row, target in zip(logits, targets, strict=True))


def squared_error(z: Matrix, *, targets: list[float]) -> Number:
    """Σ_m (z_m − target_m)²."""
    return total((row[0] - target) * (row[0] - target) for row, target in zip(z, targets, strict=True))


def attention(
    Q: list[list[Matrix]],
    K: list[list[Matrix]],
    V: list[list[Matrix]],
    bias: list[list[Matrix]] | None = None,
    *,
    mask_BS: list[list[bool]] | None = None,
    p: float = 0.0,
    stream: Any = None,
    first_row: int = 0,
) -> list[list[Matrix]]:
    """For each row b, head a and query t: weights over the keys s, and the sum of the values weighted with them.

    A bias is added to the scores, one for each row, or one that all rows share. Keys of padding have the weight 0;
    where all are padding, all have the same.
    """
    batch, heads, queries, keys, width = len(Q), len(Q[0]), len(Q[0][0]), len(K[0][0]), len(V[0][0][0])
    context = [[[[0.0] * width for _ in range(queries)] for _ in range(heads)] for _ in range(batch)]
    for b in range(batch):
        real = [s for s in range(keys) if mask_BS is None or mask_BS[b][s]]
        for a in range(heads):
            for t in range(queries):
                number = first_row + (b * heads + a) * queries + t
                weights = [0.0] * keys
                if real:
                    scores = [dot(Q[b][a][t], K[b][a][s]) / math.sqrt(len(Q[b][a][t])) for s in real]
                    if bias is not None:
                        own = bias[b % len(bias)][a][t]
                        scores = [score + own[s] for score, s in zip(scores, real, strict=True)]
                    for s, weight in zip(real, softmax(scores), strict=True):
                        weights[s] = weight
                else:
                    weights = [1.0 / keys] * keys
                (factors,) = dropout_factors([number], keys, p=p, stream=stream)
                kept = [weights[s] * factors[s] for s in range(keys)]
                for k in range(width):
                    context[b][a][t][k] = dot(kept, [V[b][a][s][k] for s in range(keys)])
    return context


ORACLES: dict[str, Callable[..., Nested]] = {
    "attention": attention,
    "by_distance": positions.by_distance,
    "cross_entropy": cross_entropy,
    "dropout": dropout,
    "embedding": embedding,
    "gate": positions.gate,
    "gelu": gelu,
    "gelu_new": gelu_new,
    "layer_norm": layer_norm,
    "linear": linear,
    "relative_bias": positions.relative_bias,
    "relative_keys": positions.relative_keys,
    "relu": relu,
    "rms_norm": rms_norm,
    "rotary": positions.rotary,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "squared_error": squared_error,
    "tanh": tanh,
}
