"""Which of thousands of mutants are tried? A seeded sample, the same on every machine, shared fairly over the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from mini_bert.verification.mutants.mutant import Mutant

LEAST = 5
"""So many mutants of every file, where it has as many, however short it is."""


def draw(mutants: Mapping[str, Sequence[Mutant]], size: int, seed: int) -> list[Mutant]:
    """`size` mutants, or all where there are fewer, in the order of the files.

    Each mutant has a lot, drawn from the seed and its own name; of each file, the smallest lots are taken. So an edit
    of one line changes what is drawn there, and leaves the rest of the sample as it is.
    """
    sizes = shares({path: len(of_file) for path, of_file in mutants.items()}, size)
    drawn: list[Mutant] = []
    for path, of_file in mutants.items():
        chosen = sorted(of_file, key=lambda mutant: _lot(mutant, seed))[: sizes[path]]
        drawn += sorted(chosen, key=lambda mutant: mutant.line)
    return drawn


def _lot(mutant: Mutant, seed: int) -> bytes:
    return blake2b(f"{seed}/{mutant.name}".encode(), digest_size=16).digest()


def shares(counts: Mapping[str, int], size: int, least: int = LEAST) -> dict[str, int]:
    """How many of each file: in proportion to its mutants, `least` where it has as many, `size` in all.

    A `size` too small for `least` of every file gives one in turn to the files furthest below their proportion.
    """
    total = sum(counts.values())
    size = min(size, total)
    lower = {path: min(count, least) for path, count in counts.items()}
    if sum(lower.values()) > size:
        lower = dict.fromkeys(counts, 0)
    given = dict(lower)
    due = {path: size * count / total for path, count in counts.items()} if total else {}
    while sum(given.values()) < size:
        open_files = [path for path in counts if given[path] < counts[path]]
        given[max(open_files, key=lambda path: due[path] - given[path])] += 1
    return given
