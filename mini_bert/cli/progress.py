"""What is going on, on standard error: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mini_bert.data.work import Progress

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def preparation() -> Iterator[Progress]:
    """Show how far the texts are read, counted and tokenised."""
    if not sys.stderr.isatty():
        yield _PlainPreparation()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.fields[share]:>5}"))
    with Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for earlier in tasks.values():
                    bars.remove_task(earlier)
                tasks.clear()
                tasks[what] = bars.add_task(what, share="")
            share = f"{done / total:.0%}" if total else ""
            bars.update(tasks[what], completed=done, total=total or None, share=share)

        yield show


class _PlainPreparation:
    """One line when something begins, and one every ten seconds while it lasts."""

    def __init__(self) -> None:
        self._what = ""
        self._next_line = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what == self._what and now < self._next_line:
            return
        share = f" {done / total:.0%}" if total and what == self._what else ""
        print(f"{what}{share}", file=sys.stderr, flush=True)
        self._what, self._next_line = what, now + _SECONDS_BETWEEN_LINES
