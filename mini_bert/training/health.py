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

import numpy as np

from mini_bert.config.schema import HealthConfig
from mini_bert.ops.contract import Array
from mini_bert.training.step import StepResult, TrainingState

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
GROWN = 1e4
"""A parameter of this size was made by no ordinary training: after an hour of it the largest is 4."""
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


def not_finite_in(state: TrainingState) -> str | None:
    """The first parameter or moment that is not finite: such a state is not worth saving. None: all are finite."""
    if all(np.isfinite(vector).all() for vector in state.vectors):
        return None
    for key, views in _named(state):
        for name, view in views.items():
            if not np.isfinite(view).all():
                return name if key == "parameters" else f"{key} of {name}"
    raise AssertionError("a vector has elements that are no parameter's")


def _named(state: TrainingState) -> list[tuple[str, Mapping[str, Array]]]:
    """Parameters and what the optimiser keeps, each by the parameters' names."""
    kept = state.optimizer
    return [("parameters", state.model.parameters), *((vector, kept.views(vector)) for vector in kept)]


def incident(health: Health, state: TrainingState, settings: HealthConfig, reason: str) -> dict[str, Any]:
    """What happened before a run gave up, as plain values for JSON.

    Keys: step, reason, advice (sentences), lr_scale, rollbacks, settings, steps (the last `REMEMBERED`, oldest first),
    largest (magnitudes by part of the model, of the parameters and of both moments; null where not finite).
    """
    return {
        "step": state.step,
        "reason": reason,
        "advice": _advice(health, state, settings),
        "lr_scale": health.lr_scale,
        "rollbacks": health.rollbacks,
        "settings": settings.model_dump(mode="json"),
        "steps": [dict(step) for step in health.steps],
        "largest": _largest(state),
    }


def incident_text(report: Mapping[str, Any]) -> str:
    """An incident in words and tables, for people."""

    def number(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.4g}"

    lines = [report["reason"], "", f"{'step':>8}  {'loss':>10}  {'grad norm':>10}  {'lr':>10}"]
    for step in report["steps"]:
        cells = [f"{number(step[key]):>10}" for key in ("loss", "grad_norm", "lr")]
        lines.append("  ".join([f"{step['step']:>8}", *cells, step["found"] or ""]).rstrip())
    vectors = list(dict.fromkeys(key for largest in report["largest"].values() for key in largest))
    lines += [
        "",
        "  ".join([f"{'largest':<16}", *(f"{'parameter' if key == 'parameters' else key:>10}" for key in vectors)]),
    ]
    for part, largest in report["largest"].items():
        cells = [f"{number(largest[key]) if key in largest else '':>10}" for key in vectors]
        lines.append("  ".join([f"{part:<16}", *cells]).rstrip())
    return "\n".join([*lines, "", *report["advice"]])


def _advice(health: Health, state: TrainingState, settings: HealthConfig) -> list[str]:
    bad = not_finite_in(state)
    skipped = [step for step in health.steps if step["skipped"]]
    if bad is not None:
        return [
            f"{bad} is not finite, so that no step can be: go on from an older checkpoint (`--resume PATH --run NEW`).",
            "An update does not do that to finite numbers; if it happens again, suspect the machine's memory.",
        ]
    if skipped and not any(step["again"] for step in skipped):
        return [
            "The same batches, repeated, were finite: suspect the machine (memory, heat) before the settings.",
            "Go on from the last checkpoint with `--resume auto`.",
        ]
    advice = ["Begin anew with a lower `--train.lr` or a higher `--train.warmup-ratio`."]
    grown = float(np.abs(state.model.parameters.buffer).max())
    if grown > GROWN:
        advice.append(
            f"The parameters have grown to {grown:.3g}, which no lower rate undoes: the state that was saved is not "
            "worth going on from; an older one, if it is there, may be (`--resume PATH --run NEW`)."
        )
    elif settings.lr_cut_after_skips is None and settings.max_skipped > 1:
        fewer = settings.max_skipped // 2
        advice.append(f"Or let the run help itself: `--health.lr-cut-after-skips {fewer}` cuts the rate before that.")
    norms = [step["grad_norm"] for step in health.steps if step["grad_norm"] is not None]
    if settings.spike != "roll-back" and norms and max(norms) > 10 * norms[0]:
        advice.append(
            f"The gradient norm went from {norms[0]:.3g} to {max(norms):.3g} before: with `--health.spike roll-back` "
            "a run goes back when its loss jumps, and passes over the batches of that stretch."
        )
    return advice


def _largest(state: TrainingState) -> dict[str, dict[str, float | None]]:
    largest: dict[str, dict[str, float | None]] = {}
    vectors = _named(state)
    for row in state.model.parameters.table:
        part = largest.setdefault(row.component if row.layer is None else f"layer_{row.layer}", {})
        for key, views in vectors:
            if row.name in views:
                before, now = part.get(key, 0.0), float(np.abs(views[row.name]).max(initial=0))
                part[key] = max(before, now) if before is not None and math.isfinite(now) else None
    return largest
