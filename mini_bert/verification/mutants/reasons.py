"""Why does a mutant survive? Written down where no test can kill it: shown beside it, and never subtracted.

`reasons.txt` holds a paragraph for each: the file, what kind of survivor it is and why, the line, and what becomes of
it. A reason belongs to these two lines, wherever in the file they stand. `equivalent`: the mutant computes the same, so
that no test can tell. `harmless`: it differs where nobody promised anything, as in speed or memory.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mini_bert.errors import DataError

FILE = Path(__file__).with_name("reasons.txt")
_HEADING = re.compile(r"(?P<path>\S+\.py), (?P<kind>equivalent|harmless): (?P<why>\S.*)")


class Reason(NamedTuple):
    """Why the mutants of one line that are listed survive."""

    path: str
    kind: str
    """`equivalent` or `harmless`."""
    why: str
    before: str
    after: tuple[str, ...]


def reason_of(path: str, before: str, after: str) -> Reason | None:
    """The reason written down for a mutant; None where it still wants a test."""
    return _by_lines().get((path, before, after))


@lru_cache(maxsize=1)
def _by_lines() -> dict[tuple[str, str, str], Reason]:
    reasons = read_reasons(FILE.read_text(encoding="utf-8"))
    return {(reason.path, reason.before, after): reason for reason in reasons for after in reason.after}


def read_reasons(text: str) -> tuple[Reason, ...]:
    """The reasons in a text of the form of `reasons.txt`.

    Raises:
        DataError: a paragraph is no heading, one line with a minus, and lines with a plus.
    """
    return tuple(_reason(paragraph) for paragraph in re.split(r"\n\s*\n", text.strip()) if paragraph)


def _reason(paragraph: str) -> Reason:
    first, *lines = paragraph.splitlines()
    heading = _HEADING.fullmatch(first)
    if heading is None or "".join(line[:2] for line in lines) != "- " + "+ " * (len(lines) - 1) or len(lines) < 2:
        raise DataError(FILE.name, got=repr(first), expected="'ops/erf.py, equivalent: …', a line '- …', lines '+ …'")
    return Reason(heading["path"], heading["kind"], heading["why"], lines[0][2:], tuple(line[2:] for line in lines[1:]))
