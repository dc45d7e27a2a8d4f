"""Gated feed-forward network (Shazeer 2020, equation 6: GEGLU where the activation is GELU).

    a = act(x W1 + b1)                                                       (GFF.1)
    g = x W3 + b3                    the gate, linear                        (GFF.2)
    y = (a ⊙ g) W2 + b2                                                      (GFF.3)

    da = dp ⊙ g,  dg = dp ⊙ a        dp of the product a ⊙ g                 (GFF.4)
    dx = dh W1ᵀ + dg W3ᵀ             dh of the activation's input            (GFF.5)

The paper has no biases; here `use_bias` says. Derivation: docs/derivations/gated_feed_forward.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mini_bert.config.schema import ModelConfig
from mini_bert.model.feed_forward import ACTIVATIONS
from mini_bert.model.forward_pass import Pass
from mini_bert.model.parameters import GatedFeedForwardParameters, add_gradient
from mini_bert.ops import linear
from mini_bert.ops.contract import Array


class Saved(NamedTuple):
    """What the operations keep, and both factors of the product: each is the other's derivative."""

    first: linear.Saved
    activation: Any
    third: linear.Saved
    a: Array
    """[..., I]"""
    gate: Array
    """[..., I]"""
    second: linear.Saved


def feed_forward_forward(
    x: Array, params: GatedFeedForwardParameters, config: ModelConfig, run: Pass, name: str
) -> tuple[Array, Saved]:
    """Return y [..., H] of x [..., H] (GFF.1-3)."""
    h, first_saved = linear.forward(x, params.W1, params.b1)
    h = run.tap(f"{name}.pre_activation", h)
    a, activation_saved = ACTIVATIONS[config.hidden_act].forward(h)
    a = run.tap(f"{name}.activation", a)
    gate, third_saved = linear.forward(x, params.W3, params.b3)
    gate = run.tap(f"{name}.gate", gate)
    product = run.tap(f"{name}.product", a * gate)
    y, second_saved = linear.forward(product, params.W2, params.b2)
    saved = Saved(first_saved, activation_saved, third_saved, a, gate, second_saved)
    return run.tap(f"{name}.projection", y), saved


def feed_forward_backward(
    dy: Array, saved: Saved, grads: GatedFeedForwardParameters, config: ModelConfig, run: Pass, name: str
) -> Array:
    """Add the gradients to `grads` and return dx [..., H]."""
    dproduct, dW2, db2 = linear.backward(run.tap(f"{name}.projection", dy), saved.second)
    grads.W2[...] += dW2
    add_gradient(grads.b2, db2)
    dproduct = run.tap(f"{name}.product", dproduct)
    dgate = run.tap(f"{name}.gate", dproduct * saved.a)  # (GFF.4)
    dx, dW3, db3 = linear.backward(dgate, saved.third)
    grads.W3[...] += dW3
    add_gradient(grads.b3, db3)
    da = run.tap(f"{name}.activation", dproduct * saved.gate)
    (dh,) = ACTIVATIONS[config.hidden_act].backward(da, saved.activation)
    dh = run.tap(f"{name}.pre_activation", dh)
    dx_activated, dW1, db1 = linear.backward(dh, saved.first)
    grads.W1[...] += dW1
    add_gradient(grads.b1, db1)
    dx += dx_activated  # (GFF.5): x was read twice
    return dx
