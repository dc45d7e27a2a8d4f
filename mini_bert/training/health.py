"""Is the training well, and if not, what now? Skipped updates, plateaus and loss spikes, and what each calls for.

    skipped updates in a row      → "cut" the learning rate, in the end "give up"
    evaluations without progress  → "cut" the learning rate, "stop" the run
    a loss far above the recent   → "warn", or "roll-back" to the last checkpoint

`Health` holds plain values and is a function of what was measured alone: saved with a checkpoint and restored, it says
what it would have said, so a resumed run takes the same turns as one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Literal, NamedTuple

from mini_bert.config.schema import HealthConfig
from mini_bert.training.step import StepResult

WINDOW = 50
"""Losses that a loss is compared with."""
FEWEST = 20
"""Losses that must have been seen before their spread means anything."""
FLOOR_NATS, FLOOR_SHARE = 0.01, 0.01
"""The deviation counts as no less than so many nats, and no less than this share of the median: a flat curve has no
deviation of its own."""
EXPLODED = 3.0
"""A loss this many times the largest of the window is a spike, however few have been seen and whatever their spread."""
PASSED_OVER = 20
"""Batches that a rollback passes over beside those that were met: what is wrong with data is seldom one batch long."""
REMEMBERED = 20
"""Steps that an incident tells of."""


class Remedy(NamedTuple):
    """What is to be done."""

    kind: Literal["cut", "roll-back", "warn", "stop", "give up"]
    """A cut is done already, in `Health.lr_scale`; all others are for the loop to do. A roll-back is logged as
    `rollback`."""
    reason: str
    """A sentence with numbers."""


@dataclass
class Health:
    """What the rules remember; plain values for JSON, none of them NaN or infinite."""

    lr_scale: float = 1.0
    """Factor on the schedule's learning rate: the product of all cuts."""
    batch_offset: int = 0
    """Batches passed over by rollbacks: step s (from 0) trains on batch s + batch_offset."""
    rollbacks: int = 0
    skipped_in_a_row: int = 0
    skipped_since_cut: int = 0
    """Skipped updates in a row since the last cut."""
    best_loss: float | None = None
    """Of the evaluations, nats."""
    evaluations_since_best: int = 0
    evaluations_since_cut: int = 0
    """Without a better loss."""
    spiking: bool = False
    """Whether the last loss was a spike: a spike is told of once, when it begins."""
    losses: list[float] = field(default_factory=list)
    """Finite losses of the last steps, oldest first, at most `WINDOW`."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """The last steps as an incident tells them, oldest first, at most `REMEMBERED`."""

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Health:
        """The health as `asdict` gave it."""
        return cls(**saved)

    def after_step(self, result: StepResult, settings: HealthConfig) -> Remedy | None:
        """Take in what a step measured; what is to be done, if anything."""
        self.steps = [*self.steps[1 - REMEMBERED :], _told(result)]
        if result.skipped:
            return self._after_skip(result, settings)
        self.skipped_in_a_row = self.skipped_since_cut = 0
        return self._after_loss(result.step, result.loss, settings) if result.masked else None

    def _after_skip(self, result: StepResult, settings: HealthConfig) -> Remedy | None:
        self.skipped_in_a_row += 1
        self.skipped_since_cut += 1
        found = f" The last: {result.found}" if result.found else ""
        if result.found is not None and result.found.direction == "parameter":  # no number of steps would heal it
            return Remedy("give up", f"Step {result.step} found {result.found}")
        if self.skipped_in_a_row >= settings.max_skipped:
            first = result.step - self.skipped_in_a_row + 1
            return Remedy(
                "give up",
                f"{self.skipped_in_a_row} updates in a row had no finite loss and gradient, at the steps {first} to "
                f"{result.step}.{found}",
            )
        if settings.lr_cut_after_skips is not None and self.skipped_since_cut >= settings.lr_cut_after_skips:
            skips, self.skipped_since_cut = self.skipped_since_cut, 0
            return self._cut(settings, f"{skips} skipped updates in a row.{found}")
        return None

    def _after_loss(self, step: int, loss: float, settings: HealthConfig) -> Remedy | None:
        limit = spike_limit(self.losses, settings.spike_deviations)
        before, self.spiking = self.spiking, loss > limit
        seen, middle = len(self.losses), median(self.losses or [loss])
        self.losses = [*self.losses[1 - WINDOW :], loss]
        if settings.spike == "ignore" or before or not self.spiking:
            return None
        reason = (
            f"The loss of step {step} is {loss:.4g} nats; the {seen} before it had the median "
            f"{middle:.4g}, and above {limit:.4g} is a spike"
        )
        if settings.spike == "warn":
            return Remedy("warn", f"{reason}.")
        if self.rollbacks >= settings.max_rollbacks:
            return Remedy("warn", f"{reason}. No way back: health.max_rollbacks is {settings.max_rollbacks}.")
        return Remedy("roll-back", f"{reason}.")

    def after_evaluation(self, step: int, loss: float | None, settings: HealthConfig) -> Remedy | None:
        """Take in an evaluation's loss; what is to be done, if anything. A loss that is not finite is no better one."""
        if loss is not None and math.isfinite(loss) and self._is_better(loss, settings.min_improvement):
            self.best_loss = loss
            self.evaluations_since_best = self.evaluations_since_cut = 0
            return None
        self.evaluations_since_best += 1
        self.evaluations_since_cut += 1
        best = "none" if self.best_loss is None else f"{self.best_loss:.4f} nats"
        since = f"{self.evaluations_since_best} evaluations up to step {step} without a better loss than {best}"
        if settings.min_improvement:
            since += f" by {settings.min_improvement:g}"
        patience, plateau = settings.stop_after_evaluations, settings.lr_cut_after_evaluations
        if patience is not None and self.evaluations_since_best >= patience:
            return Remedy("stop", f"{since}.")
        if plateau is not None and self.evaluations_since_cut >= plateau:
            self.evaluations_since_cut = 0
            return self._cut(settings, f"{since}.")
        return None

    def _is_better(self, loss: float, by: float) -> bool:
        return self.best_loss is None or loss < self.best_loss - by

    def _cut(self, settings: HealthConfig, why: str) -> Remedy:
        self.lr_scale *= settings.lr_cut
        return Remedy("cut", f"The learning rate is now {self.lr_scale:.4g} of the schedule's: {why}")

    def rolled_back(self, from_step: int, to_step: int, saved: Mapping[str, Any] | None = None) -> None:
        """Go on from the checkpoint of `to_step`, past the batches that were met since and `PASSED_OVER` more.

        Args:
            from_step: the step after which "roll-back" was said.
            to_step: the step of the checkpoint.
            saved: the health in that checkpoint; all but rollbacks and batch_offset becomes what it was. None: as new,
                for a start from step 0.
        """
        rollbacks, batch_offset = self.rollbacks + 1, self.batch_offset + from_step - to_step + PASSED_OVER
        restored = Health() if saved is None else Health.restored(saved)
        vars(self).update(vars(restored))
        self.rollbacks, self.batch_offset = rollbacks, batch_offset


