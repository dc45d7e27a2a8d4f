"""What does one line of the certificate say? That one oracle looked at one thing, how far off it was, and what is
allowed.

Every check ends as an `Evidence`: also one that could not be made because something is not installed, and one that
ended in an exception, which counts as failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from mini_bert.verification.gradient_check import CENTRAL_DIFFERENCE, COMPLEX_STEP, TensorError


class Oracle(NamedTuple):
    """Something that knows the right answer, or one property of it, without our formulas."""

    name: str
    says: str
    """How it knows, in one sentence."""
    operation_threshold: float | None
    """Largest error that passes for an operation; None: it does not look at operations."""
    model_threshold: float | None
    """Largest error that passes for a model; None: it does not look at models."""


COMPLEX = Oracle(
    COMPLEX_STEP.name,
    "one entry is moved by 1e-30 i, and the imaginary part of the result is the derivative; nothing is subtracted",
    COMPLEX_STEP.operation_threshold,
    COMPLEX_STEP.model_threshold,
)
CENTRAL = Oracle(
    CENTRAL_DIFFERENCE.name,
    "one entry is moved by ±1e-3 and ±2e-3, in float64 (a tenth of it where the function bends within that)",
    CENTRAL_DIFFERENCE.operation_threshold,
    CENTRAL_DIFFERENCE.model_threshold,
)
LOOPS = Oracle(
    "slow loops",
    "the definition once more, by loops over single numbers that remember what they were made of: values, and the "
    "derivatives of all entries",
    1e-12,
    1e-12,
)
TORCH = Oracle(
    "PyTorch", "the same network out of PyTorch's own functions, and its autograd in float64: all entries", 1e-10, 1e-10
)
FLOAT32 = Oracle("float32", "our own float32, which has code of its own, beside our float64: all entries", 1e-4, 1e-4)
IDENTITY = Oracle("identity", "a theorem that right values and gradients fulfil whatever the weights", 1e-10, 1e-10)
ZERO = Oracle(
    "zero", "the gradient is next to nothing, and moving the numbers by whole units changes nothing", None, 1e-12
)
DERIVATIVES = (COMPLEX, CENTRAL, LOOPS, TORCH, FLOAT32)
"""Those that look at gradients, in the order of the columns."""
ORACLES = {oracle.name: oracle for oracle in (*DERIVATIVES, IDENTITY, ZERO)}


class Evidence(NamedTuple):
    """One oracle, one subject."""

    part: str
    """`operations`, `default model`, …: a table of the certificate."""
    subject: str
    """`layer_norm`, `W_Q_0`, `softmax rows sum to 1`."""
    oracle: str
    case: str
    """Which input, or which conditions."""
    error: float | None
    """The worst one; None: not looked at, and `detail` says why."""
    threshold: float
    compared: int
    """How many numbers stand behind the error."""
    detail: str = ""
    """Where the error was worst, or why there is none."""

    @property
    def absent(self) -> bool:
        """Whether the oracle was not there."""
        return self.error is None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it: the error is within the threshold (NaN is not), or nobody looked."""
        return self.error is None or self.error <= self.threshold

    def __str__(self) -> str:
        where = f"{self.part}: {self.case}" if self.case else self.part
        name = f"{self.subject}, {self.oracle} ({where})"
        if self.error is None:
            return f"{name}: {self.detail}"
        relation = "<=" if self.passed else ">"
        return f"{name}: {self.error:.1e} {relation} {self.threshold:.0e}{f', {self.detail}' if self.detail else ''}"


class Measured(NamedTuple):
    """What a check hands over to become an Evidence."""

    error: float
    compared: int
    detail: str = ""

    @classmethod
    def worst_of(cls, errors: Iterable[TensorError]) -> Measured:
        """The largest of the errors, and the place of it."""
        tensors = list(errors)
        worst = max(tensors, key=lambda tensor: math.inf if math.isnan(tensor.error) else tensor.error)
        return cls(worst.error, sum(tensor.compared for tensor in tensors), place(worst))


def place(error: TensorError) -> str:
    """Where a tensor is furthest off: `W[3, 4]: got 1.25, expected 1.5`."""
    name = f"{error.name}[{', '.join(map(str, error.worst))}]" if error.worst else error.name
    return f"{name}: got {error.got:.9g}, expected {error.expected:.9g}"


def attempt(
    part: str, subject: str, case: str, oracle: Oracle, threshold: float | None, measure: Callable[[], Measured]
) -> Evidence:
    """Make one check; an exception on the way is the worst error."""
    assert threshold is not None
    try:
        with np.errstate(all="ignore"):
            error, compared, detail = measure()
    except MemoryError:
        raise
    except Exception as exception:
        return Evidence(part, subject, oracle.name, case, math.inf, threshold, 0, raised(exception))
    return Evidence(part, subject, oracle.name, case, error, threshold, compared, detail)


def guarded(
    part: str, subject: str, case: str, oracle: Oracle, threshold: float | None, rows: Callable[[], Iterator[Evidence]]
) -> Iterator[Evidence]:
    """The rows of a check that makes many; where it breaks off, `subject` is what failed."""
    assert threshold is not None
    iterator = rows()
    while True:
        try:
            with np.errstate(all="ignore"):
                row = next(iterator, None)
        except MemoryError:
            raise
        except Exception as exception:
            yield Evidence(part, subject, oracle.name, case, math.inf, threshold, 0, raised(exception))
            return
        if row is None:
            return
        yield row


def raised(exception: Exception) -> str:
    """An exception in one line."""
    text = str(exception).partition("\n")[0]
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__


def worst_evidence(rows: Iterable[Evidence], **changes: Any) -> Evidence:
    """One row for many: the one that is nearest to its threshold or furthest beyond, with the numbers of all."""
    rows = list(rows)
    worst = max(rows, key=_strain)
    named = worst.absent or "subject" not in changes or worst.detail.startswith(worst.subject)
    detail = worst.detail if named else f"{worst.subject}: {worst.detail}"
    return worst._replace(**{"compared": sum(row.compared for row in rows), "detail": detail, **changes})


def _strain(row: Evidence) -> float:
    """How much of what is allowed an error takes; −1 where nobody looked."""
    if row.error is None:
        return -1.0
    if math.isnan(row.error):
        return math.inf
    return row.error / row.threshold if row.threshold else math.inf if row.error else 0.0
