"""How large a share is hidden at which step.

    fixed     rate
    linear    rate + (final_rate − rate) t                                                                (MA.7)
    cosine    rate + (final_rate − rate) (1 − cos π t) / 2                                                (MA.8)
    adaptive  see `training/adaptive_masking.py`; without an evaluation, rate

t goes from 0 at the first step to 1 at the last. Source for high to low: Yang et al. 2023, "Learning better masking
for better language model pre-training".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mini_bert.config.schema import MaskingConfig


HELD_OUT_RATE = 0.15
"""Of held-out rows, whatever a run's own."""


def scheduled_rate(masking: MaskingConfig, step: int, steps: int | None) -> float:
    """The rate of batch number `step`, from 0, of `steps`; the first one where their number is not known yet."""
    if masking.rate_schedule in ("fixed", "adaptive") or steps is None:
        return masking.rate
    t = min(step / max(1, steps - 1), 1.0)
    if masking.rate_schedule == "cosine":
        t = (1.0 - math.cos(math.pi * t)) / 2.0
    return masking.rate + (masking.final_rate - masking.rate) * t


def greatest_rate(masking: MaskingConfig) -> float:
    """The largest rate that can come, by which memory is planned."""
    if masking.rate_schedule == "adaptive":
        return masking.adaptive_range[1]
    return masking.rate if masking.rate_schedule == "fixed" else max(masking.rate, masking.final_rate)
