"""The learning rate as a pure function of progress. Derivation: docs/derivations/schedules.md."""

from __future__ import annotations

import math

from mini_bert.errors import InvalidInputError

SCHEDULES = ("linear", "constant", "cosine", "polynomial", "inverse_sqrt", "wsd", "one_cycle")
"""Names of all schedules."""
ONE_CYCLE_START = 1 / 25
"""Where the rise of one-cycle begins, as a share of the peak: PyTorch's and fastai's `div_factor`."""


def learning_rate(
    step: int,
    *,
    steps: int,
    peak: float,
    warmup_ratio: float,
    schedule: str = "linear",
    warmup_steps: int | None = None,
    min_lr_ratio: float = 0.0,
    power: float = 2.0,
    decay_ratio: float = 0.2,
) -> float:
    """The rate of update number `step` = t (from 1) of `steps` = N.

        warm-up:       η = peak · t / w                                     for t ≤ w            (LR.1)
        linear:        η = peak · (N − t + 1) / (N − w + 1)                 for t > w            (LR.2)
        constant:      η = peak                                             for t > w            (LR.3)
        the rest:      r = (N − t + 1) / (N − w + 1)                        for t > w            (LR.4)
        cosine:        η = peak · (1 − cos πr) / 2                                               (LR.5)
        polynomial:    η = peak · rᵖ                                                             (LR.6)
        inverse_sqrt:  η = peak · √(w / t), w at least 1                                         (LR.7)
        wsd:           η = peak · min(1, (N − t + 1) / (D + 1))                                  (LR.8)
        one_cycle:     η = peak · (s + (1 − s) (1 − cos(π t / w)) / 2)      for t ≤ w, then (LR.5)  (LR.9)
        lowest rate:   η ← m · peak + (1 − m) · η                           of each decay to 0   (LR.10)

    with w = `warmup_steps`, or round(`warmup_ratio` · N) where that is None; p = `power`; D = round(`decay_ratio` · N),
    at most N − w; s = 1/25; m = `min_lr_ratio`. (LR.7) does not go to 0: there, m · peak is a floor. The first update
    has a rate above 0 and so has the last: no update is wasted.

    Differs from BERT's own code, which counts from 0, so that its first update has the rate 0, and whose line to 0
    begins at step 0, underneath the warm-up: when that is over, the rate jumps down to where the line is by then.
    Sources: Loshchilov and Hutter 2017 (cosine, without restarts), Vaswani et al. 2017 (inverse_sqrt), Hu et al. 2024
    (wsd), Smith and Topin 2018 (one_cycle; the rate alone, momentum stays).

    Raises:
        InvalidInputError: `step` lies outside 1..steps, or the schedule is unknown.
    """
    if not 1 <= step <= steps:
        raise InvalidInputError("step", got=step, expected=f"1 to {steps}")
    if schedule not in SCHEDULES:
        raise InvalidInputError("schedule", got=repr(schedule), expected=f"one of {', '.join(SCHEDULES)}")
    warmup = round(warmup_ratio * steps) if warmup_steps is None else warmup_steps
    if step <= warmup:
        if schedule == "one_cycle":
            return peak * (ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * _half_wave(step / warmup))  # (LR.9)
        return peak * step / warmup
    left, whole = steps - step + 1, steps - warmup + 1
    if schedule == "wsd":
        whole = min(round(decay_ratio * steps), steps - warmup) + 1
    if schedule == "constant" or left >= whole:  # the stable part of wsd
        return peak
    if schedule == "inverse_sqrt":
        return peak * max(min_lr_ratio, math.sqrt(max(warmup, 1) / step))  # (LR.7)
    if schedule == "polynomial":
        rate = peak * math.pow(left / whole, power)  # (LR.6)
    elif schedule in ("cosine", "one_cycle"):
        rate = peak * _half_wave(left / whole)  # (LR.5)
    else:
        rate = peak * left / whole  # (LR.2), (LR.8)
    return min_lr_ratio * peak + (1.0 - min_lr_ratio) * rate  # (LR.10)


def _half_wave(share: float) -> float:
    """From 0 at 0 to 1 at 1 along half a wave of the cosine."""
    return (1.0 - math.cos(math.pi * share)) / 2.0
