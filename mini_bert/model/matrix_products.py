"""How many multiplications and additions are the matrix products of a pass?

For R = B T rows of which M are masked, forward:

    each block but the last    2 R H·3H + 4 R T H + 2 R H² + 4 R H I
                               Q K V, scores and context, output, feed-forward
    the last block             2 R H·2H + 2 M H² + 4 M T H + 2 M H² + 4 M H I
                               only K and V need every row
    head                       2 M H² + 2 M H V
                               transform, decoder

A gated feed-forward has 6 H I where the plain one has 4 H I. Backward, each product is two (one for the input, one for
the weight; or one for either factor), of the same size: a step is three times the forward pass. Everything elementwise,
and the optimiser, come on top.
"""

from __future__ import annotations

from mini_bert.config.schema import ModelConfig


def forward_flops(shape: ModelConfig, rows: int, tokens: int, masked: int, *, last_block_rows: bool = True) -> int:
    """Of the forward pass of `rows` rows of `tokens` tokens; `last_block_rows`: the last block as the loss needs it."""
    H, I, V = shape.hidden_size, shape.intermediate_size, shape.vocab_size
    R, T, M = rows * tokens, tokens, masked
    feed_forward = (6 if shape.feed_forward == "gated" else 4) * H * I
    block = 2 * R * H * 3 * H + 4 * R * T * H + 2 * R * H * H + R * feed_forward
    last = 2 * R * H * 2 * H + 2 * M * H * H + 4 * M * T * H + 2 * M * H * H + M * feed_forward
    head = 2 * M * H * H + 2 * M * H * V
    return (shape.num_hidden_layers - 1) * block + (last if last_block_rows else block) + head


def step_flops(shape: ModelConfig, rows: int, tokens: int, masked: int, *, last_block_rows: bool = True) -> int:
    """Of one training step."""
    return 3 * forward_flops(shape, rows, tokens, masked, last_block_rows=last_block_rows)
