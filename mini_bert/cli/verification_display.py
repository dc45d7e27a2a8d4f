"""How a verification goes: a live table on a terminal, one line a group of checks elsewhere; and what it found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mini_bert.verification import identities, op_checks, zeros
from mini_bert.verification.certificate import CONDITIONS, Certificate
from mini_bert.verification.certificate_page import cell, failures, headed_table, summary, tables
from mini_bert.verification.evidence import Evidence, worst_evidence

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Show = Callable[[Evidence], None]

_BESIDE_THE_TABLE = 9
"""Lines of a terminal that title, head and foot take."""


@contextmanager
def verification_display(*, json: bool) -> Iterator[Show]:
    """Show evidence as it comes in: finished tables stay where standard output is a terminal and takes no JSON."""
    on_output = sys.stdout.isatty() and not json
    if not on_output and not sys.stderr.isatty():
        lines = PlainDisplay()
        yield lines
        lines.finish()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=not on_output)
    live = LiveDisplay(console, keep=on_output)
    with Live(console=console, get_renderable=live.draw, refresh_per_second=4, transient=True):
        yield live
    live.finish()


class PlainDisplay:
    """One line on standard error whenever a group of checks is done."""

    def __init__(self) -> None:
        self._group: list[Evidence] = []
        self._started = time.monotonic()

    def __call__(self, row: Evidence) -> None:
        """Take a piece of evidence."""
        if self._group and _group_of(row) != _group_of(self._group[0]):
            self.finish()
        self._group.append(row)

    def finish(self) -> None:
        """Say how the group went."""
        if self._group:
            part, name = _group_of(self._group[0])
            worst = worst_evidence(self._group)
            found = worst.detail if worst.absent else f"{worst.oracle} {cell(worst)} of {worst.threshold:.0e}"
            seconds = time.monotonic() - self._started
            title = f"{part}, {name}" if name else part
            print(f"{seconds:6.1f} s  {title}: {len(self._group)} checks, {found}", file=sys.stderr, flush=True)
            self._group = []


def _group_of(row: Evidence) -> tuple[str, str]:
    """The part, and what of it is done in one go: an operation, a condition, or all tensors by one oracle."""
    if row.part in (op_checks.PART, CONDITIONS):
        return row.part, row.subject
    return row.part, "" if row.part in (identities.PART, zeros.PART) else row.oracle


class LiveDisplay:
    """The table of the part that is being checked, drawn over and over; with `keep`, finished ones stay."""

    def __init__(self, console: Console, *, keep: bool) -> None:
        self._console = console
        self._keep = keep
        self._rows: list[Evidence] = []
        self._checks = 0
        self._started = time.monotonic()

    def __call__(self, row: Evidence) -> None:
        """Take a piece of evidence."""
        if self._rows and row.part != self._rows[0].part:
            self.finish()
        self._rows.append(row)
        self._checks += 1

    def finish(self) -> None:
        """The part is done: its table stays."""
        rows, self._rows = self._rows, []
        if rows and self._keep:
            self._console.print(headed_table(rows[0].part, rows).rich())

    def draw(self) -> RenderableType:
        """What is known of the part, as much of it as fits, the newest line at the bottom."""
        from rich.console import Group
        from rich.text import Text

        rows = list(self._rows)
        foot = Text(f"{self._checks} checks, {time.monotonic() - self._started:.0f} s", style="dim")
        if not rows:
            return foot
        drawn = headed_table(rows[0].part, rows)
        names = [line[0] for line in drawn.rows]
        newest = names.index(rows[-1].subject) + 1 if rows[-1].subject in names else len(names)
        first = max(0, newest - max(self._console.height - _BESIDE_THE_TABLE, 3))
        return Group(drawn._replace(rows=drawn.rows[first:newest], notes=()).rich(), foot)


def print_certificate(certificate: Certificate, *, json: bool) -> None:
    """What was found, on standard output; on a terminal the tables stand there already."""
    if json:
        print(certificate.to_json(), end="")
        return
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        console.print(summary(certificate).rich())
        for line in failures(certificate.evidence):
            console.print(line, style="red", markup=False)
        console.print(certificate.verdict, style="bold green" if certificate.passed else "bold red")
        return
    for drawn in tables(certificate):
        print(drawn.plain())
    for line in failures(certificate.evidence):
        print(line)
    print(certificate.verdict)
