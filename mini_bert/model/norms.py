"""Which norm stands behind, or before, a sublayer: one table for embeddings, blocks and heads."""

from __future__ import annotations

from typing import Any

from mini_bert.config.schema import ModelConfig
from mini_bert.ops import layer_norm, rms_norm
from mini_bert.ops.contract import Array

NORMS: dict[str, Any] = {"layer_norm": layer_norm, "rms_norm": rms_norm}
"""By `norm` of the configuration."""

Saved = layer_norm.Saved | rms_norm.Saved


def norm_forward(x: Array, gamma: Array, beta: Array | None, config: ModelConfig) -> tuple[Array, Saved]:
    """Return the norm of `x` [..., H] that `config` names; `beta` is None for those without a shift."""
    if config.norm == "rms_norm":
        return rms_norm.forward(x, gamma, eps=config.layer_norm_eps)
    return layer_norm.forward(x, gamma, beta, eps=config.layer_norm_eps)


def norm_backward(dy: Array, saved: Saved) -> tuple[Array, Array, Array | None]:
    """Return dx [..., H], dgamma [H] and dbeta [H], None where there is no shift."""
    if isinstance(saved, rms_norm.Saved):
        dx, dgamma = rms_norm.backward(dy, saved)
        return dx, dgamma, None
    return layer_norm.backward(dy, saved)
