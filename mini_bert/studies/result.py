"""What a study found, as it is written after each trial and read back: every trial raw, and what follows from them.

`docs/results/studies/<name>.json` is such a file. `comparison` is computed from the trials whenever the file is
written, for reports to draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mini_bert.atomic_files import replace_file
from mini_bert.errors import DataError
from mini_bert.studies.schema import Study

FORMAT = 1

Status = Literal["done", "diverged", "failed", "pruned"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Record):
    """One training."""

    key: str
    """what it was: a hash of all its settings"""
    piece: str
    seed: int
    settings: dict[str, Any]
    """the piece's, over the base's"""
    begins: Literal["nothing", "start"]
    status: Status
    """diverged: the loss was not finite; failed: an error ended it; pruned: a search gave it up"""
    message: str = ""
    """why it is not done"""
    steps: int
    """its budget"""
    step: int
    """steps done"""
    loss: float | None = None
    """held-out, at the end, nats"""
    loss_interval: tuple[float | None, float | None] | None = None
    """95 %, over held-out rows"""
    accuracy: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    first_below: int | None = None
    """the first step at which the training loss is below `level`"""
    level: float | None = None
    """nats, where the study asks for `first_below`"""
    train_losses: list[tuple[int, float | None]] = []
    """step, mean loss since the point before"""
    held_out_losses: list[tuple[int, float | None]] = []
    skipped: int = 0
    """updates left out because something was not finite"""
    parameters: int | None = None
    seconds_per_step: float | None = None
    """median, of whatever the machine did beside it"""
    peak_bytes: int | None = None
    seconds: float = 0.0
    """of training, evaluations not counted"""
    threads: int = 1
    sha256: str | None = None
    """of model and optimiser at the end"""
    data_sha256: str | None = None
    environment: dict[str, Any] = {}


class Clocked(_Record):
    """A piece's time per step beside the baseline's, in alternating blocks of one run."""

    piece: str
    key: str
    """of the piece without seed and budget"""
    seconds: list[float]
    """mean seconds of a step, one number a block"""
    baseline_seconds: list[float]
    peak_bytes: int = 0
    baseline_peak_bytes: int = 0
    failure: str = ""


class Clock(_Record):
    """How long steps take, as measured on a quiet machine."""

    key: str
    """of the baseline without seed and budget"""
    threads: int
    baseline_seconds: float
    """of a step: the median when the clock was first read; it turns the budget into steps"""
    pieces: list[Clocked]
    machine: dict[str, Any]

    def ratio(self, key: str) -> float | None:
        """Seconds of a step as a multiple of the baseline's; None where that was not measured."""
        if key == self.key:
            return 1.0
        found = next((entry for entry in self.pieces if entry.key == key and entry.seconds), None)
        return None if found is None else ratio_of(found)


class StudyResult(_Record):
    """A study's result file: the study, its clock, every trial, and what they say."""

    format: Literal[1] = FORMAT
    kind: Literal["study"] = "study"
    about: str
    """the question"""
    study: dict[str, Any]
    """as the file describes it, with every default"""
    clock: Clock | None = None
    trials: list[Trial] = []
    comparison: list[dict[str, Any]] = []
    """one entry a piece; see comparison.py"""

    def as_study(self) -> Study:
        """The study that this is the result of."""
        return Study(**self.study)

    def write(self, path: Path) -> None:
        """Write the file that `read` reads, in one atomic step.

        Raises:
            StorageError: it could not be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> StudyResult:
        """Read a file that `write` wrote.

        Raises:
            DataError: there is no such file, or it is not a result of this format.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            expected = f"the result of a study, of format {FORMAT}"
            advice = "Move it away, and the study begins anew." if isinstance(error, ValidationError) else ""
            raise DataError(str(path), got=_first(error), expected=expected, advice=advice) from error


def _first(error: OSError | ValidationError) -> str:
    """What is wrong, in a line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    finding = error.errors(include_url=False)[0]
    place = ".".join(map(str, finding["loc"]))
    return f"{place}: {finding['msg']}" if place else str(finding["msg"])


def ratio_of(entry: Clocked) -> float:
    """The median over rounds of the piece's time divided by the baseline's of the same round."""
    ratios = sorted(mine / theirs for mine, theirs in zip(entry.seconds, entry.baseline_seconds, strict=True))
    middle = len(ratios) // 2
    return ratios[middle] if len(ratios) % 2 else (ratios[middle - 1] + ratios[middle]) / 2
