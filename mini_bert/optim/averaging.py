"""An exponential average of the parameters over steps (Polyak and Juditsky 1992; the form of Adam's moments).

    w = (1 − d) / (1 − dᵗ)                                                   (AVERAGE.1)
    a ← a + w (θ − a)            after every update                          (AVERAGE.2)

So a is the mean of θ₁ … θₜ with weights d^(t−i): the first update makes it θ₁, and the initial values have no weight.
4 bytes a parameter in float32. Derivation: docs/derivations/averaging.md.
"""

from __future__ import annotations

from mini_bert.ops.contract import Array, blocks
from mini_bert.optim.layout import check_update


def update(parameters: Array, average: Array, *, step: int, decay: float) -> None:
    """After update number `step`: move `average`, in place, towards `parameters`, which stay as they are.

    Args:
        parameters: [N] the vector θ.
        average: [N] the vector a.
        step: t, counted from 1.
        decay: d.

    Raises:
        InvalidInputError: lengths differ, or `step` is not positive.
    """
    check_update(parameters, step, average=average)
    weight = (1.0 - decay) / (1.0 - decay**step)  # (AVERAGE.1)
    for block in blocks(parameters.size):
        work = parameters[block] - average[block]
        work *= weight
        average[block] += work  # (AVERAGE.2)
