"""One table, four ways to show it: on a terminal, as plain text, in Markdown, in LaTeX."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import RenderableType

NOTHING = "—"
"""Stands where there is no value."""


class Table(NamedTuple):
    """A title, headings, and rows of as many cells; every cell is text already, with its unit and its decimals."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """Sentences under the table."""
    left: tuple[int, ...] = (0,)
    """Numbers of the columns, from 0 on, that are aligned left: words. The others are aligned right: numbers."""
    strong: tuple[int, ...] = ()
    """Numbers of the rows, from 0 on, that the eye should find first: drawn in bold."""

    def markdown(self) -> str:
        """A Markdown table with its title as a paragraph in bold, and the notes as a list."""
        rule = tuple(":---" if i in self.left else "---:" for i in range(len(self.columns)))
        rows = [
            tuple(f"**{cell}**" if cell and number in self.strong else cell for cell in map(_escaped, row))
            for number, row in enumerate(self.rows)
        ]
        lines = [f"**{self.title}**", ""]
        lines += ["| " + " | ".join(row) + " |" for row in (tuple(map(_escaped, self.columns)), rule, *rows)]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A LaTeX `table` for a paper: needs no package but `booktabs`; the notes stand under the rows."""
        columns = "".join("l" if i in self.left else "r" for i in range(len(self.columns)))
        rows = [
            [f"\\textbf{{{cell}}}" if cell and number in self.strong else cell for cell in map(_in_latex, row)]
            for number, row in enumerate(self.rows)
        ]
        lines = [
            "\\begin{table}",
            f"\\caption{{{_in_latex(self.title)}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
        ]
        lines += [" & ".join(map(_in_latex, self.columns)) + r" \\", "\\midrule"]
        lines += [" & ".join(row) + r" \\" for row in rows]
        lines += ["\\bottomrule", "\\end{tabular}"]
        lines += [rf"\par\footnotesize {_in_latex(note)}" for note in self.notes]
        return "\n".join([*lines, "\\end{table}"]) + "\n"

    def plain(self) -> str:
        """Aligned columns, for a log or a pipe."""
        return "\n".join(self._plain_lines()) + "\n"

    def rich(self) -> RenderableType:
        """A renderable for `rich.console.Console.print`."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        drawn = RichTable(title=Text(self.title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for i, column in enumerate(self.columns):
            drawn.add_column(Text(column), justify="left" if i in self.left else "right", overflow="fold")
        for number, row in enumerate(self.rows):
            drawn.add_row(*map(Text, row), style="bold" if number in self.strong else None)
        return Group(drawn, *(Text(note, style="dim") for note in self.notes))

    def _plain_lines(self) -> Iterator[str]:
        widths = [max(_width(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]
        yield self.title
        for row in (self.columns, tuple("-" * width for width in widths), *self.rows):
            cells = (
                cell + " " * (width - _width(cell)) if i in self.left else " " * (width - _width(cell)) + cell
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield "  ".join(cells).rstrip()
        yield from self.notes


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "θ": r"$\theta$",
    "γ": r"$\gamma$",
    **{raised: f"$^{digit}$" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    "—": "---",
    "–": "--",
    "\n": " ",
}


def _in_latex(cell: str) -> str:
    return "".join(_LATEX.get(character, character) for character in cell)


def _width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
