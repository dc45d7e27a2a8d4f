"""What is promised, how is it tried, and how did it come out?

An experiment breaks something on purpose (a kill, a full disk, a flipped bit) and counts how often the promise held.
Tests run it with small counts, `make reliability` with the full ones; both call the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Told = Callable[[int, int], None]
"""Called with the number of trials done, and how many there will be."""


class Scale(NamedTuple):
    """How often to try."""

    quick: bool = False
    told: Told = lambda done, of: None

    def of(self, full: int, quick: int) -> int:
        """The number of trials: the promised one, or the small one of the default test suite."""
        return quick if self.quick else full


@dataclass
class Outcome:
    """How an experiment came out."""

    tried: int = 0
    failures: list[str] = field(default_factory=list)
    """What went wrong, a sentence each; empty if the promise held every time."""
    measured: dict[str, Any] = field(default_factory=dict)
    """Figures beside the counts: plain values for JSON, the unit in the name (`seconds_to_end`)."""

    def count(self, held: bool, otherwise: str) -> None:
        """Count a trial; where the promise did not hold, keep the sentence."""
        self.tried += 1
        if not held:
            self.failures.append(otherwise)

    @property
    def kept(self) -> bool:
        """Whether there were trials, and the promise held in each."""
        return self.tried > 0 and not self.failures


class Experiment(NamedTuple):
    """One way to try one promise."""

    promise: str
    """Its number: `R4`."""
    name: str
    """What is done: `kill -9 at random moments`."""
    promised: str
    """What must come out: `every checkpoint loads, at most one save interval is lost`."""
    run: Callable[[Scale, Path], Outcome]
    """The experiment, in an empty folder of its own."""
    needs: tuple[str, ...] = ()
    """Packages beyond the core that it cannot do without: `("mpi4py",)`."""


def differences(one: Path, other: Path, names: Iterable[str] | None = None) -> list[str]:
    """The files that are not the same, byte for byte, in two folders; all files, or those named."""
    chosen = set(names) if names is not None else {path.name for folder in (one, other) for path in folder.iterdir()}
    return sorted(name for name in chosen if _content(one / name) != _content(other / name))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
