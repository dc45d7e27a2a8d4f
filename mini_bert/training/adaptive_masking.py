"""The masking rate that follows what the model can do: more is hidden as its held-out accuracy grows.

    r ← min(high, max(low, r + δ · min(1, max(−1, a / a* − 1))))                                          (MA.9)

after each evaluation behind step 0, where a is the accuracy at the held-out masks, a* `adaptive_target`, δ
`adaptive_step` and low, high `adaptive_range`; r begins as `masking.rate`, which lies in the range. A model that knows
less than the target sees more, one that knows more sees less; at a = 0 and at a = 2 a* the step is the whole of δ.

The held-out masks themselves never change with the rate, so that a means the same throughout. What is remembered are
plain values, saved with a checkpoint: a resumed run hides what an undisturbed one would have hidden. Without an
evaluation the rate stays as it is; and `train.evaluate_every` changes what is learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mini_bert.config.schema import Config, MaskingConfig


@dataclass
class AdaptiveRate:
    """The rate of now; plain values for JSON."""

    rate: float
    evaluations: int = 0
    """That it has followed."""

    @classmethod
    def first(cls, masking: MaskingConfig) -> AdaptiveRate | None:
        """As a run begins; None where the rate is not adaptive."""
        if masking.rate_schedule != "adaptive":
            return None
        return cls(masking.rate)

    @classmethod
    def restored(cls, saved: Mapping[str, Any] | None) -> AdaptiveRate | None:
        """As `asdict` gave it, or None."""
        return None if saved is None else cls(**saved)

    def after_evaluation(self, accuracy: float | None, masking: MaskingConfig) -> None:
        """Follow the share of held-out masks that was filled in rightly; None or NaN, and the rate stays."""
        if accuracy is None or not math.isfinite(accuracy):
            return
        low, high = masking.adaptive_range
        step = masking.adaptive_step * min(1.0, max(-1.0, accuracy / masking.adaptive_target - 1.0))
        self.rate = min(high, max(low, self.rate + step))  # (MA.9)
        self.evaluations += 1


def implement_adaptive_masking(
    config: Config | None = None,
    target: float = 0.4,
    *,
    step: float = 0.01,
    lowest: float = 0.1,
    highest: float = 0.4,
) -> Config:
    """The configuration with a masking rate that follows the held-out accuracy, as (MA.9) says: `pretrain` obeys it.

    The rate begins as that of `config`, moved into the range.

    Args:
        config: all other settings; None: the defaults.
        target: accuracy at the held-out masks that the rate aims at.
        step: change of the rate at an evaluation, at most.
        lowest: least rate.
        highest: greatest rate.

    Raises:
        ConfigError: a number is out of bounds.

    >>> implement_adaptive_masking(target=0.5).masking.rate_schedule
    'adaptive'
    """
    config = config or Config()
    settings = config.masking.model_dump() | {
        "rate_schedule": "adaptive",
        "adaptive_target": target,
        "adaptive_step": step,
        "adaptive_range": (lowest, highest),
        "rate": min(highest, max(lowest, config.masking.rate)),
    }
    return config.model_copy(update={"masking": MaskingConfig(**settings)})
