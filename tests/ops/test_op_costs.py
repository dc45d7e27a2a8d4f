"""What a call costs, counted by hand: every operation that the equations name, element by element."""

from __future__ import annotations

import pytest

from mini_bert.ops import (
    attention,
    by_distance,
    cross_entropy,
    dropout,
    embedding,
    gate,
    gelu,
    gelu_new,
    layer_norm,
    linear,
    relative_bias,
    relative_keys,
    relu,
    rms_norm,
    rotary,
    sigmoid,
    softmax,
    tanh,
)
from mini_bert.ops.contract import Cost


def test_softmax() -> None:
    """Forward: maximum, shift, exp, sum, division; backward: product and sum, shift, product; kept: p."""
    assert softmax.cost(3, 7) == Cost(5 * 21, 4 * 21, 4 * 21)
    assert softmax.cost(1, 1000) == Cost(5000, 4000, 4000)


def test_attention() -> None:
    """Two products of 2 K a weight, scaling and softmax; backward four products."""
    B, A, T, S, K = 2, 3, 5, 7, 11
    weights = 210
    forward = 2 * weights * K + weights + 5 * weights + 2 * weights * K
    backward = 4 * (2 * weights * K) + weights + 4 * weights
    assert attention.cost(B, A, T, S, K) == Cost(forward, backward, 4 * weights)
    assert attention.cost(1, 1, 1, 1, 1) == Cost(10, 13, 4)


def test_cross_entropy() -> None:
    """Forward: maximum, shift, exp, sum; backward: one product; kept: exponentials, and a total for each row."""
    assert cross_entropy.cost(3, 7) == Cost(4 * 21, 21, 4 * 21 + 4 * 3)


def test_layer_norm() -> None:
    """Forward: sum, shift, product and sum, division by σ, γ, β. Backward: γ and β 3, dx̂ 1, sum 1, dot 2, then 4."""
    assert layer_norm.cost(3, 7) == Cost(7 * 21, 11 * 21, 4 * 21 + 4 * 3)


def test_rms_norm() -> None:
    """Forward: product and sum, division by s, γ. Backward: γ 2, dx̂ 1, dot 2, then 3; kept: x̂, and 1/s for each row."""
    assert rms_norm.cost(3, 7) == Cost(4 * 21, 8 * 21, 4 * 21 + 4 * 3)


def test_linear() -> None:
    """A product of 2 · inputs an output, and the bias; backward two products, and the sum over rows."""
    assert linear.cost(3, 5, 7) == Cost(2 * 105 + 21, 2 * 105 + 2 * 105 + 21, 0)


def test_embedding() -> None:
    """Forward moves, backward adds; kept: an id of 8 bytes a row."""
    assert embedding.cost(3, 7) == Cost(0, 21, 24)


def test_rotary() -> None:
    """A complex product for each pair, 6 operations for 2 numbers, both ways; kept: a complex one a token and pair."""
    assert rotary.cost(5 * 7 * 4, 7, 4) == Cost(3 * 140, 3 * 140, 7 * 2 * 8)


def test_relative_keys() -> None:
    """A product with 2 S − 1 rows, and the scale; backward two products; kept: these rows."""
    assert relative_keys.cost(3, 4, 5) == Cost(2 * 21 * 5 + 21, 4 * 21 * 5 + 21, 4 * 7 * 5)


def test_relative_bias() -> None:
    """Backward: each number beside its distance, of every query; kept: 8 bytes for the bucket of a distance."""
    assert relative_bias.cost(2, 3, 4) == Cost(0, 2 * 3 * 7, 8 * 7)


def test_gate() -> None:
    """One product; backward one, and one product and sum."""
    assert gate.cost(3, 7) == Cost(21, 63, 0)


def test_by_distance() -> None:
    assert by_distance.cost(3, 7) == Cost(0, 0, 0)


@pytest.mark.parametrize(
    ("operation", "cost"),
    [
        (dropout, Cost(3 * 13, 2 * 13, 13)),  # draw, scale, mask; one byte an element is kept
        (gelu, Cost(25 * 13, 13, 4 * 13)),  # the chains of both GELUs are counted by the common suite
        (gelu_new, Cost(15 * 13, 13, 4 * 13)),
        (relu, Cost(13, 13, 13)),
        (sigmoid, Cost(4 * 13, 3 * 13, 4 * 13)),  # −x, exp, sum, quotient
        (tanh, Cost(13, 3 * 13, 4 * 13)),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else "",
)
def test_elementwise(operation: object, cost: Cost) -> None:
    assert operation.cost(13) == cost  # type: ignore[attr-defined]
    assert operation.cost(1) == Cost(*(count // 13 for count in cost))  # type: ignore[attr-defined]
