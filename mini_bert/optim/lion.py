"""Lion: the sign of an interpolated momentum, with decoupled weight decay (Chen et al. 2023, algorithm 2).

    c ← β₁ m + (1 − β₁) g                                                    (LION.1)
    m ← β₂ m + (1 − β₂) g                                                    (LION.2)
    θ ← θ − η λ θ                on decayed parameters only                  (LION.3)
    θ ← θ − η sign(c)            sign(0) = 0                                 (LION.4)

The paper's β₂ is 0.99; its rates are three to ten times lower than AdamW's, and λ is higher by as much.
Derivation: docs/derivations/lion.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops.contract import Array
from mini_bert.optim.layout import blocks_split_at, check_update


class State(NamedTuple):
    """The momentum, a vector as long as the parameters: 4 bytes a parameter in float32."""

    m: Array


def init(size: int, dtype: Any = np.float32) -> State:
    """No momentum yet, for `size` parameters."""
    return State(np.zeros(size, dtype))


def update(
    parameters: Array,
    gradients: Array,
    state: State,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    decayed: int = 0,
    scale: float = 1.0,
) -> None:
    """One update of the flat vector `parameters`, and of `state`, in place; `gradients` stay as they are.

    Args:
        parameters: [N] the vector θ.
        gradients: [N] the vector g before scaling.
        state: the momentum.
        step: counted from 1; the update is the same at each.
        lr: η.
        beta1: β₁, how much of what is followed is momentum.
        beta2: β₂, decay of the momentum.
        weight_decay: λ.
        decayed: the first so many parameters are decayed.
        scale: factor on the gradients, from clipping and averaging.

    Raises:
        InvalidInputError: lengths differ, or `step` is not positive.
    """
    check_update(parameters, step, gradients=gradients, **state._asdict())
    for block in blocks_split_at(decayed, parameters.size):
        theta, m = parameters[block], state.m[block]
        g = gradients[block] * scale
        c = m * beta1
        work = g * (1.0 - beta1)
        c += work  # (LION.1)
        m *= beta2
        g *= 1.0 - beta2
        m += g  # (LION.2)
        if block.start < decayed:
            theta *= 1.0 - lr * weight_decay  # (LION.3)
        np.sign(c, out=work)  # into another array: in place it takes ten times as long
        work *= lr
        theta -= work  # (LION.4)
