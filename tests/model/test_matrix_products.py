from __future__ import annotations

import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.model.matrix_products import forward_flops, step_flops
from mini_bert.ops import attention, linear, softmax


def test_products_counted_by_hand() -> None:
    shape = ModelConfig(
        vocab_size=7,
        hidden_size=2,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=3,
        max_position_embeddings=4,
    )
    # One row of four tokens, one masked; each product [m, k] x [k, n] is 2 m k n.
    first = [2 * 4 * 2 * 6, 2 * 4 * 2 * 4, 2 * 4 * 4 * 2, 2 * 4 * 2 * 2, 2 * 4 * 2 * 3, 2 * 4 * 3 * 2]
    last = [2 * 4 * 2 * 4, 2 * 1 * 2 * 2, 2 * 1 * 2 * 4, 2 * 1 * 4 * 2, 2 * 1 * 2 * 2, 2 * 1 * 2 * 3, 2 * 1 * 3 * 2]
    head = [2 * 1 * 2 * 2, 2 * 1 * 2 * 7]
    assert forward_flops(shape, 1, 4, 1) == sum(first) + sum(last) + sum(head)
    assert forward_flops(shape, 1, 4, 1, last_block_rows=False) == 2 * sum(first) + sum(head)


def test_a_gated_feed_forward_has_three_products() -> None:
    plain, gated = ModelConfig(), ModelConfig(feed_forward="gated")
    rows, masked = 2 * 64, 19
    more = 2 * 192 * 768 * (2 * rows + masked)
    assert forward_flops(gated, 2, 64, masked) - forward_flops(plain, 2, 64, masked) == more


def test_the_default_step_has_the_known_size() -> None:
    masked = 614  # 15 % of 64 x 64
    assert step_flops(ModelConfig(), 64, 64, masked) == pytest.approx(32e9, rel=0.01)
    assert step_flops(ModelConfig(), 64, 64, masked, last_block_rows=False) == pytest.approx(40e9, rel=0.02)


def test_agrees_with_the_cost_that_the_operations_state() -> None:
    shape = ModelConfig()
    B, T, M, H, A, K = 8, 64, 70, 192, 4, 48
    R, I, V = B * T, shape.intermediate_size, shape.vocab_size

    def product(rows: int, inputs: int, outputs: int) -> int:
        cost = linear.cost(rows, inputs, outputs)
        return cost.forward_flops + cost.backward_flops - 2 * rows * outputs  # without adding and summing the bias

    def heads() -> int:
        cost, inner = attention.cost(B, A, T, T, K), softmax.cost(B * A * T, T)
        scaling = 2 * B * A * T * T
        return cost.forward_flops + cost.backward_flops - inner.forward_flops - inner.backward_flops - scaling

    block = 3 * product(R, H, H) + heads() + product(R, H, H) + product(R, H, I) + product(R, I, H)
    head = product(M, H, H) + product(M, H, V)
    assert step_flops(shape, B, T, M, last_block_rows=False) == 3 * block + head
