"""Easy rows first: a growing share of the rows, in order of difficulty, is drawn from (Bengio et al. 2009).

N rows stand in order of difficulty. Of the first n₀ = until · steps batches, batch n is drawn from the easiest c(t) N
rows, t = n / (n₀ − 1), each of these as likely as any other:

    linear       c = c₀ + (1 − c₀) t                                                                      (CU.1)
    root         c = √(c₀² + (1 − c₀²) t)                                                                 (CU.2)
    exponential  c = c₀ + (1 − c₀) (e^(10 t) − 1) / (e^10 − 1)                                            (CU.3)
    steps        c = c₀ + (1 − c₀) ⌊4 t⌋ / 4                                                              (CU.4)

with c₀ = start. The rows of a batch are all different (where there are enough of them); two batches are drawn
independently. From batch n₀ on, all is as without a curriculum: every row once an epoch, the first epoch beginning at
n₀. In the `sentences` layout, 32 batches are drawn at once and their rows sorted by length, as ever, so c grows every
32 batches and n₀ is rounded up to a multiple of 32.

What batch n holds is a pure function of (seed, n, steps). Memory: 4 bytes a row (8 from 4 thousand million rows on).

Source: Platanios et al. 2019, "Competence-based curriculum learning", equations 5 to 7 (linear, root); Wu, Dyer and
Neyshabur 2021, "When do curricula work?", table 2 (exponential). Differs from source: `steps` has four stairs, Wu et
al. have one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import permuted
from mini_bert.data.packing import RowIndex
from mini_bert.errors import ConfigError
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, CurriculumConfig

_STEEPNESS = 10.0
"""Wu et al.'s: after half of the time the share has grown by less than a hundredth of the way."""
_STAIRS = 4
_SHUFFLED_AT_ONCE = 1 << 18

PACING: dict[str, Callable[[float, float], float]] = {
    "linear": lambda start, t: start + (1 - start) * t,
    "root": lambda start, t: math.sqrt(start**2 + (1 - start**2) * t),
    "exponential": lambda start, t: start + (1 - start) * math.expm1(_STEEPNESS * t) / math.expm1(_STEEPNESS),
    "steps": lambda start, t: start + (1 - start) * math.floor(_STAIRS * t) / _STAIRS,
}
"""The share of rows that is drawn from, of c₀ and t in [0, 1]."""


class Curriculum:
    """Which rows the first batches are drawn from.

    Args:
        settings: pacing, its start and end.
        difficulty: of each row; equal ones are ordered at random.
        rows: what the row numbers count in.
        seed: of the run.
        batch_size: rows of a batch.
        at_once: batches that are drawn at once and share rows of like length; 1: length does not matter.

    Raises:
        ConfigError: the corpora have weights, which say how often a row comes in an epoch.
    """

    def __init__(
        self,
        settings: CurriculumConfig,
        difficulty: NDArray[np.floating],
        rows: RowIndex,
        *,
        seed: int,
        batch_size: int,
        at_once: int = 1,
    ) -> None:
        if any(weight != 1 for weight in rows.weights):
            raise ConfigError(
                "data.corpus",
                got="corpora with weights beside a curriculum",
                expected="no weights: the curriculum says how often a row comes",
                advice="Leave out the weights, or set --curriculum.kind none.",
            )
        self.order = _in_order(difficulty, RandomStream(seed, "curriculum/ties"), settings.hard_first)
        """Row numbers, in the order in which they come into play."""
        self._settings, self._rows, self._seed = settings, rows, seed
        self._batch_size, self._at_once = batch_size, at_once
        self._drawn: tuple[int, int, NDArray[np.int64]] = (-1, -1, np.empty(0, np.int64))

    def batches(self, steps: int | None) -> int | None:
        """n₀, of a run of so many steps; None where that is not known yet."""
        if steps is None:
            return None
        return -(-math.ceil(self._settings.until * steps) // self._at_once) * self._at_once

    def share(self, step: int, steps: int | None) -> float:
        """c at batch number `step`: the share of the rows that it is drawn from; the first one for unknown steps."""
        end, begin = self.batches(steps), step - step % self._at_once
        if end is not None and step >= end:
            return 1.0
        t = 0.0 if end is None else begin / max(1, end - self._at_once)
        return PACING[self._settings.pacing](self._settings.start, t)

    def row_numbers(self, step: int, steps: int | None) -> NDArray[np.int64]:
        """The rows of batch number `step`, which comes before n₀."""
        block, place = divmod(step, self._at_once)
        there = len(self.order)
        pool = min(there, max(math.ceil(self.share(step, steps) * there), self._batch_size))
        if self._drawn[:2] != (block, pool):
            self._drawn = (block, pool, self._draw(block, pool))
        place = int(permuted(self._at_once, RandomStream(self._seed, "curriculum/batches", block), [place])[0])
        return self._drawn[2][place * self._batch_size : (place + 1) * self._batch_size]

    def _draw(self, block: int, pool: int) -> NDArray[np.int64]:
        passes, ranks = np.divmod(np.arange(self._at_once * self._batch_size), pool)
        for number in np.unique(passes):
            chosen = passes == number
            stream = RandomStream(self._seed, f"curriculum/draw_{number}", block)
            ranks[chosen] = permuted(pool, stream, ranks[chosen])
        rows = self.order[ranks].astype(np.int64)
        if self._at_once > 1:
            rows = rows[np.argsort(self._rows.lengths(rows), kind="stable")]
        return rows


def implement_curriculum_learning(
    config: Config | None = None,
    kind: str = "rarity",
    pacing: str = "root",
    *,
    start: float = 0.2,
    until: float = 0.5,
    hard_first: bool = False,
    reference: str | None = None,
) -> Config:
    """The configuration with a curriculum: `pretrain` draws easy rows first.

    Args:
        config: all other settings; None: the defaults.
        kind: what makes a row difficult: `length`, `rarity`, or `loss` of the model `reference`.
        pacing: `linear`, `root`, `exponential` or `steps`, (CU.1) to (CU.4).
        start: share of the rows that the first batch is drawn from.
        until: share of all steps after which every row is drawn from.
        hard_first: the hardest rows first.
        reference: a run, a folder or a model's name.

    Raises:
        ConfigError: an unknown kind or pacing, a number out of bounds, kind loss without a reference.

    >>> implement_curriculum_learning(kind="length", start=0.1).curriculum.start
    0.1
    """
    from mini_bert.config.schema import Config, CurriculumConfig

    settings = {"kind": kind, "pacing": pacing, "start": start, "until": until}
    curriculum = CurriculumConfig(**settings, hard_first=hard_first, reference=reference)
    return (config or Config()).model_copy(update={"curriculum": curriculum})


def _in_order(difficulty: NDArray[np.floating], ties: RandomStream, hard_first: bool) -> NDArray[np.unsignedinteger]:
    """The rows by difficulty, equal ones in random order."""
    count = len(difficulty)
    shuffled = np.empty(count, np.min_scalar_type(max(count - 1, 2**16)))
    for first in range(0, count, _SHUFFLED_AT_ONCE):
        places = np.arange(first, min(first + _SHUFFLED_AT_ONCE, count))
        shuffled[places] = permuted(count, ties, places)
    key = difficulty[shuffled]
    return np.asarray(shuffled[np.argsort(-key if hard_first else key, kind="stable")])
