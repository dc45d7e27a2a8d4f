"""All mutants of a source file."""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from types import CodeType
from typing import NamedTuple

from mini_bert.verification.mutants.left_out import is_left_out, same_code
from mini_bert.verification.mutants.operators import OPERATORS
from mini_bert.verification.mutants.source_text import SourceText


class Mutant(NamedTuple):
    """One small error in one line of one file."""

    path: str
    """Within the package: `ops/attention.py`."""
    line: int
    operator: str
    before: str
    """The line, without indentation."""
    after: str
    """The mutated line, without indentation."""
    twin: int
    """How many mutants of the file with the same two lines stand above this one: 0 nearly always."""
    source: str
    """The whole file with the error in it."""

    @property
    def name(self) -> str:
        """Twelve characters that stay the same as long as the line does, wherever in the file it stands."""
        text = "\0".join((self.path, self.operator, self.before, self.after, str(self.twin)))
        return blake2b(text.encode(), digest_size=6).hexdigest()


def mutants_of(source: str, path: str) -> tuple[Mutant, ...]:
    """All mutants of a file, from top to bottom, without those that compile to the file's own instructions."""
    text = SourceText(source)
    own_code = _compiled(source, path)
    found: list[Mutant] = []
    seen = {source}
    twins: Counter[tuple[str, str, str]] = Counter()
    for node in _nodes(text.tree, text):
        for operator, mutate in OPERATORS.items():
            for piece in mutate(node, text):
                if not text.within_a_line(piece) or (mutated := text.changed(piece)) in seen:
                    continue
                seen.add(mutated)
                if same_code(_compiled(mutated, path), own_code):
                    continue
                line, before, after = text.changed_line(piece)
                key = (operator, before.strip(), after.strip())
                found.append(Mutant(path, line, *key, twins[key], mutated))
                twins[key] += 1
    return tuple(sorted(found, key=lambda mutant: mutant.line))


def _compiled(source: str, path: str) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # "is not" beside a literal: such a mutant is one all the same
        return compile(source, path, "exec", dont_inherit=True)


def _nodes(node: ast.AST, text: SourceText) -> Iterator[ast.AST]:
    if is_left_out(node, text):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _nodes(child, text)
