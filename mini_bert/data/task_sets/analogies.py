"""Google's analogies: *Athens* is to *Greece* as *Oslo* is to what? (Mikolov, Chen, Corrado and Dean 2013)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mini_bert.data.readers import Lines
from mini_bert.data.task_sets.columns import fetched
from mini_bert.errors import DataError


class Analogy(NamedTuple):
    """`a` is to `b` as `c` is to `d`."""

    section: str
    a: str
    b: str
    c: str
    d: str

    @property
    def grammatical(self) -> bool:
        """Whether it asks for an inflection, not for knowledge of the world."""
        return self.section.startswith("gram")


def read_analogies(path: Path) -> list[Analogy]:
    """Four words a line; a line `: name` begins a section.

    Raises:
        DataError: the file cannot be read, a line has not four words or comes before any section, or there is none.
    """
    questions = []
    section = ""
    for number, line in enumerate(Lines(path), start=1):
        words = line.split()
        if line.startswith(":"):
            section = line[1:].strip()
        elif words:
            if len(words) != 4 or not section:
                raise DataError(
                    f"{path}:{number}", got=f"{line!r:.60}", expected="four words, below a line `: section`"
                )
            questions.append(Analogy(section, *words))
    if not questions:
        raise DataError(str(path), got="no question", expected="lines of four words")
    return questions


def google_analogies() -> list[Analogy]:
    """The 19,544 questions, in 14 sections.

    Raises:
        DataError: the file is not there and cannot be fetched.
    """
    return read_analogies(*fetched("analogies", "questions-words.txt"))
