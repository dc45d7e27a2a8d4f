"""What a benchmark found, as it is written to `benchmark.json` and read back for tables and pictures.

Only raw measurements are kept; medians, quartiles and ratios are computed from them here, so that a reader of the file
can compute others.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mini_bert.errors import DataError

FORMAT = 1


class Quartiles(NamedTuple):
    """The median, and the quarter of the measurements below and above it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Quartiles:
        """The quartiles of at least one value."""
        return cls(*(float(value) for value in np.percentile(values, [25, 50, 75])))


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Record):
    """One contestant's measurements."""

    name: str
    title: str
    dtype: str
    rival: bool
    """counts in `fastest PyTorch`"""
    options: dict[str, Any]
    environment: dict[str, str]
    failure: str
    """why there are no measurements; empty where there are"""
    seconds: list[float]
    """mean seconds of a step, one number a block"""
    first_value: float | None
    """loss of the very first step, before any update"""
    last_value: float | None
    imported_bytes: int
    """resident memory with all libraries loaded and nothing built"""
    peak_bytes: int
    """largest resident memory of the process, its start and its compilation included"""
    settled_peak_bytes: int
    """the same, counted from after the warm-up"""
    facts: dict[str, Any]

    @property
    def quartiles(self) -> Quartiles:
        """Seconds of a step."""
        return Quartiles.of(self.seconds)


class Contest(_Record):
    """Contestants that alternated within one run."""

    warm_up: int
    steps: int
    entries: list[Entry]
    trials: dict[str, dict[str, float]] = {}
    """contestant → variant → seconds of a step in its trial"""

    def entry(self, name: str) -> Entry:
        """The contestant of this name."""
        return next(entry for entry in self.entries if entry.name == name)

    def finished(self) -> list[Entry]:
        """Those with measurements."""
        return [entry for entry in self.entries if entry.seconds]

    def speed_up(self, name: str, over: str) -> Quartiles:
        """How many times as fast `name` is as `over`, round by round."""
        pairs = zip(self.entry(name).seconds, self.entry(over).seconds, strict=True)
        return Quartiles.of([theirs / ours for ours, theirs in pairs])

    def fastest_rival(self, dtype: str) -> Entry | None:
        """The PyTorch contestant of that number format with the least median time."""
        rivals = [entry for entry in self.finished() if entry.rival and entry.dtype == dtype]
        return min(rivals, key=lambda entry: entry.quartiles.median, default=None)

    def leanest_rival(self) -> Entry | None:
        """The PyTorch contestant with the least peak memory."""
        return min(
            (entry for entry in self.finished() if entry.rival), key=lambda entry: entry.peak_bytes, default=None
        )


class Floor(_Record):
    """What the matrix products of a step cost at the measured rate."""

    gflop: float
    """of one step, as our step computes it"""
    gflop_all_rows: float
    """of one step that computes every row of the last block"""
    gflop_per_second: list[float]
    """SGEMM rate of each round, the fastest block's"""

    @property
    def seconds(self) -> Quartiles:
        """The floor of a step."""
        low, median, high = Quartiles.of(self.gflop_per_second)
        return Quartiles(self.gflop / high, self.gflop / median, self.gflop / low)


class Scaling(_Record):
    """The time of a step against the tokens in its batch."""

    tokens: list[int]
    seconds: list[list[float]]
    """for each number of tokens, one number a block"""

    @property
    def exponent(self) -> float:
        """The slope of log time over log tokens, fitted by least squares to the medians."""
        medians = [Quartiles.of(blocks).median for blocks in self.seconds]
        return float(np.polyfit(np.log(self.tokens), np.log(medians), 1)[0])


class ColdStart(_Record):
    """Seconds from nothing to done, one number a start."""

    name: str
    title: str
    seconds: list[float]


class Machine(_Record):
    """Where it was measured."""

    processor: str
    cores: int
    threads: int
    bfloat16: bool
    """whether the processor has bf16 instructions"""
    system: str
    blas: str
    """library, version and kernel that our step used"""
    shell_blas_kernel: str
    """OPENBLAS_CORETYPE of the surrounding shell, which contestants do not see"""
    versions: dict[str, str]
    date: str
    load_before: float
    """load average over one minute, before and after"""
    load_after: float


class BenchmarkResult(_Record):
    """All of it."""

    format: Literal[1] = FORMAT
    machine: Machine
    rows: int
    """B"""
    tokens: int
    """T"""
    masked: float
    """M, the mean over the batches"""
    shape: dict[str, Any]
    quick: bool
    training: Contest
    floor: Floor
    threads: Contest
    scaling: Scaling
    inference: Contest
    embedding_gradient: Contest
    cold_start: list[ColdStart]

    def tokens_per_second(self, entry: Entry) -> Quartiles:
        """Training speed."""
        low, median, high = entry.quartiles
        size = self.rows * self.tokens
        return Quartiles(size / high, size / median, size / low)

    def share_of_floor(self, entry: Entry) -> float:
        """Which share of a step's time its matrix products would take at the measured rate."""
        return self.floor.seconds.median / entry.quartiles.median if entry.seconds else math.nan

    def write(self, path: Path) -> None:
        """Write the file that `read` reads."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> BenchmarkResult:
        """Read a file that `write` wrote.

        Raises:
            DataError: there is no such file, or it is not a result of this format.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise DataError(
                str(path), got=str(error).splitlines()[0], expected=f"a benchmark result of format {FORMAT}"
            ) from error
