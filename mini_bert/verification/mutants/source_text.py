"""Where does a node of the syntax tree stand in the text, to the character?

Mutants are made in the text and not by writing the tree out again: everything outside the changed piece stays as it
is, comments and line breaks too, and a mutant reads as a difference of one line.
"""

from __future__ import annotations

import ast
import io
import tokenize
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

Span = tuple[int, int]
"""Characters from … to before …, counted over the whole text."""

_SKIPPED = {"(", ")", ""}
_BLANK = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Piece(NamedTuple):
    """A change: the characters of `span` give way to `new`."""

    span: Span
    new: str


class SourceText:
    """A Python source with its tree, and the way from one to the other."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = ast.parse(source)
        self.parents: dict[ast.AST, ast.AST] = {
            child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)
        }
        self.lines = source.split("\n")
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        self._tokens = [
            (self._starts[token.start[0] - 1] + token.start[1], token.string)
            for token in tokens
            if token.type not in _BLANK
        ]
        self._token_starts = [start for start, _ in self._tokens]

    def span(self, node: ast.AST) -> Span:
        """The characters of an expression or statement, without parentheses around it."""
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        text = self.lines[line - 1]
        inside = column if text.isascii() else len(text.encode()[:column].decode())
        return self._starts[line - 1] + inside

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        start, stop = self.span(node)
        return self.source[start:stop]

    def between(self, left: ast.AST, right: ast.AST) -> Span:
        """The operator between two operands: all but parentheses, comments and blanks."""
        start, stop = self.span(left)[1], self.span(right)[0]
        spans = [(at, at + len(string)) for at, string in self.tokens(start, stop) if string not in _SKIPPED]
        return spans[0][0], spans[-1][1]

    def tokens(self, start: int, stop: int) -> Iterator[tuple[int, str]]:
        """Tokens that begin in [start, stop): where, and which."""
        for place in range(bisect_left(self._token_starts, start), len(self._tokens)):
            at, string = self._tokens[place]
            if at >= stop:
                return
            yield at, string

    def line_of(self, offset: int) -> int:
        """Number of the line, from 1, of a character."""
        return bisect_left(self._starts, offset + 1)

    def changed(self, piece: Piece) -> str:
        """The whole text with the piece put in."""
        return self.source[: piece.span[0]] + piece.new + self.source[piece.span[1] :]

    def changed_line(self, piece: Piece) -> tuple[int, str, str]:
        """Number of the line that a piece changes, the line, and what becomes of it; the piece lies within one line."""
        number = self.line_of(piece.span[0])
        line, start = self.lines[number - 1], self._starts[number - 1]
        return number, line, line[: piece.span[0] - start] + piece.new + line[piece.span[1] - start :]

    def within_a_line(self, piece: Piece) -> bool:
        """Whether the piece neither spans lines nor brings new ones."""
        return "\n" not in self.source[slice(*piece.span)] + piece.new
