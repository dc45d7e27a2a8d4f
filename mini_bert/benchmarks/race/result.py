"""What a race found, as `race.json` keeps it: raw curves and raw step times; everything else is computed from them."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mini_bert.atomic_files import replace_file
from mini_bert.errors import DataError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Record):
    """Where the clock was measured."""

    threads: int
    processor: str
    facts: dict[str, dict[str, Any]]
    """Versions and kernels, by racer."""


class Point(_Record):
    """The held-out loss after so many steps."""

    step: int
    loss: float
    interval: tuple[float, float]


class Course(_Record):
    """One racer's training."""

    name: str
    title: str
    library: str
    minutes: float
    """Its budget."""
    step_seconds: list[float] = Field(min_length=1)
    """Mean seconds of a step, one number a block of the clock."""
    steps: int
    """That many steps the budget was when they were settled."""
    settings: dict[str, Any]
    """What differs from the default preset, by `section.name`."""
    curve: list[Point] = []

    def seconds(self, step: int) -> float:
        """When it has done `step` steps, by the clock's median."""
        return step * median(self.step_seconds)

    @property
    def best(self) -> float:
        """Its lowest held-out loss, nats."""
        return min(point.loss for point in self.curve)

    @property
    def finished(self) -> bool:
        """Whether it has come to its last step."""
        return bool(self.curve) and self.curve[-1].step == self.steps

    def reached(self, loss: float) -> float | None:
        """Seconds after which a held-out loss of at most `loss` was first measured; None: never."""
        return next((self.seconds(point.step) for point in self.curve if point.loss <= loss), None)


class RaceResult(_Record):
    """All of a race."""

    corpus: str
    held_out_rows: int
    rows: int
    """B"""
    tokens: int
    """T"""
    machine: Machine
    courses: list[Course]

    def course(self, name: str) -> Course:
        """The racer of this name.

        Raises:
            DataError: it was not there when the clock was measured.
        """
        found = next((course for course in self.courses if course.name == name), None)
        if found is None:
            raise DataError(
                "race.json",
                got=f"no racer {name}",
                expected=f"one of {', '.join(course.name for course in self.courses)}",
                advice="Measure the clock again: mini-bert race --clock.",
            )
        return found

    def times_sooner(self, name: str, than: str) -> float | None:
        """By what factor racer `name` reached sooner what racer `than` has reached at the end of its time."""
        other = self.course(than)
        if not other.curve or not self.course(name).curve:
            return None
        seconds = self.course(name).reached(other.curve[-1].loss)
        return None if seconds is None else other.seconds(other.curve[-1].step) / seconds

    def write(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        replace_file(path, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> RaceResult:
        """Read it back.

        Raises:
            DataError: it is no such file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            advice = "Run one: mini-bert race."
            raise DataError(str(path), got=error.strerror or str(error), expected="a race", advice=advice) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(
                str(path), got=f"{where}: {first['msg']}", expected="a race as mini-bert writes it"
            ) from error
