"""Positions in attention, and its gate, put together from PyTorch's functions: a part of `torch_oracle`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mini_bert.ops.contract import Array

if TYPE_CHECKING:
    from mini_bert.config.schema import ModelConfig


def _places(positions: Any, count: int) -> Any:
    import torch

    return torch.arange(count) if positions is None else torch.as_tensor(positions)


def rotary(x: Any, *, positions: Array, theta: float = 10000.0) -> Any:
    """A matrix of K / 2 rotations on the diagonal, one for each position."""
    import torch

    K = x.shape[-1]
    angles = torch.as_tensor(positions).double()[..., None] / theta ** (torch.arange(0, K, 2).double() / K)
    blocks = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], dim=-1).unflatten(-1, (2, 2))
    return torch.einsum("...kij,...kj->...ki", blocks, x.unflatten(-1, (K // 2, 2))).flatten(-2)


def by_distance(x: Any, *, positions: Array | None = None) -> Any:
    """A gather along the distances."""
    import torch

    keys = (x.shape[-1] + 1) // 2
    columns = torch.arange(keys) - _places(positions, x.shape[-2])[..., None] + keys - 1
    return x.gather(-1, columns.expand(*x.shape[:-1], keys))


def relative_keys(Q: Any, E: Any, *, keys: int, positions: Array | None = None) -> Any:
    """With an embedding for each query and key, [..., T, S, K]."""
    import torch
    from torch.nn import functional as F

    distances = _places(positions, Q.shape[-2])[..., None] - torch.arange(keys)
    embedded = F.embedding(distances + E.shape[0] // 2, E)
    return torch.einsum("...tk,...tsk->...ts", Q, embedded.expand(*Q.shape[:-1], keys, -1)) / math.sqrt(Q.shape[-1])


def relative_bias(E: Any, *, keys: int, max_distance: int, positions: Array | None = None) -> Any:
    """A product with the bucket of each query and key, one-hot."""
    import torch
    from torch.nn import functional as F

    places = torch.arange(keys)[None, None] if positions is None else torch.as_tensor(positions)
    distances = (torch.arange(keys) - places[..., None])[:, 0]
    half = E.shape[0] // 2
    near = half // 2
    borders = [near * (max_distance / near) ** (j / (half - near)) for j in range(half - near)]
    steps = distances.abs()
    far = near - 1 + sum((steps >= border - 1e-9).long() for border in borders)
    buckets = torch.where(steps < near, steps, far) + half * (distances > 0)
    return (F.one_hot(buckets, E.shape[0]).to(E.dtype) @ E).movedim(-1, 1)


def alibi(heads: int, keys: int) -> Any:
    """−m |t − s|, [A, T, S]; the rule for any number of heads written for each head."""
    import torch

    power = 2 ** int(math.log2(heads))
    exponents = [(a + 1) / power if a < power else (2 * (a - power) + 1) / (2 * power) for a in range(heads)]
    slopes = torch.tensor([0.5 ** (8 * exponent) for exponent in exponents], dtype=torch.float64)
    places = torch.arange(keys).double()
    return -slopes[:, None, None] * (places[:, None] - places).abs()


def gate(x: Any, g: Any) -> Any:
    """Each gate repeated for the columns of its group."""
    return x * g.repeat_interleave(x.shape[-1] // g.shape[-1], dim=-1)


def positioned(config: ModelConfig, w: Mapping[str, Any], layer: int, Q: Any, K: Any) -> tuple[Any, Any, Any]:
    """Queries and keys as they meet, and what is added to their scores."""
    import torch

    kind, T = config.position_embedding_type, Q.shape[-2]
    if kind == "rotary":
        Q, K = (rotary(x, positions=torch.arange(T).numpy(), theta=config.rope_theta) for x in (Q, K))
    bias = None
    if kind == "t5_bias":
        bias = relative_bias(w["relative_bias"], keys=T, max_distance=config.relative_attention_max_distance)
    elif kind == "relative_key":
        bias = relative_keys(Q, w[f"relative_keys_{layer}"], keys=T)
    elif kind == "alibi":
        bias = alibi(Q.shape[1], T)
    return Q, K, bias


FUNCTIONS = {
    "by_distance": by_distance,
    "gate": gate,
    "relative_bias": relative_bias,
    "relative_keys": relative_keys,
    "rotary": rotary,
}
"""Operation → its function."""
