"""One pre-LN transformer block: each sublayer reads the normalised stream and adds to the stream itself.

    u = x + dropout(attention(norm(x)))                                      (PRE.1)
    y = u + dropout(feed_forward(norm(u)))                                   (PRE.2)
    hidden states = norm(y of the last block)                                (PRE.3)

Xiong et al. 2020 ("On Layer Normalization in the Transformer Architecture", figure 1b); (PRE.3) stands in `bert`. With
`read`, keys and values still need the norm of all positions; everything else is computed at the M positions only.
Derivation: docs/derivations/pre_norm_block.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mini_bert.config.schema import ModelConfig
from mini_bert.model import attention, norms
from mini_bert.model.block import FEED_FORWARDS
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.norms import norm_backward, norm_forward
from mini_bert.model.parameters import BlockParameters, add_gradient
from mini_bert.ops import dropout
from mini_bert.ops.contract import Array


class Saved(NamedTuple):
    """What the parts keep, in order of computation."""

    norm1: norms.Saved
    attention: attention.Saved
    dropout1: dropout.Saved
    norm2: norms.Saved
    feed_forward: Any
    dropout2: dropout.Saved


def block_forward(
    x_BTH: Array, params: BlockParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None = None
) -> tuple[Array, Saved]:
    """Return y [B, T, H], or [M, H] for the positions in `read` (PRE.1-2)."""
    p = config.hidden_dropout_prob
    n_BTH, norm1_saved = norm_forward(x_BTH, params.gamma1, params.beta1, config)
    n_BTH = run.tap(f"{name}.attention.input", n_BTH)
    a, attention_saved = attention.attention_forward(n_BTH, params.attention, config, run, f"{name}.attention", read)
    a, dropout1_saved = run.drop(a, p, f"{name}.attention", read)
    u = a + (x_BTH if read is None else read.gather(x_BTH))
    u = run.tap(f"{name}.attention.sum", u)

    n, norm2_saved = norm_forward(u, params.gamma2, params.beta2, config)
    n = run.tap(f"{name}.feed_forward.input", n)
    f, feed_forward_saved = FEED_FORWARDS[config.feed_forward].feed_forward_forward(
        n, params.feed_forward, config, run, f"{name}.feed_forward"
    )
    f, dropout2_saved = run.drop(f, p, f"{name}.feed_forward", read)
    saved = Saved(norm1_saved, attention_saved, dropout1_saved, norm2_saved, feed_forward_saved, dropout2_saved)
    return run.tap(f"{name}.output", f + u), saved


def block_backward(
    dy: Array,
    saved: Saved,
    params: BlockParameters,
    grads: BlockParameters,
    config: ModelConfig,
    run: Pass,
    name: str,
    read: Reading | None = None,
) -> Array:
    """Add the gradients to `grads` and return dx [B, T, H]."""
    dy = run.tap(f"{name}.output", dy)
    (df,) = dropout.backward(dy, saved.dropout2)
    dn = FEED_FORWARDS[config.feed_forward].feed_forward_backward(
        df, saved.feed_forward, grads.feed_forward, config, run, f"{name}.feed_forward"
    )
    du, dgamma2, dbeta2 = norm_backward(run.tap(f"{name}.feed_forward.input", dn), saved.norm2)
    grads.gamma2[...] += dgamma2
    add_gradient(grads.beta2, dbeta2)
    du += dy  # the residual path

    du = run.tap(f"{name}.attention.sum", du)
    (da,) = dropout.backward(du, saved.dropout1)
    dn_BTH, dqueries_MH = attention.attention_backward(
        da, saved.attention, params.attention, grads.attention, run, f"{name}.attention", read
    )
    if read is not None:
        assert dqueries_MH is not None
        read.scatter_add(dn_BTH, dqueries_MH)
    dx_BTH, dgamma1, dbeta1 = norm_backward(run.tap(f"{name}.attention.input", dn_BTH), saved.norm1)
    grads.gamma1[...] += dgamma1
    add_gradient(grads.beta1, dbeta1)
    if read is None:
        dx_BTH += du  # the residual path
    else:
        read.scatter_add(dx_BTH, du)
    return dx_BTH
