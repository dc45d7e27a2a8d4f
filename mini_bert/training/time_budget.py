"""How many steps fit into so many minutes? Asked once, before step 1, with what the forecast has measured.

Schedule and resume know only steps, so that a slower hour or a resume cannot change the result.
"""

from __future__ import annotations

import math


def steps_that_fit(seconds: float, step_seconds: float, evaluation_seconds: float, evaluate_every: int) -> int:
    """The most steps whose time, with an evaluation every so many and at the end, is within `seconds`; at least 1.

    >>> steps_that_fit(100, 0.1, evaluation_seconds=0, evaluate_every=1000)
    1000
    >>> steps_that_fit(100, 0.1, evaluation_seconds=10, evaluate_every=500)
    800
    >>> steps_that_fit(1, 9, evaluation_seconds=10, evaluate_every=10)
    1
    """
    low, high = 1, max(1, math.floor(seconds / step_seconds + 1e-9))
    while low < high:
        steps = (low + high + 1) // 2
        needed = steps * step_seconds + math.ceil(steps / evaluate_every) * evaluation_seconds
        low, high = (steps, high) if needed <= seconds + 1e-9 else (low, steps - 1)
    return low
