"""How large are the numbers of a network that has learned nothing yet, for each way to draw its first values?

One forward pass over made-up ids, and one backward pass of the loss: root mean squares of what the sublayers add to the
stream, of attention's scores and of the logits, the first loss, and the norm of the gradient in the first and in the
last block. All in float64, without dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array

SCHEMES: dict[str, dict[str, Any]] = {
    "truncated normal 0.02": {},
    "the same, scaled by depth": {"scale_residual_init": True},
    "truncated normal 0.05": {"initializer_range": 0.05},
    "Xavier": {"initializer": "xavier_normal"},
    "He": {"initializer": "he_normal"},
    "LeCun": {"initializer": "lecun_normal"},
    "orthogonal": {"initializer": "orthogonal"},
    "LeCun, scaled by depth": {"initializer": "lecun_normal", "scale_residual_init": True},
    "truncated normal 0.02, unigram bias": {"decoder_bias_init": "unigram"},
}
"""What is compared; the first is BERT's."""

PLACEMENTS = ("post", "pre")


class Signal(NamedTuple):
    """Root mean squares, in the order in which a network computes."""

    scheme: str
    norm_placement: str
    attention: tuple[float, ...]
    """What attention adds, block by block."""
    feed_forward: tuple[float, ...]
    stream: tuple[float, ...]
    """The stream that each block hands on."""
    scores: float
    """Deviation of the first block's attention scores over the keys: 0 is attention that looks everywhere alike."""
    logits: float
    """Deviation over the pieces, without the decoder's bias."""
    first_loss: float
    """Nats."""
    gradients: tuple[float, float]
    """Norm of the mean loss's gradient in all tensors of the first block and of the last."""


def measure(shape: ModelConfig | None = None, rows: int = 8, seed: int = 0) -> Iterator[Signal]:
    """Every scheme with both placements of the norms, for the default model or one of another shape."""
    shape = ModelConfig() if shape is None else shape
    batch, counts = made_up_text(shape, rows, seed)
    for placement in PLACEMENTS:
        for scheme, settings in SCHEMES.items():
            config = shape.model_copy(update={"norm_placement": placement, **settings})
            model = MiniBERT(config, dtype=np.float64, seed=seed, unigram=counts)
            yield _signal(scheme, model, batch)


def made_up_text(shape: ModelConfig, rows: int, seed: int) -> tuple[Batch, Array]:
    """A batch with 15 % masked, and the counts of what it was drawn from: the v-th piece has a share of about 1/v."""
    rng, V, T = np.random.default_rng(seed), shape.vocab_size, shape.max_position_embeddings
    shares = np.where(np.arange(V) < 5, 0.0, 1.0 / (np.arange(V) + 1.0))
    shares /= shares.sum()
    ids = rng.choice(V, size=(rows, T), p=shares)
    masked = np.sort(rng.permutation(ids.size)[: math.ceil(0.15 * ids.size)])
    targets = ids.ravel()[masked]
    ids.ravel()[masked] = 4
    return Batch(ids, masked_positions=masked, target_ids=targets), np.round(1e6 * shares).astype(np.int64)


def _signal(scheme: str, model: MiniBERT, batch: Batch) -> Signal:
    layers = range(model.config.num_hidden_layers)
    logits, cache = model.forward(batch.input_ids)
    scores = cache["layer_0.attention.scores"]
    centred = logits - model.parameters["b_vocabulary"]
    gradients = Parameters(model.config, model.dtype)
    loss, count = model.mlm_loss_and_gradients(batch, gradients)
    return Signal(
        scheme,
        model.config.norm_placement,
        tuple(_size(cache[f"layer_{i}.attention.projection"]) for i in layers),
        tuple(_size(cache[f"layer_{i}.feed_forward.projection"]) for i in layers),
        tuple(_size(cache[f"layer_{i}.output"]) for i in layers),
        float(scores.std(axis=-1).mean()),
        float(centred.std(axis=-1).mean()),
        loss / count,
        (_norm(gradients, 0) / count, _norm(gradients, layers[-1]) / count),
    )


def _size(x: Array) -> float:
    return float(np.sqrt(np.mean(x * x)))


def _norm(gradients: Parameters, layer: int) -> float:
    of_layer = [gradients[row.name] for row in gradients.table if row.layer == layer]
    return math.sqrt(sum(float((array * array).sum()) for array in of_layer))
