"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    m ← β₁ m + (1 − β₁) g                                                    (ADAMW.1)
    v ← β₂ v + (1 − β₂) g²                                                   (ADAMW.2)
    m̂ = m / (1 − β₁ᵗ)            v̂ = v / (1 − β₂ᵗ)                           (ADAMW.3)
    θ ← θ − η λ θ                on decayed parameters only                  (ADAMW.4)
    θ ← θ − η m̂ / (√v̂ + ε)                                                   (ADAMW.5)

Differs from the paper as everyone does: its schedule multiplier is the learning rate η itself, which scales the decay
too. BERT's own optimiser leaves (ADAMW.3) out. Derivation: docs/derivations/adamw.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops.contract import Array
from mini_bert.optim.layout import blocks_split_at, check_update


class State(NamedTuple):
    """Both moments, each a vector as long as the parameters: 8 bytes a parameter in float32."""

    m: Array
    v: Array


def init(size: int, dtype: Any = np.float32) -> State:
    """Zero moments for `size` parameters."""
    return State(np.zeros(size, dtype), np.zeros(size, dtype))


def update(
    parameters: Array,
    gradients: Array,
    state: State,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    decayed: int = 0,
    scale: float = 1.0,
) -> None:
    """One update of the flat vector `parameters`, and of `state`, in place; `gradients` stay as they are.

    Args:
        parameters: [N] the vector θ.
        gradients: [N] the vector g before scaling.
        state: both moments.
        step: t, counted from 1.
        lr: η.
        beta1: β₁.
        beta2: β₂.
        eps: ε, added outside the root.
        weight_decay: λ.
        decayed: the first so many parameters are decayed.
        scale: factor on the gradients, from clipping and averaging.

    Raises:
        InvalidInputError: lengths differ, or `step` is not positive.
    """
    check_update(parameters, step, gradients=gradients, **state._asdict())
    step_size = lr / (1.0 - beta1**step)
    root_correction = 1.0 / math.sqrt(1.0 - beta2**step)
    for block in blocks_split_at(decayed, parameters.size):
        theta, m, v = parameters[block], state.m[block], state.v[block]
        g = gradients[block] * scale
        m *= beta1
        work = g * (1.0 - beta1)
        m += work  # (ADAMW.1)
        v *= beta2
        g *= g
        g *= 1.0 - beta2
        v += g  # (ADAMW.2)
        np.sqrt(v, out=work)
        work *= root_correction
        work += eps
        np.divide(m, work, out=work)  # (ADAMW.3): 1 − β₁ᵗ stands in the step size
        work *= step_size
        if block.start < decayed:
            theta *= 1.0 - lr * weight_decay  # (ADAMW.4)
        theta -= work  # (ADAMW.5)
