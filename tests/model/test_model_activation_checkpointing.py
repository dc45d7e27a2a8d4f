"""Blocks that are computed again in the backward pass: the same bits, and less that is kept."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, small_bert

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.forward_pass import Pass
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.training.parallel import ShardPool
from mini_bert.verification.conditions import ATTENTION_VARIANTS, BLOCK_VARIANTS

EVERYTHING = BATCH._replace(masked_positions=np.arange(IDS.size), target_ids=np.arange(IDS.size) % 13)
VARIANTS: dict[str, dict[str, Any]] = {"faithful": {}, **BLOCK_VARIANTS, **ATTENTION_VARIANTS}


def loss_and_gradient(model: MiniBERT, batch: Batch, dropout: RandomStream | None, again: bool) -> tuple[float, bytes]:
    grads = Parameters(model.config, model.dtype)
    loss, _ = model.mlm_loss_and_gradients(batch, grads, dropout, activation_checkpointing=again)
    return loss, grads.buffer.tobytes()


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("dropout", [DROPOUT, None], ids=["dropout", "no dropout"])
def test_the_same_bits(settings: dict[str, Any], dropout: RandomStream | None) -> None:
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 3}
    model = small_bert(np.float32, **{**settings, "heads": ("mlm",), **sizes})
    no_padding = BATCH._replace(attention_mask=None)
    for batch in (BATCH, EVERYTHING, no_padding):
        assert loss_and_gradient(model, batch, dropout, True) == loss_and_gradient(model, batch, dropout, False)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_every_block_but_the_last_keeps_its_input_alone(layers: int) -> None:
    model = small_bert(num_hidden_layers=layers)
    B, T = IDS.shape
    seen: dict[str, Array] = {}

    def tap(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    run = Pass(B, T, MASK, DROPOUT, BATCH.first_row, tap)
    _, saved = model.encode_forward(IDS, None, run, activation_checkpointing=True)
    inputs = ["embeddings.output", *(f"layer_{i}.output" for i in range(layers - 1))]
    assert len(saved.blocks) == layers
    assert not isinstance(saved.blocks[-1], np.ndarray)
    for name, kept in zip(inputs[: layers - 1], saved.blocks[:-1], strict=True):
        np.testing.assert_array_equal(kept, seen[name])


def test_a_tap_sees_all_blocks_but_the_last_twice_and_may_change_them() -> None:
    model, counts = small_bert(num_hidden_layers=3), dict[str, int]()

    def doubling(name: str, value: Array) -> Array:
        counts[name] = counts.get(name, 0) + 1
        return value * 2.0 if name == "layer_0.attention.output" else value

    gradients = []
    for again in (False, True):
        counts.clear()
        grads = Parameters(model.config, model.dtype)
        model.mlm_loss_and_gradients(BATCH, grads, DROPOUT, tap=doubling, activation_checkpointing=again)
        gradients.append(grads.buffer.tobytes())
        expected = {0: 1 + again, 1: 1 + again, 2: 1}
        assert {i: counts[f"layer_{i}.output"] for i in range(3)} == expected
    assert gradients[0] == gradients[1]


def test_less_is_kept_the_deeper_the_network() -> None:
    """At 8 blocks more than three times less, beside what does not depend on depth."""

    def traced(layers: int, again: bool) -> int:
        sizes = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 50, "num_attention_heads": 4}
        model = MiniBERT(ModelConfig(**sizes, num_hidden_layers=layers))
        grads, ids = Parameters(model.config), np.random.default_rng(0).integers(0, 50, (8, 64))
        batch = Batch(ids, masked_positions=np.arange(0, 512, 7), target_ids=np.zeros(74, np.int64))
        tracemalloc.start()
        try:
            model.mlm_loss_and_gradients(batch, grads, activation_checkpointing=again)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert traced(8, False) > 2.5 * traced(8, True)
    assert traced(8, True) - traced(4, True) < 0.12 * (traced(8, False) - traced(4, False))


def test_training_passes_it_on() -> None:
    """Through threads and shards: the same bits, and every block but the last computed twice."""
    model = small_bert(np.float32)
    with ShardPool(2, 2) as pool:
        plain = pool.gradients(model, BATCH, DROPOUT).gradient.copy()
        again = pool.gradients(model, BATCH, DROPOUT, activation_checkpointing=True).gradient
        assert plain.tobytes() == again.tobytes()
