"""Gradient descent with momentum (Polyak 1964), Nesterov's way or plainly, and decoupled weight decay.

    m ← μ m + g                                                              (SGD.1)
    θ ← θ − η λ θ                on decayed parameters only                  (SGD.2)
    θ ← θ − η m                  plain                                       (SGD.3)
    θ ← θ − η (g + μ m)          Nesterov                                    (SGD.4)

Nesterov's form is that of Sutskever et al. 2013, written for the point that it looks ahead to. Differs from
`torch.optim.SGD` in the decay, which there is added to the gradient and goes through the momentum.
Derivation: docs/derivations/sgd.md.
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
    momentum: float = 0.9,
    nesterov: bool = True,
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
        momentum: μ.
        nesterov: (SGD.4) instead of (SGD.3).
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
        m *= momentum
        m += g  # (SGD.1)
        if block.start < decayed:
            theta *= 1.0 - lr * weight_decay  # (SGD.2)
        if nesterov:
            g *= lr
            theta -= g  # (SGD.4): g here, μ m below
        np.multiply(m, lr * momentum if nesterov else lr, out=g)
        theta -= g  # (SGD.3), or the rest of (SGD.4)
