"""Token ids → the residual stream: embeddings summed, LayerNorm, dropout (Devlin et al. 2019, figure 2).

    x = LayerNorm(E[ids] + P[0..T−1] + S[types])                             (BERT.1)

Dropout, as behind every sublayer, acts on x. There is no P where attention tells positions apart by itself
(`model/positions.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model import norms
from mini_bert.model.forward_pass import Pass
from mini_bert.model.norms import norm_backward, norm_forward
from mini_bert.model.parameters import EmbeddingParameters, add_gradient
from mini_bert.ops import dropout, embedding
from mini_bert.ops.contract import Array


class Saved(NamedTuple):
    """The ids, for the tables' gradients, and what the operations keep."""

    token: embedding.Saved
    types_BT: Array | None
    norm: norms.Saved
    dropout: dropout.Saved


def embeddings_forward(
    ids_BT: Array, types_BT: Array | None, params: EmbeddingParameters, config: ModelConfig, run: Pass
) -> tuple[Array, Saved]:
    """Return x [B, T, H] (BERT.1)."""
    tap = run.tap
    token_BTH, token_saved = embedding.forward(params.token_embeddings, ids=ids_BT)
    token_BTH = tap("embeddings.token", token_BTH)
    segment = params.segment_embeddings[0] if types_BT is None else params.segment_embeddings[types_BT]
    if params.position_embeddings is None:
        sum_BTH = token_BTH + tap("embeddings.segment", segment)
    else:
        sum_BTH = token_BTH + tap("embeddings.position", params.position_embeddings[: run.T])
        sum_BTH += tap("embeddings.segment", segment)
    sum_BTH = tap("embeddings.sum", sum_BTH)
    x_BTH, norm_saved = norm_forward(sum_BTH, params.gamma, params.beta, config)
    x_BTH, dropout_saved = run.drop(x_BTH, config.hidden_dropout_prob, "embeddings")
    return tap("embeddings.output", x_BTH), Saved(token_saved, types_BT, norm_saved, dropout_saved)


def embeddings_backward(dx_BTH: Array, saved: Saved, grads: EmbeddingParameters, run: Pass) -> None:
    """Add the gradients of the tables and of the LayerNorm to `grads`."""
    tap = run.tap
    dx_BTH = tap("embeddings.output", dx_BTH)
    (dx_BTH,) = dropout.backward(dx_BTH, saved.dropout)
    dsum_BTH, dgamma, dbeta = norm_backward(dx_BTH, saved.norm)
    grads.gamma[...] += dgamma
    add_gradient(grads.beta, dbeta)
    dsum_BTH = tap("embeddings.sum", dsum_BTH)

    # The sum hands its gradient to each of its three terms; a term that was broadcast sums it.
    embedding.add_rows(grads.token_embeddings, saved.token.ids, tap("embeddings.token", dsum_BTH))
    dposition_TH = dsum_BTH.sum(axis=0)
    if grads.position_embeddings is not None:
        grads.position_embeddings[: run.T] += tap("embeddings.position", dposition_TH)
    if saved.types_BT is None:
        grads.segment_embeddings[0] += tap("embeddings.segment", dposition_TH.sum(axis=0))
    else:
        dsegment_BTH = tap("embeddings.segment", dsum_BTH)
        for segment in range(grads.segment_embeddings.shape[0]):
            grads.segment_embeddings[segment] += np.sum(dsegment_BTH[saved.types_BT == segment], axis=0)
