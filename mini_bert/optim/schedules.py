"""The learning rate as a pure function of progress."""

from __future__ import annotations

from mini_bert.errors import InvalidInputError


def learning_rate(step: int, *, steps: int, peak: float, warmup_ratio: float, schedule: str = "linear") -> float:
    """The rate of update number `step` (from 1) of `steps`.

        warm-up:   η = peak · step / warmup                     for step ≤ warmup            (LR.1)
        linear:    η = peak · (steps − step + 1) / (steps − warmup + 1)     after it         (LR.2)
        constant:  η = peak                                                 after it         (LR.3)

    with warmup = round(warmup_ratio · steps). The first update has a rate above 0 and so has the last: no update is
    wasted. Differs from BERT's own code, which counts from 0, so that its first update has the rate 0, and whose line
    to 0 begins at step 0, underneath the warm-up: when that is over, the rate jumps down to where the line is by then.

    Raises:
        InvalidInputError: `step` lies outside 1..steps, or the schedule is unknown.
    """
    if not 1 <= step <= steps:
        raise InvalidInputError("step", got=step, expected=f"1 to {steps}")
    if schedule not in ("linear", "constant"):
        raise InvalidInputError("schedule", got=repr(schedule), expected="'linear' or 'constant'")
    warmup = round(warmup_ratio * steps)
    if step <= warmup:
        return peak * step / warmup
    return peak * (steps - step + 1) / (steps - warmup + 1) if schedule == "linear" else peak
