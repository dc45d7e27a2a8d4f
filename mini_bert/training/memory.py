"""How much memory will a training take, how many shards may run at once, and does it fit at all?

Estimated from shapes before anything is allocated; docs/guide/memory.md says where the bytes go.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mini_bert.errors import ConfigError
from mini_bert.machine import available_bytes

if TYPE_CHECKING:
    from mini_bert.config.schema import Config

PROCESS_BYTES = 75_000_000
"""Interpreter, NumPy and the other libraries."""
_RESERVE = 1.15
"""`auto` takes at most so much less than there is: the estimate's error, and room for others."""


def estimate_training_bytes(config: Config, in_flight: int, process_bytes: int = PROCESS_BYTES, ranks: int = 1) -> int:
    """Peak memory of one process of a training, from shapes alone: within 15 % of what is measured.

    Args:
        config: model, batch size, shards, masking rate.
        in_flight: shards of this process that run at once.
        process_bytes: interpreter and libraries.
        ranks: processes that share the shards.
    """
    from mini_bert.model.parameters import parameter_table

    model, train = config.model, config.train
    L, H, A, I, V, T = (
        model.num_hidden_layers,
        model.hidden_size,
        model.num_attention_heads,
        model.intermediate_size,
        model.vocab_size,
        model.max_position_embeddings,
    )
    n = -(-train.batch_size // train.shards) * T
    m = config.masking.rate * n
    block = n * (8 * H + 2 * I + A * T)
    if model.hidden_dropout_prob or model.attention_probs_dropout_prob:
        block += n * (A * T + (A * T + 2 * H) / 4)
    one = (L - 1) * block + 3 * n * H + m * (8 * H + 2 * I) + 2 * n * H + 2 * m * V + 4 * n * I + m * V + V * H
    parameters = sum(math.prod(row.shape) for row in parameter_table(model))
    own = -(-train.shards // ranks)
    buffers = min(own, min(in_flight, own) + math.ceil(math.log2(train.shards)))
    return process_bytes + int(4 * (parameters * (3 + buffers) + one * min(in_flight, own)))


def choose_in_flight(config: Config, threads: int, ranks: int = 1) -> int:
    """How many shards run at once: as many as threads, fewer where memory, or `train.in_flight`, does not allow."""
    most = min(threads, -(-config.train.shards // ranks))
    if config.train.in_flight != "auto":
        return min(most, config.train.in_flight)
    available = available_bytes()
    while most > 1 and available is not None and _RESERVE * ranks * _still_needed(config, most, ranks) > available:
        most -= 1
    return most


def require_room(config: Config, in_flight: int, ranks: int = 1) -> None:
    """Refuse a training that cannot fit, before anything large is allocated.

    Raises:
        ConfigError: with what it needs, what there is, and the nearest change that would fit.
    """
    available, needed = available_bytes(), ranks * _still_needed(config, in_flight, ranks)
    if available is not None and needed > available:
        raise ConfigError(
            "train", got=f"a training that needs {needed / 1e9:.1f} GB", expected=f"at most {available / 1e9:.1f} GB"
        )


def _still_needed(config: Config, in_flight: int, ranks: int) -> int:
    """Of the estimate, what this process does not have yet."""
    return estimate_training_bytes(config, in_flight, 0, ranks)
