"""How far is the hunt? A bar on a terminal, a line now and then elsewhere, and each survivor as soon as it is known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mini_bert.verification.mutants.hunt import Report
from mini_bert.verification.mutants.records import Record

_BETWEEN_LINES = 25


@contextmanager
def shown() -> Iterator[Report]:
    """A report that shows progress on standard error."""
    if not sys.stderr.isatty():
        yield _plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True
    ) as bars:  # a thread would be forked too
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int, record: Record | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            if record is not None and record.survived:
                console.print(survivor(record), markup=False, highlight=False)
            bars.update(tasks[what], completed=done, total=total, refresh=True)

        yield show


def _plain(what: str, done: int, total: int, record: Record | None) -> None:
    if record is not None and record.survived:
        print(survivor(record), file=sys.stderr, flush=True)
    if done % _BETWEEN_LINES == 0 or done == total:
        print(f"{what} {done}/{total}", file=sys.stderr, flush=True)


def survivor(record: Record) -> str:
    """A mutant as a difference of one line, with its place."""
    place = f"survived: {record.path}:{record.line} ({record.operator})"
    return f"{place}\n  - {record.before}\n  + {record.after}"
