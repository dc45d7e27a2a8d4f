"""Why does a mutant survive? Written down where no test can kill it: shown beside it, and never subtracted.

A reason belongs to a line and what becomes of it, wherever in the file the line stands. `equivalent`: the mutant
computes the same, so that no test can tell. `harmless`: it differs where nobody promised anything, as in speed or
memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mini_bert.verification.mutants.records import Record


class Reason(NamedTuple):
    """Why the mutants of one line that are listed survive."""

    path: str
    before: str
    after: tuple[str, ...]
    kind: Literal["equivalent", "harmless"]
    why: str


def reason_of(record: Record) -> Reason | None:
    """The reason written down for a survivor; None where it still wants a test."""
    return _BY_MUTANT.get((record.path, record.before, record.after))


REASONS: tuple[Reason, ...] = ()

_BY_MUTANT: Mapping[tuple[str, str, str], Reason] = {
    (reason.path, reason.before, after): reason for reason in REASONS for after in reason.after
}
