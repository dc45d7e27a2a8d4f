"""Muon: the momentum of a matrix, made orthogonal (Jordan et al. 2024; scaled as in Liu et al. 2025).

    M ← μ M + (1 − μ) G                                                      (MUON.1)
    X = (1 − μ) G + μ M          Nesterov; X = M without                     (MUON.2)
    X ← X / (‖X‖ + ε)            Frobenius norm                              (MUON.3)
    A = X Xᵀ;  X ← (a I + b A + c A²) X         five times                   (MUON.4)
    Θ ← Θ − η λ Θ                                                            (MUON.5)
    Θ ← Θ − η · 0.2 √max(r, c) · X              Θ is [r, c]                  (MUON.6)

(MUON.4) brings every singular value of X near 1: X = U S Vᵀ becomes about U Vᵀ. (MUON.6) gives the update the root mean
square of AdamW's, about 0.2, so that η and λ mean the same for both. Embeddings, heads, biases and norms are AdamW's.

Differs from Jordan's code, and from `torch.optim.Muon`, in the precision: theirs iterate in bfloat16, this in the
parameters' own dtype. W_Q, W_K and W_V are three matrices here. Derivation: docs/derivations/muon.md.
"""

from __future__ import annotations

import math

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array
from mini_bert.optim.layout import check_update

QUINTIC = (3.4445, -4.7750, 2.0315)
"""a, b, c, tuned by Jordan so that small singular values grow as fast as they can."""
RMS = 0.2
"""Of AdamW's updates, as Liu et al. found it."""
_EPS = 1e-7


def update(
    parameters: Array,
    gradients: Array,
    momentum_buffer: Array,
    *,
    step: int,
    lr: float,
    momentum: float = 0.95,
    nesterov: bool = True,
    newton_schulz_steps: int = 5,
    weight_decay: float = 0.0,
    scale: float = 1.0,
) -> None:
    """One update of one matrix, and of its momentum, in place; `gradients` stay as they are.

    The state is M alone: 4 bytes a parameter of the matrices in float32, and AdamW's 8 of all others.

    Args:
        parameters: [r, c], Θ.
        gradients: [r, c], G before scaling.
        momentum_buffer: [r, c], M.
        step: counted from 1; the update is the same at each.
        lr: η.
        momentum: μ.
        nesterov: the X of (MUON.2), or M.
        newton_schulz_steps: how often (MUON.4).
        weight_decay: λ.
        scale: factor on the gradients, from clipping and averaging.

    Raises:
        InvalidInputError: shapes differ, or `step` is not positive.
    """
    check_update(parameters, step, gradients=gradients, momentum_buffer=momentum_buffer)
    g = gradients * (scale * (1.0 - momentum))
    momentum_buffer *= momentum
    momentum_buffer += g  # (MUON.1)
    if nesterov:
        g += momentum * momentum_buffer
    else:
        g[...] = momentum_buffer  # (MUON.2)
    X = orthogonal(g, newton_schulz_steps)
    if weight_decay:
        parameters *= 1.0 - lr * weight_decay  # (MUON.5)
    parameters -= (lr * RMS * math.sqrt(max(parameters.shape))) * X  # (MUON.6)


def orthogonal(matrix: Array, steps: int = 5) -> Array:
    """The matrix with singular values near 1, in the same singular vectors; a matrix of zeros stays one.

    After five steps those that were above a hundredth of the norm lie within 0.68 and 1.16.

    Raises:
        InvalidInputError: not two axes.
    """
    if matrix.ndim != 2:
        raise InvalidInputError("matrix", got=f"shape {matrix.shape}", expected="[rows, columns]")
    if matrix.shape[0] > matrix.shape[1]:
        return np.asarray(orthogonal(matrix.T, steps).T)  # the product X Xᵀ is that of the shorter side
    a, b, c = QUINTIC
    norm = math.sqrt(float(np.einsum("ij,ij->", matrix, matrix)))
    X: Array = np.divide(matrix, norm + _EPS, order="C")  # (MUON.3)
    Y, A = np.empty_like(X), np.empty((X.shape[0], X.shape[0]), X.dtype)
    polynomial = np.empty_like(A)
    for _ in range(steps):
        np.matmul(X, X.T, out=A)
        np.matmul(A, A.T, out=polynomial)  # A is symmetric, and X Xᵀ is half the work of X Y
        polynomial *= c
        A *= b
        polynomial += A
        polynomial.reshape(-1)[:: len(A) + 1] += a
        np.matmul(polynomial, X, out=Y)  # (MUON.4)
        X, Y = Y, X
    return X
