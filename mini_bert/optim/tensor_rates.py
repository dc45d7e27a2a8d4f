"""Learning rates of a tensor's own: lower ones further down, another one for what tells positions apart.

    η_τ = η φ_τ ρ^(L + 1 − l)        l = 0 embeddings, 1 … L blocks, L + 1 above  (TENSORRATE.1)
    φ_τ = the factor for positions where τ tells positions apart, else 1          (TENSORRATE.2)

The decoupled weight decay, which the rate scales, is scaled with it. Layer-wise decay is Howard and Ruder's (2018).
Derivation: docs/derivations/tensor_rates.md.
"""

from __future__ import annotations

from mini_bert.optim.layout import Layout


def rate_factors(layout: Layout, layer_decay: float, position_lr_factor: float) -> dict[str, float]:
    """The factor on the learning rate of each tensor, by name (TENSORRATE.1)."""
    top = max((tensor.depth for tensor in layout), default=0)
    return {
        tensor.name: layer_decay ** (top - tensor.depth) * (position_lr_factor if tensor.positions else 1.0)
        for tensor in layout
    }
