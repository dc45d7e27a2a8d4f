"""What `WordPiece.explain` answers: how a text fell into pieces, step by step, ready to print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mini_bert.text.pieces import CONTINUATION, LONGEST_WORD


class Try(NamedTuple):
    """One candidate that was looked up in the vocabulary; `id` is None if it is not there."""

    candidate: str
    id: int | None


class ExplainedWord(NamedTuple):
    """One word, its pieces, and every candidate in the order in which it was tried (none if the word is too long)."""

    word: str
    pieces: tuple[str, ...]
    tries: tuple[Try, ...]

    def __str__(self) -> str:
        width = max((len(candidate) for candidate, _ in self.tries), default=0)
        lines = [f"{self.word} -> {' '.join(self.pieces)}"]
        lines += [f"  {candidate:<{width}}  {'no' if id is None else f'piece {id}'}" for candidate, id in self.tries]
        if not self.tries:
            lines.append(f"  {len(self.word)} characters: a word of more than {LONGEST_WORD} is not tried")
        elif self.tries[-1].id is None:
            lines.append("  nothing fits here, so the whole word is unknown")
        return "\n".join(lines)


class Explanation(NamedTuple):
    """A text, what normalisation made of it, and its words."""

    text: str
    normalized: str
    words: tuple[ExplainedWord, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.text} -> {self.normalized}", *map(str, self.words)])


def explain_word(word: str, pieces: tuple[str, ...], ids: Mapping[str, int]) -> ExplainedWord:
    """Try what the tokenizer tries: from each place the longest rest first, then ever shorter ones."""
    tries: list[Try] = []
    begin = 0
    while begin < len(word) <= LONGEST_WORD:
        for end in range(len(word), begin, -1):
            candidate = (CONTINUATION if begin else "") + word[begin:end]
            tries.append(Try(candidate, ids.get(candidate)))
            if candidate in ids:
                break
        else:
            break
        begin = end
    return ExplainedWord(word, pieces, tuple(tries))
