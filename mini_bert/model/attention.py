"""Multi-head self-attention: project, split into heads, attend, join, project (Vaswani et al. 2017, section 3.2.2).

    Q, K, V = x W_Q + b_Q,  x W_K + b_K,  x W_V + b_V                        (MHA.1)
    C       = concatenated heads of softmax(Q Kᵀ / √K) V                     (MHA.2)
    y       = C W_O + b_O                                                    (MHA.3)
    dx      = dQ W_Qᵀ + dK W_Kᵀ + dV W_Vᵀ                                    (MHA.4)

By choice, positions act on queries, keys and scores (`model/positions.py`), and a gate on the context, from the same x
as the queries (Qiu et al. 2025, after scaled dot-product attention): one number for each head, or each its own.

    C'      = C ⊙ sigmoid(x W_G + b_G)                                       (MHA.5)

Where the loss reads only some positions (`read`), only these ask: keys and values of all positions, queries of M.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.parameters import AttentionParameters, GateParameters, add_gradient
from mini_bert.model.positions import POSITIONS
from mini_bert.ops import attention, gate, linear, sigmoid
from mini_bert.ops.contract import Array


class GateSaved(NamedTuple):
    """What the operations of the gate keep."""

    scores: linear.Saved
    gate: sigmoid.Saved
    product: gate.Saved


class Saved(NamedTuple):
    """The input of the three projections and what the operations keep."""

    x_BTH: Array
    x_MH: Array | None
    """The rows that ask; None: all rows of x."""
    positions_kind: str
    positions: Any
    heads: attention.Saved
    gate: GateSaved | None
    output: linear.Saved


def attention_forward(
    x_BTH: Array, params: AttentionParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None = None
) -> tuple[Array, Saved]:
    """Return y [B, T, H], or [M, H] for the positions in `read` (MHA.1-3)."""
    B, T, H = x_BTH.shape
    A, K = config.num_attention_heads, config.head_size
    x_RH = x_BTH.reshape(-1, H)
    if read is None:
        projected_3RH = np.matmul(x_RH, params.W_QKV)
        if params.b_QKV is not None:
            projected_3RH += params.b_QKV[:, None, :]
        projected = projected_3RH.reshape(3, B, T, A, K).swapaxes(2, 3)
        Q_BATK, K_BASK, V_BASK = projected
        x_MH, queries, weight_rows = None, T, None
    else:
        projected_2RH = np.matmul(x_RH, params.W_QKV[1:])
        if params.b_QKV is not None:
            projected_2RH += params.b_QKV[1:, None, :]
        K_BASK, V_BASK = projected_2RH.reshape(2, B, T, A, K).swapaxes(2, 3)
        x_MH = read.gather(x_BTH)
        Q_MH = x_MH @ params.W_Q
        if params.b_QKV is not None:
            Q_MH += params.b_QKV[0]
        Q_BPH = read.to_rectangle(Q_MH)
        queries = read.shape[1]
        Q_BATK = Q_BPH.reshape(B, queries, A, K).swapaxes(1, 2)
        weight_rows = read.weight_rows(A, T) if run.dropout is not None else None
    Q_BATK, K_BASK = run.tap(f"{name}.Q", Q_BATK), run.tap(f"{name}.K", K_BASK)
    V_BASK = run.tap(f"{name}.V", V_BASK)
    kind = config.position_embedding_type
    Q_BATK, K_BASK, bias_BATS, positions_saved = POSITIONS[kind].forward(
        Q_BATK, K_BASK, params, config, run, name, read
    )

    context_BTH = np.empty((B, queries, H), x_BTH.dtype)
    _, heads_saved = attention.forward(
        Q_BATK,
        K_BASK,
        V_BASK,
        bias_BATS,
        mask_BS=run.mask_BS,
        p=config.attention_probs_dropout_prob,
        stream=None if run.dropout is None else run.dropout.at(f"{name}.attention_weights"),
        first_row=run.first_row * A * T,
        rows=weight_rows,
        out_BATK=context_BTH.reshape(B, queries, A, K).swapaxes(1, 2),
        tap=run.tap,
        name=name,
    )
    context_BTH = run.tap(f"{name}.context", context_BTH)
    context = context_BTH if read is None else read.from_rectangle(context_BTH)
    gate_saved = None
    if params.gate is not None:
        context, gate_saved = _gate_forward(context, x_BTH if x_MH is None else x_MH, params.gate, run, name)
    y, output_saved = linear.forward(context, params.W_O, params.b_O)
    saved = Saved(x_BTH, x_MH, kind, positions_saved, heads_saved, gate_saved, output_saved)
    return run.tap(f"{name}.projection", y), saved


def attention_backward(
    dy: Array,
    saved: Saved,
    params: AttentionParameters,
    grads: AttentionParameters,
    run: Pass,
    name: str,
    read: Reading | None = None,
) -> tuple[Array, Array | None]:
    """Add the gradients of the projections to `grads`; return dx [B, T, H] and, where `read`, dx [M, H] of the queries.

    The two parts of dx are handed on apart, because the residual stream adds its own [M, H] before they are scattered.
    """
    x_BTH, x_MH, kind, positions_saved, heads_saved, gate_saved, output_saved = saved
    B, T, H = x_BTH.shape
    A, K = heads_saved.Q_BATK.shape[1], heads_saved.Q_BATK.shape[3]
    dcontext, dW_O, db_O = linear.backward(run.tap(f"{name}.projection", dy), output_saved)  # (MHA.3)
    grads.W_O[...] += dW_O
    add_gradient(grads.b_O, db_O)
    dx_of_gate = None
    if gate_saved is not None:
        assert grads.gate is not None
        dcontext, dx_of_gate = _gate_backward(dcontext, gate_saved, grads.gate, run, name)
    dcontext_BTH = dcontext if read is None else read.to_rectangle(dcontext)
    dcontext_BTH = run.tap(f"{name}.context", dcontext_BTH)
    queries = dcontext_BTH.shape[1]

    first = 0 if read is None else 1  # dQ, dK, dV lie one behind the other; with `read`, dQ has a shape of its own
    dprojected = np.empty((3 - first, B * T, H), dy.dtype)
    dheads = list(dprojected.reshape(3 - first, B, T, A, K).swapaxes(2, 3))
    if read is not None:
        dQ_BPH = np.empty((B, queries, H), dy.dtype)
        dheads.insert(0, dQ_BPH.reshape(B, queries, A, K).swapaxes(1, 2))
    _, _, _, *dbias = attention.backward(
        dcontext_BTH.reshape(B, queries, A, K).swapaxes(1, 2),
        heads_saved,
        out=(dheads[0], dheads[1], dheads[2]),
        tap=run.tap,
        name=name,
    )  # (MHA.2)
    POSITIONS[kind].backward(dheads[0], dheads[1], dbias[0] if dbias else None, positions_saved, grads, run, name)
    for letter, dhead in zip("QKV", dheads, strict=True):
        tapped = run.tap(f"{name}.{letter}", dhead)
        if tapped is not dhead:
            dhead[...] = tapped

    x_RH = x_BTH.reshape(-1, H)
    grads.W_QKV[first:] += np.matmul(x_RH.T, dprojected)  # (MHA.1)
    if grads.b_QKV is not None:
        grads.b_QKV[first:] += dprojected.sum(axis=1)
    dx_RH = dprojected[0] @ params.W_QKV[first].T  # (MHA.4)
    for part, W in zip(dprojected[1:], params.W_QKV[first + 1 :], strict=True):
        dx_RH += part @ W.T
    dx_BTH = dx_RH.reshape(x_BTH.shape)
    if read is None:
        if dx_of_gate is not None:
            dx_BTH += dx_of_gate
        return dx_BTH, None
    dQ_MH = read.from_rectangle(dQ_BPH)
    assert x_MH is not None
    grads.W_QKV[0] += x_MH.T @ dQ_MH
    if grads.b_QKV is not None:
        grads.b_QKV[0] += dQ_MH.sum(axis=0)
    dqueries_MH = dQ_MH @ params.W_Q.T
    if dx_of_gate is not None:
        dqueries_MH += dx_of_gate
    return dx_BTH, dqueries_MH


def _gate_forward(context: Array, x: Array, params: GateParameters, run: Pass, name: str) -> tuple[Array, GateSaved]:
    """The context [..., H] times its gates, which come from `x` [..., H], the rows that ask (MHA.5)."""
    scores, scores_saved = linear.forward(x, params.W, params.b)
    g, sigmoid_saved = sigmoid.forward(scores)
    gated, product_saved = gate.forward(context, run.tap(f"{name}.gate", g))
    return gated, GateSaved(scores_saved, sigmoid_saved, product_saved)


def _gate_backward(dgated: Array, saved: GateSaved, grads: GateParameters, run: Pass, name: str) -> tuple[Array, Array]:
    """Add the gradients of the gate's map to `grads`; return those of the context and of the rows that ask."""
    dcontext, dg = gate.backward(dgated, saved.product)
    (dscores,) = sigmoid.backward(run.tap(f"{name}.gate", dg), saved.gate)
    dx, dW, db = linear.backward(dscores, saved.scores)
    grads.W[...] += dW
    add_gradient(grads.b, db)
    return dcontext, dx
