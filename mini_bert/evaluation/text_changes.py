"""Small changes of a text: a typo, a synonym, another order. One word is kept, so that a model can be asked for it.

Each takes the words of a text, the place of the word that is kept and a source of draws, and returns the changed words
and the place of that word among them; None where the change does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.data.task_sets.word_similarity import WordPair

_SYNONYM = 6.0
"""SimLex-999 goes from 0 to 10."""
_SHORTEST_TYPO = 4

Words = list[str]
Change = Callable[[Words, int, "Draws"], tuple[Words, int] | None]


class Draws:
    """Uniform whole numbers, one behind the other, for one text."""

    def __init__(self, seed: int, name: str, text: int) -> None:
        self._stream = RandomStream(seed, name, text)
        self._drawn = 0

    def __call__(self, bound: int) -> int:
        """The next one, below `bound`."""
        self._drawn += 1
        return int(self._stream.integers(bound, 1, first_row=self._drawn - 1)[0, 0])


def nearest_synonyms(pairs: Sequence[WordPair]) -> dict[str, str]:
    """For each word the one nearest to it, if it is near enough."""
    best: dict[str, tuple[float, str]] = {}
    for first, second, score in pairs:
        for word, other in ((first, second), (second, first)):
            if score >= _SYNONYM and word != other and score > best.get(word, (0.0, ""))[0]:
                best[word] = (score, other)
    return {word: other for word, (_, other) in best.items()}


def in_capitals(words: Words, keep: int, draw: Draws) -> tuple[Words, int]:
    """All letters capital."""
    return [word.upper() for word in words], keep


def with_typo(words: Words, keep: int, draw: Draws) -> tuple[Words, int] | None:
    """Two neighbouring inner letters of a word trade places; unequal ones, and never in the word that is kept."""
    places = [
        (number, i)
        for number, word in enumerate(words)
        if number != keep and len(word) >= _SHORTEST_TYPO and word.isalpha()
        for i in range(1, len(word) - 2)
        if word[i] != word[i + 1]
    ]
    if not places:
        return None
    number, i = places[draw(len(places))]
    word = words[number]
    return [*words[:number], word[:i] + word[i + 1] + word[i] + word[i + 2 :], *words[number + 1 :]], keep


def with_neighbours_swapped(words: Words, keep: int, draw: Draws) -> tuple[Words, int] | None:
    """Two different words side by side trade places; never the one that is kept."""
    places = [i for i in range(len(words) - 1) if keep not in (i, i + 1) and words[i].lower() != words[i + 1].lower()]
    if not places:
        return None
    i = places[draw(len(places))]
    return [*words[:i], words[i + 1], words[i], *words[i + 2 :]], keep


def shuffled(words: Words, keep: int, draw: Draws) -> tuple[Words, int] | None:
    """All words in a random order (Fisher and Yates); the place of the one that is kept moves with it."""
    order = list(range(len(words)))
    for last in range(len(order) - 1, 0, -1):
        other = draw(last + 1)
        order[last], order[other] = order[other], order[last]
    if [words[i] for i in order] == words:
        return None
    return [words[i] for i in order], order.index(keep)


def with_synonym(synonyms: Mapping[str, str], words: Words, keep: int, draw: Draws) -> tuple[Words, int] | None:
    """One word becomes its synonym, in small letters."""
    places = [number for number, word in enumerate(words) if number != keep and word.lower() in synonyms]
    if not places:
        return None
    number = places[draw(len(places))]
    return [*words[:number], synonyms[words[number].lower()], *words[number + 1 :]], keep
