"""Layer-wise decay of the learning rate: what lies further down learns more slowly (Howard and Ruder 2018).

    η_l = η ρ^(L + 1 − l)        l = 0 embeddings, 1 … L blocks, L + 1 above  (LAYERDECAY.1)

The decoupled weight decay, which the rate scales, is scaled with it. Derivation: docs/derivations/layer_decay.md.
"""

from __future__ import annotations

from mini_bert.optim.layout import Layout


def rate_factors(layout: Layout, layer_decay: float) -> dict[str, float]:
    """The factor on the learning rate of each tensor, by name (LAYERDECAY.1)."""
    top = max((tensor.depth for tensor in layout), default=0)
    return {tensor.name: layer_decay ** (top - tensor.depth) for tensor in layout}
