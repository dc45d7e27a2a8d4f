"""How long work over text is done: in batches, by several processes or none, telling how far it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from mini_bert.data.documents import Corpus
from mini_bert.data.readers import Mark, Passage
from mini_bert.data.workers import ordered_map

Result = TypeVar("Result")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it (characters, rows, updates), and about the total (0: not known)."""

_BATCH_CHARACTERS = 1 << 18
_SERIAL_BYTES = 4 << 20
"""Smaller corpora are worked on in this process: starting others takes longer."""


@dataclass(frozen=True)
class Worked(Generic[Result]):
    """The result of a batch, the mark behind its text, and how many characters are done with it."""

    result: Result
    mark: Mark
    done: int


def goes_on(what: str, done: int) -> str:
    """What is being done, for `Progress`, with where it goes on if an earlier call has come as far as `done`."""
    return f"{what}, going on at {done / 1e6:,.1f} M characters" if done else what


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
        done: int = 0,
    ) -> Iterator[Worked[Result]]:
        """`function` over batches of about 256 KiB of a corpus' text, results in order.

        Args:
            doing: what to tell `progress`.
            function: must pickle.
            corpus: whose name is told, and whose size decides whether other processes are worth it.
            passages: what to work on.
            total: characters of all passages, roughly; 0: not known.
            done: characters before these passages, if an earlier call has come so far.
        """
        ends: deque[tuple[Mark, int]] = deque()

        def batches() -> Iterator[list[Passage]]:
            held: list[Passage] = []
            size, read = 0, done
            for passage in passages:
                held.append(passage)
                size += sum(map(len, passage.paragraphs))
                if size >= _BATCH_CHARACTERS:
                    read += size
                    ends.append((passage.mark, read))
                    yield held
                    held, size = [], 0
            if held:
                ends.append((held[-1].mark, read + size))
                yield held

        what = goes_on(f"{doing} {corpus.name}", done)
        if done:
            self.progress(what, done, max(done, total) if total else 0)
        workers = self.workers if self.workers > 1 and corpus.bytes > _SERIAL_BYTES else 0
        for result in ordered_map(function, batches(), workers):
            worked = Worked(result, *ends.popleft())
            yield worked
            self.progress(what, worked.done, max(worked.done, total) if total else 0)

    def wait(self, made: str) -> None:
        """Tell that another process makes what is needed here."""
        self.progress(f"waiting for another process: {made}", 0, 0)
