"""One bug of the zoo: what it changes, where it was seen, what it does, and which test catches it."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from mini_bert.verification.injection import PACKAGE, Edit, edited_sources


class Bug(NamedTuple):
    """A real bug of transformer code, as a small change of ours."""

    name: str
    """`mask-after-softmax`."""
    title: str
    """What is wrong, in one line."""
    edits: tuple[Edit, ...]
    seen: str
    """Where people met it: project and issue where public; otherwise in what kind of code it is common."""
    lesson: str
    """Why it is wrong, why the loss may fall all the same, how one notices."""
    place: str
    """Words that name the place of the fault, as the test that catches it does: `layer_norm`, `token_embeddings`."""
    caught_by: str
    """Id of a test that fails with the bug and names the place: `tests/ops/test_….py::test_…[…]`."""
    family: str = ""
    """What the bug is about, a heading of the zoo; filled in by the file that lists it."""

    def difference(self, context: int = 3) -> str:
        """The bug as a unified diff."""
        lines: list[str] = []
        for path, source in edited_sources(self.edits).items():
            before = (PACKAGE / path).read_text(encoding="utf-8").splitlines(keepends=True)
            after = source.splitlines(keepends=True)
            name = f"mini_bert/{path}"
            lines += difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", n=context)
        return "".join(lines)
