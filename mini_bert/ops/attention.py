"""Scaled dot-product attention, all heads at once (Vaswani et al. 2017, equation 1).

    Z  = Q Kᵀ / √K                   scores, [B, A, T, S]                    (ATT.1)
    Z  = Z + N                       a bias of positions, where there is one (ATT.10)
    Z  = −10⁹ where the key is padding                                       (ATT.2)
    P  = softmax(Z)                  over the keys                           (ATT.3)
    P' = dropout(P)                                                          (ATT.4)
    C  = P' V                        context, [B, A, T, K]                   (ATT.5)

    dV  = P'ᵀ dC                     dP' = dC Vᵀ                             (ATT.6)
    dP  = dropout backward of dP'                                            (ATT.7)
    dZ  = P ⊙ (dP − Σ_s dP P)        0 where the key is padding              (ATT.8)
    dQ  = dZ K / √K                  dK = dZᵀ Q / √K                         (ATT.9)
    dN  = dZ                         summed over rows that share it          (ATT.11)

Masked scores are replaced, not lowered: the weight of padding is exactly 0 beside any real key, its gradient is 0, and
a row whose keys are all padding is uniform and finite. Derivation: docs/derivations/attention.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops import dropout, softmax
from mini_bert.ops.contract import Array, Case, Cost, Tap, identity
from mini_bert.random_streams import RandomStream

MASKED_SCORE = -1e9


class Saved(NamedTuple):
    """Q, K and V, which are views of the projections, and the weights before and after dropout.

    Recomputed instead of saved: the scores, which (ATT.8) does not read.
    """

    Q_BATK: Array
    K_BASK: Array
    V_BASK: Array
    probs: softmax.Saved
    dropped_BATS: Array
    """The weights that V was summed with; the weights themselves where nothing was dropped."""
    dropout: dropout.Saved
    mask_BS: Array | None
    bias_rows: int | None
    """Leading axis of the bias: B, or 1 where all rows share it; None: there was none."""


def forward(
    Q_BATK: Array,
    K_BASK: Array,
    V_BASK: Array,
    bias_BATS: Array | None = None,
    *,
    mask_BS: Array | None = None,
    p: float = 0.0,
    stream: RandomStream | None = None,
    first_row: int = 0,
    rows: Array | None = None,
    out_BATK: Array | None = None,
    tap: Tap = identity,
    name: str = "attention",
) -> tuple[Array, Saved]:
    """Return the context C [B, A, T, K].

    Args:
        Q_BATK: queries; T may differ from S where only some positions ask.
        K_BASK: keys.
        V_BASK: values.
        bias_BATS: added to the scores; [1, A, T, S] where all rows of the batch share it.
        mask_BS: bool, False on padding keys; None where all keys are real.
        p: dropout probability of the weights (ATT.4).
        stream: random numbers of this site; None at inference.
        first_row: number, in the global batch, of the first row of the flattened weights [B A T, S].
        rows: numbers of those rows from `first_row`, where they are not all there.
        out_BATK: where to write C, such as a transposed view of [B, T, H]; by default a new array.
        tap: sees `scores` and `attention_weights`.
        name: prefix of the tapped names.
    """
    scale = 1.0 / math.sqrt(Q_BATK.shape[-1])
    scores_BATS = Q_BATK @ K_BASK.swapaxes(-1, -2)
    scores_BATS *= scale  # (ATT.1)
    if bias_BATS is not None:
        scores_BATS += bias_BATS  # (ATT.10)
    if mask_BS is not None:
        np.copyto(scores_BATS, MASKED_SCORE, where=~mask_BS[:, None, None, :])  # (ATT.2)
    scores_BATS = tap(f"{name}.scores", scores_BATS)
    probs_BATS, probs_saved = softmax.forward(scores_BATS)  # (ATT.3)
    probs_BATS = tap(f"{name}.attention_weights", probs_BATS)  # (ATT.8) is about softmax's own output, not the tap's
    dropped_BATS, dropout_saved = dropout.forward(probs_BATS, p=p, stream=stream, first_row=first_row, rows=rows)
    context_BATK = np.matmul(dropped_BATS, V_BASK, out=out_BATK)  # (ATT.5)
    bias_rows = None if bias_BATS is None else bias_BATS.shape[0]
    saved = Saved(Q_BATK, K_BASK, V_BASK, probs_saved, dropped_BATS, dropout_saved, mask_BS, bias_rows)
    return context_BATK, saved


def backward(
    dcontext_BATK: Array,
    saved: Saved,
    *,
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
    tap: Tap = identity,
    name: str = "attention",
) -> tuple[Array, ...]:
    """Return dQ, dK and dV in the shapes of Q, K and V, written to `out` where arrays are given there; dbias behind."""
    Q_BATK, K_BASK, V_BASK, probs, dropped_BATS, dropout_saved, mask_BS, bias_rows = saved
    scale = 1.0 / math.sqrt(Q_BATK.shape[-1])
    dV_BASK = np.matmul(dropped_BATS.swapaxes(-1, -2), dcontext_BATK, out=out[2])  # (ATT.6)
    dprobs_BATS = dcontext_BATK @ V_BASK.swapaxes(-1, -2)
    (dprobs_BATS,) = dropout.backward(dprobs_BATS, dropout_saved)  # (ATT.7)
    dprobs_BATS = tap(f"{name}.attention_weights", dprobs_BATS)
    (dscores_BATS,) = softmax.backward(dprobs_BATS, probs)  # (ATT.8)
    if mask_BS is not None:
        np.copyto(dscores_BATS, 0.0, where=~mask_BS[:, None, None, :])  # only a fully masked row has anything there
    dscores_BATS = tap(f"{name}.scores", dscores_BATS)
    dbias = () if bias_rows is None else (_shared(dscores_BATS, bias_rows),)  # (ATT.11)
    dscores_BATS = dscores_BATS * scale
    dQ_BATK = np.matmul(dscores_BATS, K_BASK, out=out[0])  # (ATT.9)
    dK_BASK = np.matmul(dscores_BATS.swapaxes(-1, -2), Q_BATK, out=out[1])
    return dQ_BATK, dK_BASK, dV_BASK, *dbias


def _shared(dscores_BATS: Array, rows: int) -> Array:
    return dscores_BATS if rows == dscores_BATS.shape[0] else np.asarray(dscores_BATS.sum(axis=0, keepdims=True))


def cost(B: int, A: int, T: int, S: int, K: int) -> Cost:
    """Cost for T queries and S keys of width K, in A heads of B rows, without dropout."""
    weights = B * A * T * S
    inner = softmax.cost(B * A * T, S)
    return Cost(
        4 * weights * K + weights + inner.forward_flops,
        8 * weights * K + weights + inner.backward_flops,
        inner.saved_bytes,
    )


def _case(
    name: str,
    B: int,
    A: int,
    T: int,
    S: int,
    K: int,
    lengths: list[int] | None = None,
    p: float = 0.0,
    bias_rows: int | None = None,
) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
        mask = None if lengths is None else np.arange(S) < np.array(lengths)[:, None]
        constants = {"mask_BS": mask, "p": p, "stream": RandomStream(1, "case", 2) if p else None}
        shapes = [(B, A, T, K), (B, A, S, K), (B, A, S, K)]
        if bias_rows is not None:
            shapes.append((bias_rows, A, T, S))
        return tuple(rng.normal(size=shape) for shape in shapes), constants

    return Case(name, make)


CASES = (
    _case("no padding", 2, 2, 3, 3, 4),
    _case("fewer queries than keys", 1, 2, 2, 5, 3),
    _case("padding", 3, 1, 4, 4, 2, lengths=[4, 2, 1]),
    _case("a row of padding only", 2, 1, 2, 3, 2, lengths=[0, 3]),
    _case("dropout", 1, 2, 4, 4, 3, lengths=[3], p=0.3),
    _case("a bias for each row, padding", 2, 2, 3, 4, 3, lengths=[4, 2], bias_rows=2),
    _case("a bias that all rows share, dropout", 3, 2, 2, 3, 2, lengths=[3, 0, 2], p=0.3, bias_rows=1),
)
