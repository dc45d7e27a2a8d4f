"""Which gradients are too small for a format, and what does a factor on the loss do about it?

The gradient is linear in the loss: with S · loss in its place, every gradient on the way is S times as large, and in
the end all are divided by S, in float32. In exact arithmetic nothing has happened; in a narrow format, what would have
been rounded to zero has moved into range (Micikevicius et al. 2018, "Mixed precision training", section 3.2). The price
stands at the other end: S too large, and the largest gradients overflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mini_bert.analysis.narrow_pass import Recording, backward, rounding_tap
from mini_bert.analysis.precision import Exact, Narrow
from mini_bert.analysis.rounding import Damage, Format, damage, relative_error, rounded
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array

SCALES = tuple(2.0**k for k in range(-8, 29, 4))
"""Loss scales that are tried. One of 2^−4 is also what sixteen times as many masked tokens would do: the mean loss
divides by their number."""


class ScaleResult(NamedTuple):
    """What one loss scale does to gradients that are not zero in exact arithmetic."""

    scale: float
    intermediates: Damage
    """Of the gradients of all named intermediates together; what an operation makes of zeros counts too."""
    parameters: Damage
    """Of the gradients of all parameters together."""
    error: float
    """‖ĝ − g‖ / ‖g‖ of the whole gradient; infinite where something overflowed."""


def scan(narrow: Narrow, exact: Exact, scales: Iterable[float] = SCALES) -> list[ScaleResult]:
    """The backward pass of `narrow` at each loss scale, beside the exact one."""
    format, model = narrow.format, narrow.model
    gradients = Parameters(model.config, model.dtype)
    results = []
    for scale in scales:
        recording = Recording(rounding_tap(format))
        backward(model, narrow.done, exact.dlogits_MV * scale, gradients, recording)
        stored = rounded(gradients.buffer, format)
        intermediates = [_damage(recording.after[name], x, format) for name, x in exact.backward.items()]
        results.append(
            ScaleResult(
                scale,
                Damage(*map(sum, zip(*intermediates, strict=True))),
                _damage(stored, exact.gradients.buffer, format),
                relative_error(stored / scale, exact.gradients.buffer),
            )
        )
    return results


def _damage(narrow: Array, exact: Array, format: Format) -> Damage:
    there = exact != 0
    return damage(exact[there], narrow[there], format)


@dataclass
class DynamicScale:
    """Loss scaling as everyone does it: double after some sound steps, halve and skip the step when it overflows."""

    scale: float = 2.0**16
    patience: int = 100
    """Sound steps in a row before it is doubled; 2,000 is usual in runs of a million steps."""
    _sound: int = 0

    def update(self, finite: bool) -> None:
        """Learn from a step whether all of its gradients were finite."""
        self._sound = self._sound + 1 if finite else 0
        if not finite:
            self.scale /= 2.0
        elif self._sound == self.patience:
            self.scale, self._sound = self.scale * 2.0, 0


def exponents(arrays: Iterable[Array], lowest: int, highest: int) -> list[int]:
    """How many elements lie in [2^E, 2^(E+1)), for E from `lowest` to `highest`; both ends collect, zeros are out."""
    counts = np.zeros(highest - lowest + 1, np.int64)
    for array in arrays:
        _, exponent = np.frexp(array[array != 0])
        counts += np.bincount(np.clip(exponent - 1, lowest, highest) - lowest, minlength=len(counts))
    return [int(count) for count in counts]
