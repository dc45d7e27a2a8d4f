"""How long work over text is done: in batches, by several processes or none, telling how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from mini_bert.data.documents import Corpus
from mini_bert.data.readers import Passage
from mini_bert.data.workers import ordered_map

Result = TypeVar("Result")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it (characters, rows, updates), and about the total (0: not known)."""

_BATCH_CHARACTERS = 1 << 18
_SERIAL_BYTES = 4 << 20
"""Smaller corpora are worked on in this process: starting others takes longer."""


class Work(NamedTuple):
    """Whom to tell, and how many processes to use."""

    progress: Progress
    workers: int

    def map(
        self,
        doing: str,
        function: Callable[[list[Passage]], Result],
        corpus: Corpus,
        passages: Iterable[Passage],
        total: int = 0,
    ) -> Iterator[Result]:
        """`function` over batches of about 256 KiB of a corpus' text, results in order."""
        sizes: list[int] = []

        def batches() -> Iterator[list[Passage]]:
            held: list[Passage] = []
            size = 0
            for passage in passages:
                held.append(passage)
                size += sum(map(len, passage.paragraphs))
                if size >= _BATCH_CHARACTERS:
                    sizes.append(size)
                    yield held
                    held, size = [], 0
            if held:
                sizes.append(size)
                yield held

        workers = self.workers if self.workers > 1 and corpus.bytes > _SERIAL_BYTES else 0
        done = 0
        for number, result in enumerate(ordered_map(function, batches(), workers)):
            done += sizes[number]
            yield result
            self.progress(f"{doing} {corpus.name}", done, max(done, total) if total else 0)
