"""Lookahead: slow weights that follow the fast ones every k steps (Zhang et al. 2019, algorithm 1).

    φ ← φ + α (θ − φ)            after every k-th update                     (LOOKAHEAD.1)
    θ ← φ                                                                    (LOOKAHEAD.2)

Any optimiser makes the fast weights θ; its moments go on as they are. The slow weights φ begin as the parameters do:
4 bytes a parameter in float32, whatever the optimiser keeps. Derivation: docs/derivations/lookahead.md.
"""

from __future__ import annotations

from mini_bert.ops.contract import Array, blocks
from mini_bert.optim.layout import check_update


def update(parameters: Array, slow: Array, *, step: int, every: int, alpha: float = 0.5) -> None:
    """After update number `step`: every `every` steps, move slow and fast weights, in place, to the point between them.

    Args:
        parameters: [N] the fast weights θ.
        slow: [N] the slow weights φ.
        step: counted from 1.
        every: k.
        alpha: α, how far slow weights go.

    Raises:
        InvalidInputError: lengths differ, or `step` is not positive.
    """
    check_update(parameters, step, slow=slow)
    if step % every:
        return
    for block in blocks(parameters.size):
        theta, phi = parameters[block], slow[block]
        theta -= phi
        theta *= alpha
        phi += theta  # (LOOKAHEAD.1)
        theta[...] = phi  # (LOOKAHEAD.2)
