"""How widely does each head look?

A head's attention from query i is a distribution a_i over the S real keys of its row. Its entropy

    H_i = −Σ_j a_ij ln a_ij                                                  (1)

is 0 where the head looks at one token alone and ln S where it looks at all alike; exp(H_i) reads as the number of
tokens looked at. Clark et al. 2019 ("What Does BERT Look At?", section 3.2) draw it by layer; heads of low entropy are
those that mostly track a position or [SEP]. So the mean weight on the token before, the token behind, and a row's first
and last one stand beside it.

Means are over real queries, intervals take rows as what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.metrics.clustered_means import clustered_mean

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT

ROWS_AT_ONCE = 16
_BESIDE = ("previous", "next")
_WEIGHTS = (*_BESIDE, "first", "last")


def compute_attention_entropy(model: MiniBERT, batches: Sequence[Batch]) -> dict[str, Any]:
    """Entropy (1) of every head in nats, and the share of the largest possible one.

    Args:
        model: any.
        batches: rows of text; what they ask is not read.

    Returns:
        Plain values for JSON, of kind `attention_entropy`: `heads` lists layer, head, `entropy` with its interval,
        `share` (of ln S), and mean weights: `previous` and `next` on the tokens beside the query's own, of the queries
        that have one; `first` and `last` on a row's first and last real token, in rows of text [CLS] and [SEP].

    Raises:
        InvalidInputError: no rows.
    """
    if not any(len(batch.input_ids) for batch in batches):
        raise InvalidInputError("batches", got="no row", expected="at least one")
    parts = [
        _of_rows(model, batch.rows(start, min(start + ROWS_AT_ONCE, len(batch.input_ids))))
        for batch in batches
        for start in range(0, len(batch.input_ids), ROWS_AT_ONCE)
    ]
    sums = {name: np.concatenate([part[0][name] for part in parts], axis=0) for name in parts[0][0]}
    queries = np.concatenate([part[1] for part in parts])
    heads = []
    for layer in range(model.config.num_hidden_layers):
        for head in range(model.config.num_attention_heads):
            entropy = clustered_mean(sums["entropy"][:, layer, head], queries)
            others = {
                name: clustered_mean(sums[name][:, layer, head], queries - 1 if name in _BESIDE else queries).mean
                for name in ("share", *_WEIGHTS)
            }
            heads.append(
                {
                    "layer": layer,
                    "head": head,
                    "entropy": entropy.mean,
                    "interval": entropy.interval.ends(),
                    **others,
                }
            )
    return {"kind": "attention_entropy", "rows": len(queries), "queries": int(queries.sum()), "heads": heads}


def entropy_of(weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy in nats of distributions over the last axis; 0 ln 0 is 0.

    >>> entropy_of(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    a = np.asarray(weights, np.float64)
    logs = np.log(a, out=np.zeros_like(a), where=a > 0)
    return np.maximum(-(a * logs).sum(axis=-1), 0.0)


def _of_rows(model: MiniBERT, batch: Batch) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """Sums over the real queries of each row, [B, L, A] of each measure; and how many queries those are, [B]."""
    B, T = batch.input_ids.shape
    real = np.ones((B, T), bool) if batch.attention_mask is None else np.asarray(batch.attention_mask, bool)
    keys = real.sum(axis=1)
    last = T - 1 - real[:, ::-1].argmax(axis=1)
    widest = np.log(np.maximum(keys, 2))[:, None]
    shape = (B, model.config.num_hidden_layers, model.config.num_attention_heads)
    sums = {name: np.zeros(shape) for name in ("entropy", "share", *_WEIGHTS)}

    def tap(name: str, value: Any) -> Any:
        if name.endswith(".attention_weights"):
            layer = int(name.split(".")[0].removeprefix("layer_"))
            entropies = entropy_of(value) * real[:, None]
            sums["entropy"][:, layer] = entropies.sum(axis=-1)
            sums["share"][:, layer] = entropies.sum(axis=-1) / widest
            weights = value.real * real[:, None, :, None]
            sums["previous"][:, layer] = np.trace(weights, offset=-1, axis1=2, axis2=3)
            sums["next"][:, layer] = np.trace(weights * real[:, None, None], offset=1, axis1=2, axis2=3)
            sums["first"][:, layer] = weights[..., 0].sum(axis=-1)
            sums["last"][:, layer] = weights[np.arange(B), :, :, last].sum(axis=-1)
        return value

    model.encode(batch.input_ids, batch.attention_mask, batch.token_type_ids, tap=tap)
    return sums, keys
