"""Position-wise feed-forward network (Vaswani et al. 2017, equation 2, with BERT's GELU).

    y = act(x W1 + b1) W2 + b2                                               (FF.1)

Each position by itself, so that any set of rows will do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mini_bert.config.schema import ModelConfig
from mini_bert.model.forward_pass import Pass
from mini_bert.model.parameters import FeedForwardParameters, add_gradient
from mini_bert.ops import gelu, gelu_new, linear, relu
from mini_bert.ops.contract import Array

ACTIVATIONS: dict[str, Any] = {"gelu": gelu, "gelu_new": gelu_new, "relu": relu}


class Saved(NamedTuple):
    """What the three operations keep."""

    first: linear.Saved
    activation: Any
    second: linear.Saved


def feed_forward_forward(
    x: Array, params: FeedForwardParameters, config: ModelConfig, run: Pass, name: str
) -> tuple[Array, Saved]:
    """Return y [..., H] of x [..., H] (FF.1)."""
    h, first_saved = linear.forward(x, params.W1, params.b1)
    h = run.tap(f"{name}.pre_activation", h)
    a, activation_saved = ACTIVATIONS[config.hidden_act].forward(h)
    a = run.tap(f"{name}.activation", a)
    y, second_saved = linear.forward(a, params.W2, params.b2)
    return run.tap(f"{name}.projection", y), Saved(first_saved, activation_saved, second_saved)


def feed_forward_backward(
    dy: Array, saved: Saved, grads: FeedForwardParameters, config: ModelConfig, run: Pass, name: str
) -> Array:
    """Add the gradients to `grads` and return dx [..., H]."""
    da, dW2, db2 = linear.backward(run.tap(f"{name}.projection", dy), saved.second)
    grads.W2[...] += dW2
    add_gradient(grads.b2, db2)
    da = run.tap(f"{name}.activation", da)
    (dh,) = ACTIVATIONS[config.hidden_act].backward(da, saved.activation)
    dh = run.tap(f"{name}.pre_activation", dh)
    dx, dW1, db1 = linear.backward(dh, saved.first)
    grads.W1[...] += dW1
    add_gradient(grads.b1, db1)
    return dx