def spike_limit(losses: list[float], deviations: float) -> float:
    """The loss above which a step is a spike; infinite while too little has been seen.

    limit = median + deviations · max(σ, floor),    σ = 1.4826 / √2 · median |lossᵢ − lossᵢ₋₁|

    Neighbours differ by noise alone, whatever the trend: a loss that is falling fast has no large deviation. For normal
    noise 1.4826 · median |x| is the standard deviation of x, and that of a difference is √2 times the one looked for.
    Medians do not move until half of the window has: a spike does not hide the next. A loss of `EXPLODED` times the
    largest before it, and a nat more, is a spike in any case.
    """
    if not losses:
        return math.inf
    exploded = EXPLODED * max(losses) + 1.0
    if len(losses) < FEWEST:
        return exploded
    middle = median(losses)
    deviation = 1.4826 / math.sqrt(2.0) * median(abs(now - before) for before, now in pairwise(losses))
    return min(exploded, middle + deviations * max(deviation, FLOOR_NATS, FLOOR_SHARE * middle))


def _told(result: StepResult) -> dict[str, Any]:
    return {
        "step": result.step,
        "loss": _finite(result.loss),
        "grad_norm": _finite(result.grad_norm),
        "lr": result.lr,
        "skipped": result.skipped,
        "found": str(result.found) if result.found else None,
        "again": result.found is not None and result.found.again,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
