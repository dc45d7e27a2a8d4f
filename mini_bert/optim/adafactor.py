"""Adafactor: second moments of a matrix from those of its rows and columns (Shazeer and Stern 2018, algorithm 4).

    β̂ = min(β₂, 1 − t^−0.8)                                                  (ADAFACTOR.1)
    r ← β̂ r + (1 − β̂) mean over columns of (G² + ε₁)                         (ADAFACTOR.2)
    c ← β̂ c + (1 − β̂) mean over rows of (G² + ε₁)                            (ADAFACTOR.3)
    V̂ᵢⱼ = rᵢ cⱼ / mean(r)                                                    (ADAFACTOR.4)
    U = G / √V̂                                                               (ADAFACTOR.5)
    Θ ← Θ − η λ Θ                on decayed tensors only                     (ADAFACTOR.6)
    Θ ← Θ − η U / max(1, RMS(U) / d)                                         (ADAFACTOR.7)

A vector keeps its second moment whole: v ← β̂ v + (1 − β̂)(g² + ε₁) stands for V̂. No momentum, ε₁ = 1e-30, d = 1.

Differs from the paper: the step is the schedule's η itself, as in the other optimisers, and neither 1/√t nor multiplied
by the size of the parameters; means stand for its sums, which changes V̂ by nothing;
β̂ has a limit, as in Zhai et al. 2022.
`torch.optim.Adafactor` multiplies η by the size of the parameters, and bounds V̂ below instead of adding ε₁.
Derivation: docs/derivations/adafactor.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import BLOCK, Array
from mini_bert.optim.layout import check_update

EPS = 1e-30
"""ε₁"""
LARGEST_RMS = 1.0
"""d: the root mean square above which an update is scaled down."""


class State(NamedTuple):
    """Second moments of one tensor; 4 (rows + columns) bytes a matrix in float32, which is next to nothing.

    Of a vector `rows` is as long as it is, 4 bytes a parameter, and `columns` is empty.
    """

    rows: Array
    columns: Array


def update(
    parameters: Array,
    gradients: Array,
    state: State,
    *,
    step: int,
    lr: float,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    scale: float = 1.0,
) -> None:
    """One update of one tensor, and of its `state`, in place; `gradients` stay as they are.

    Args:
        parameters: [r, c] or [n], Θ.
        gradients: of the same shape, G before scaling.
        state: [r] and [c] of a matrix, [n] and [0] of a vector.
        step: t, counted from 1.
        lr: η.
        beta2: limit of β̂.
        weight_decay: λ; 0 for a tensor that does not decay.
        scale: factor on the gradients, from clipping and averaging.

    Raises:
        InvalidInputError: shapes differ, or `step` is not positive.
    """
    check_update(parameters, step, gradients=gradients)
    if (*state.rows.shape, *(state.columns.shape if parameters.ndim == 2 else ())) != parameters.shape:
        got = f"{state.rows.shape} and {state.columns.shape}"
        raise InvalidInputError("state", got=got, expected=f"moments of a tensor {parameters.shape}")
    decay = min(beta2, 1.0 - float(step) ** -0.8)  # (ADAFACTOR.1)
    if parameters.ndim == 1:
        g = gradients * scale
        g *= g
        g += EPS
        _average(state.rows, g, decay)
        row_factor, column_factor = 1.0 / np.sqrt(state.rows)[:, None], np.ones(1, parameters.dtype)
        parameters, gradients = parameters[:, None], gradients[:, None]
    else:
        rows, columns = _mean_squares(gradients, scale)
        _average(state.rows, rows, decay)  # (ADAFACTOR.2)
        _average(state.columns, columns, decay)  # (ADAFACTOR.3)
        row_factor = np.sqrt(state.rows.mean() / state.rows)[:, None]
        column_factor = 1.0 / np.sqrt(state.columns)  # (ADAFACTOR.4): their product is 1/√V̂
    squares = math.fsum(
        float(np.einsum("ij,ij->", U, U)) for _, U in _directions(gradients, scale, row_factor, column_factor)
    )
    step_size = lr / max(1.0, math.sqrt(squares / parameters.size) / LARGEST_RMS)
    for block, U in _directions(gradients, scale, row_factor, column_factor):
        theta = parameters[block]
        if weight_decay:
            theta *= 1.0 - lr * weight_decay  # (ADAFACTOR.6)
        U *= step_size
        theta -= U  # (ADAFACTOR.7)


def _average(moment: Array, now: Array, decay: float) -> None:
    moment *= decay
    moment += now * (1.0 - decay)


def _row_blocks(gradients: Array) -> Iterator[slice]:
    """Rows that fill a cache-sized block."""
    rows, columns = gradients.shape
    each = max(1, BLOCK // columns)
    return (slice(start, min(start + each, rows)) for start in range(0, rows, each))


def _mean_squares(gradients: Array, scale: float) -> tuple[Array, Array]:
    """Means of G² + ε₁ over each row and each column."""
    rows, columns = np.empty(gradients.shape[0], gradients.dtype), np.zeros(gradients.shape[1])
    for block in _row_blocks(gradients):
        squares = gradients[block] * scale
        squares *= squares
        rows[block] = squares.mean(axis=1)
        columns += squares.sum(axis=0)
    columns /= gradients.shape[0]
    return rows + gradients.dtype.type(EPS), (columns + EPS).astype(gradients.dtype)


def _directions(
    gradients: Array, scale: float, row_factor: Array, column_factor: Array
) -> Iterator[tuple[slice, Array]]:
    """The update before its clipping (ADAFACTOR.5), block by block."""
    for block in _row_blocks(gradients):
        U = gradients[block] * scale
        U *= row_factor[block]
        U *= column_factor
        yield block, U
