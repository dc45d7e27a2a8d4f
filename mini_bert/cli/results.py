"""Printing: results in the form that suits, messages beside them, and commands that can be copied."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.reports.table import Table

_WIDE = 110
"""Columns of the progression table; on a narrower terminal its cells would fall apart, and it is left out."""


def print_result(result: Mapping[str, Any], *, json: bool = False, markdown: bool = False, latex: bool = False) -> None:
    """A result: as JSON, in Markdown, in LaTeX; otherwise as drawn tables on a terminal, as plain ones elsewhere.

    Raises:
        InvalidInputError: more than one form is asked for.
    """
    require_one_form(json=json, markdown=markdown, latex=latex)
    if json:
        print_json(result)
        return
    from mini_bert.reports.pages import tables

    if markdown or latex or not sys.stdout.isatty():
        for table in tables(result):
            print(table.markdown() if markdown else table.latex() if latex else table.plain())
        return
    from rich.console import Console

    console = Console()
    for part in result.get("results", [result]):
        if part["kind"] != "progression" or console.width >= _WIDE:
            for table in tables(part):
                console.print(table.rich())


def require_one_form(**forms: bool) -> None:
    """Refuse several forms of one result.

    Raises:
        InvalidInputError: more than one is asked for.
    """
    asked = [f"--{name}" for name, wanted in forms.items() if wanted]
    if len(asked) > 1:
        raise InvalidInputError(" ".join(asked), got="several forms", expected="one of them")


def print_table(table: Table) -> None:
    """A table: drawn on a terminal, plain elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(table.rich())
    else:
        print(table.plain(), end="")


def print_json(value: object) -> None:
    """Plain values as JSON; what JSON has no form for, such as a path, as its text, and NaN and infinity as null."""
    import json

    print(json.dumps(_with_finite_numbers(value), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _with_finite_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_finite_numbers(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_finite_numbers(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(message: str) -> None:
    """A line on standard error, at once."""
    print(message, file=sys.stderr, flush=True)


def command() -> str:
    """How this program was called, so that what is shown can be copied: `mini-bert`, or `.venv/bin/mini-bert`."""
    called = sys.argv[0] if sys.argv else ""
    if Path(called).parts[-2:] == ("mini_bert", "__main__.py"):
        return "python -m mini_bert"
    if Path(called).name != "mini-bert":
        return "mini-bert"
    found = shutil.which("mini-bert")
    same = found is not None and Path(found).resolve() == Path(called).resolve()
    here = Path(called).absolute()
    return "mini-bert" if same else str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)
