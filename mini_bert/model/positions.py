"""How attention tells positions apart, where the embeddings do not (BERT's own way is a table of positions there).

    rotary        queries and keys are turned by their positions             (ROPE.2)
    t5_bias       a learned number for each head and bucket of distances is added to the scores  (RBIAS.1)
    relative_key  the query's product with an embedding of the distance is added to the scores   (RKEY.1)
    alibi         scores fall with the distance, in each head at its rate    (ALIBI.1)

Each is a pair of functions: `forward` stands between the projections and the scores, `backward` undoes it. Where only
the positions in `read` ask, each query is still at the place where it stands in its row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.parameters import AttentionParameters
from mini_bert.ops import alibi, relative_bias, relative_keys, rotary
from mini_bert.ops.contract import Array


class Positioned(NamedTuple):
    """What attention goes on with."""

    Q_BATK: Array
    K_BASK: Array
    bias_BATS: Array | None
    """To be added to the scores; [1, A, T, S] where all rows share it."""
    saved: Any


Forward = Callable[[Array, Array, AttentionParameters, ModelConfig, Pass, str, "Reading | None"], Positioned]
Backward = Callable[[Array, Array, "Array | None", Any, AttentionParameters, Pass, str], None]


class Variant(NamedTuple):
    """`backward` is given dQ, dK and the bias's gradient; it changes dQ and dK in place and adds to `grads`."""

    forward: Forward
    backward: Backward


def query_places(run: Pass, read: Reading | None) -> Array | None:
    """[B, 1, P], where in its row each query stands; None: all T stand one after the other."""
    return None if read is None else read.places_in_row(run.T)[:, None, :]


# --- rotary ---------------------------------------------------------------------------------------------------------


def _rotary_forward(
    Q: Array, K: Array, params: AttentionParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None
) -> Positioned:
    everywhere, places = np.arange(run.T), query_places(run, read)
    Q, Q_saved = rotary.forward(Q, positions=everywhere if places is None else places, theta=config.rope_theta)
    K, K_saved = rotary.forward(K, positions=everywhere, theta=config.rope_theta)
    Q, K = run.tap(f"{name}.rotated_Q", Q), run.tap(f"{name}.rotated_K", K)
    return Positioned(Q, K, None, (Q_saved, K_saved))


def _rotary_backward(
    dQ: Array, dK: Array, dbias: Array | None, saved: Any, grads: AttentionParameters, run: Pass, name: str
) -> None:
    Q_saved, K_saved = saved
    dQ[...] = rotary.backward(run.tap(f"{name}.rotated_Q", dQ), Q_saved)[0]
    dK[...] = rotary.backward(run.tap(f"{name}.rotated_K", dK), K_saved)[0]


# --- numbers added to the scores ------------------------------------------------------------------------------------


def _bias_forward(
    Q: Array, K: Array, params: AttentionParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None
) -> Positioned:
    assert params.relative_bias is not None
    bias, saved = relative_bias.forward(
        params.relative_bias,
        keys=run.T,
        max_distance=config.relative_attention_max_distance,
        positions=query_places(run, read),
    )
    return Positioned(Q, K, run.tap(f"{name}.position_bias", bias), saved)


def _bias_backward(
    dQ: Array, dK: Array, dbias: Array | None, saved: Any, grads: AttentionParameters, run: Pass, name: str
) -> None:
    assert dbias is not None
    assert grads.relative_bias is not None
    (dtable,) = relative_bias.backward(run.tap(f"{name}.position_bias", dbias), saved)
    grads.relative_bias[...] += dtable  # one table: each layer adds


def _keys_forward(
    Q: Array, K: Array, params: AttentionParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None
) -> Positioned:
    assert params.relative_keys is not None
    bias, saved = relative_keys.forward(Q, params.relative_keys, keys=run.T, positions=query_places(run, read))
    return Positioned(Q, K, run.tap(f"{name}.position_bias", bias), saved)


def _keys_backward(
    dQ: Array, dK: Array, dbias: Array | None, saved: Any, grads: AttentionParameters, run: Pass, name: str
) -> None:
    assert dbias is not None
    assert grads.relative_keys is not None
    dQ_of_bias, dtable = relative_keys.backward(run.tap(f"{name}.position_bias", dbias), saved)
    dQ += dQ_of_bias  # queries are used twice
    grads.relative_keys[...] += dtable


def _alibi_forward(
    Q: Array, K: Array, params: AttentionParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None
) -> Positioned:
    bias = alibi.bias(config.num_attention_heads, run.T, query_places(run, read)).astype(Q.dtype)
    return Positioned(Q, K, run.tap(f"{name}.position_bias", bias), None)


def _alibi_backward(
    dQ: Array, dK: Array, dbias: Array | None, saved: Any, grads: AttentionParameters, run: Pass, name: str
) -> None:
    assert dbias is not None
    run.tap(f"{name}.position_bias", dbias)  # nobody learns from it


# --- nothing --------------------------------------------------------------------------------------------------------


def _absolute_forward(
    Q: Array, K: Array, params: AttentionParameters, config: ModelConfig, run: Pass, name: str, read: Reading | None
) -> Positioned:
    return Positioned(Q, K, None, None)


def _absolute_backward(
    dQ: Array, dK: Array, dbias: Array | None, saved: Any, grads: AttentionParameters, run: Pass, name: str
) -> None:
    """The embeddings have told positions apart."""


POSITIONS = {
    "absolute": Variant(_absolute_forward, _absolute_backward),
    "rotary": Variant(_rotary_forward, _rotary_backward),
    "t5_bias": Variant(_bias_forward, _bias_backward),
    "relative_key": Variant(_keys_forward, _keys_backward),
    "alibi": Variant(_alibi_forward, _alibi_backward),
}
"""By `position_embedding_type` of the configuration."""
