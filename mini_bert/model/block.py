"""One post-LN transformer block: each sublayer's output is dropped out, added to its input and normalised.

    u = LayerNorm(x + dropout(attention(x)))                                 (BLOCK.1)
    y = LayerNorm(u + dropout(feed_forward(u)))                              (BLOCK.2)

In the last block only the positions that the loss reads are needed behind the keys and values. With `read`, everything
else is computed at these M positions only: the same numbers, since no later operation mixes positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mini_bert.config.schema import ModelConfig
from mini_bert.model import attention, feed_forward, gated_feed_forward, norms
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.norms import norm_backward, norm_forward
from mini_bert.model.parameters import BlockParameters, add_gradient
from mini_bert.ops import dropout
from mini_bert.ops.contract import Array

FEED_FORWARDS: dict[str, Any] = {"plain": feed_forward, "gated": gated_feed_forward}
"""By `feed_forward` of the configuration."""


class Saved(NamedTuple):
    """What the parts keep, in order of computation."""

    attention: attention.Saved
    dropout1: dropout.Saved
    norm1: norms.Saved
    feed_forward: Any
    dropout2: dropout.Saved
    norm2: norms.Saved


def block_forward(
    x_BTH: Array, params: BlockParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None = None
) -> tuple[Array, Saved]:
    """Return y [B, T, H], or [M, H] for the positions in `read` (BLOCK.1-2)."""
    p = config.hidden_dropout_prob
    a, attention_saved = attention.attention_forward(x_BTH, params.attention, config, run, f"{name}.attention", read)
    a, dropout1_saved = run.drop(a, p, f"{name}.attention", read)
    sum1 = a + (x_BTH if read is None else read.gather(x_BTH))
    sum1 = run.tap(f"{name}.attention.sum", sum1)
    u, norm1_saved = norm_forward(sum1, params.gamma1, params.beta1, config)
    u = run.tap(f"{name}.attention.output", u)

    f, feed_forward_saved = FEED_FORWARDS[config.feed_forward].feed_forward_forward(
        u, params.feed_forward, config, run, f"{name}.feed_forward"
    )
    f, dropout2_saved = run.drop(f, p, f"{name}.feed_forward", read)
    sum2 = run.tap(f"{name}.feed_forward.sum", f + u)
    y, norm2_saved = norm_forward(sum2, params.gamma2, params.beta2, config)
    saved = Saved(attention_saved, dropout1_saved, norm1_saved, feed_forward_saved, dropout2_saved, norm2_saved)
    return run.tap(f"{name}.output", y), saved


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
    dsum2, dgamma2, dbeta2 = norm_backward(run.tap(f"{name}.output", dy), saved.norm2)
    grads.gamma2[...] += dgamma2
    add_gradient(grads.beta2, dbeta2)
    dsum2 = run.tap(f"{name}.feed_forward.sum", dsum2)
    (df,) = dropout.backward(dsum2, saved.dropout2)
    du = FEED_FORWARDS[config.feed_forward].feed_forward_backward(
        df, saved.feed_forward, grads.feed_forward, config, run, f"{name}.feed_forward"
    )
    du += dsum2  # the residual path

    dsum1, dgamma1, dbeta1 = norm_backward(run.tap(f"{name}.attention.output", du), saved.norm1)
    grads.gamma1[...] += dgamma1
    add_gradient(grads.beta1, dbeta1)
    dsum1 = run.tap(f"{name}.attention.sum", dsum1)
    (da,) = dropout.backward(dsum1, saved.dropout1)
    dx_BTH, dqueries_MH = attention.attention_backward(
        da, saved.attention, params.attention, grads.attention, run, f"{name}.attention", read
    )
    if read is None:
        dx_BTH += dsum1  # the residual path
    else:
        assert dqueries_MH is not None
        read.scatter_add(dx_BTH, dqueries_MH + dsum1)
    return dx_BTH
