"""What happened before a run gave up: the last steps, the largest magnitudes, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mini_bert.config.schema import HealthConfig
from mini_bert.ops.contract import Array
from mini_bert.training.health import Health
from mini_bert.training.step import TrainingState

GROWN = 1e4
"""A parameter of this size was made by no ordinary training: after an hour of it the largest is 4."""


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
