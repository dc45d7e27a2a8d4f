"""What the optimisers must know of a model's parameters, from the parameter table."""

from __future__ import annotations

import math
from functools import lru_cache

from mini_bert.model.parameters import ParameterRow
from mini_bert.optim.layout import Layout, Tensor

_ANSWERING = ("nsp", "sop", "std", "rtd", "classifier", "token_classifier")
"""Components that are one linear layer, from hidden states to answers."""
_POSITIONS = ("position_embeddings", "relative_bias", "relative_keys")
"""How the names begin of what tells positions apart."""


@lru_cache(maxsize=64)
def layout_of(table: tuple[ParameterRow, ...]) -> Layout:
    """The layout of the vectors whose tensors are the rows of `table`."""
    top = 1 + max((row.layer + 1 for row in table if row.layer is not None), default=0)
    decoder = any(row.name == "b_vocabulary" for row in table)
    tensors: list[Tensor] = []
    start = 0
    for row in table:
        stop = start + math.prod(row.shape)
        matrix = row.name.startswith("W")
        entries = len(row.shape) == 2 and not matrix
        below = row.component == "embeddings" or entries
        depth = row.layer + 1 if row.layer is not None else 0 if below else top
        hidden = matrix and row.component in ("attention", "feed_forward")
        answers = row.component in _ANSWERING or (decoder and row.name in ("token_embeddings", "b_vocabulary"))
        positions = row.name.startswith(_POSITIONS)
        tensors.append(Tensor(row.name, start, stop, row.shape, row.decay, depth, hidden, entries, answers, positions))
        start = stop
    return tuple(tensors)
