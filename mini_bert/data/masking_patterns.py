"""Which words of a batch are preferred: those that a regular expression matches whole, or that stand in a list."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.masking_units import Words, words_of
from mini_bert.errors import ConfigError, DataError
from mini_bert.foreign_files import read_regular_file

if TYPE_CHECKING:
    from mini_bert.data.masking import Pieces
    from mini_bert.text.wordpiece import WordPiece

_REMEMBERED = 1 << 16
"""Words of several pieces."""
_LARGEST_LIST = 1 << 27
"""Bytes of a word list."""
_LONGEST_PROBE, _MOST_PROBES = 30, 64
_SLOW = 0.1
"""Seconds of the processor for one probe; a pattern that can match in one way only takes microseconds."""


class PreferredWords(NamedTuple):
    """What decides whether a word is preferred; words are as the tokenizer leaves them (lower-cased, if it does so)."""

    alone: NDArray[np.bool_] = np.empty(0, bool)
    """[V] whether a word that is this one piece is preferred."""
    parts: tuple[str, ...] = ()
    """[V] each piece without ##."""
    patterns: tuple[re.Pattern[str], ...] = ()
    """Each by itself: joined, their flags and the numbers of their groups would be another's."""
    listed: frozenset[str] = frozenset()
    remembered: dict[bytes, bool] = {}  # noqa: RUF012
    """Of words of several pieces, by their ids."""

    @classmethod
    def of(cls, patterns: Sequence[str], word_list: str | None, tokenizer: WordPiece) -> PreferredWords:
        """From `masking.patterns` and `masking.word_list`.

        Raises:
            ConfigError: a pattern is no regular expression, or one that would try all ways to cut a word into parts.
            DataError: the list cannot be read as UTF-8, or none of its lines is one word to the tokenizer.
        """
        regular = []
        for pattern in patterns:
            try:
                compiled = re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                got = f"{pattern!r}: {error}"
                raise ConfigError("masking.patterns", got=got, expected="regular expressions") from error
            if (probe := _never_ending(compiled)) is not None:
                raise ConfigError(
                    "masking.patterns",
                    got=f"{pattern!r}, whose time grows without bounds with a word's length: {_SLOW} s for {probe!r}",
                    expected="regular expressions that match in one way only",
                    advice="A repeat within a repeat is the usual cause: (a+)+ says no more than a+.",
                )
            regular.append(compiled)
        parts = tuple(piece.removeprefix("##") for piece in tokenizer.vocabulary)
        words = cls(np.empty(0, bool), parts, tuple(regular), _listed(word_list, tokenizer), {})
        return words._replace(alone=np.array([words.has(part) for part in parts]))

    def has(self, word: str) -> bool:
        """Whether a word is preferred."""
        return word in self.listed or any(pattern.fullmatch(word) for pattern in self.patterns)

    @property
    def list_sha256(self) -> str | None:
        """The hash of the listed words; None where none are."""
        return hashlib.sha256("\n".join(sorted(self.listed)).encode()).hexdigest() if self.listed else None

    def occur_in(self, ids: NDArray[np.integer], pieces: Pieces) -> bool:
        """Whether a preferred word stands in a row of ids."""
        rows = np.asarray(ids, np.int32)[None]
        return bool(self.among(rows, words_of(rows, ~pieces.special[rows], pieces)).any())

    def among(self, ids: NDArray[np.int32], words: Words) -> NDArray[np.bool_]:
        """Which words are preferred, [B, W]."""
        rows = np.arange(len(ids))[:, None]
        found = np.asarray(self.alone[ids[rows, words.columns]] & (words.lengths == 1))
        for row, word in np.argwhere(words.lengths > 1).tolist():
            start = words.columns[row, word]
            found[row, word] = self._of_pieces(ids[row, start : start + words.lengths[row, word]])
        return found

    def _of_pieces(self, ids: NDArray[np.int32]) -> bool:
        key = ids.tobytes()
        found = self.remembered.get(key)
        if found is None:
            if len(self.remembered) >= _REMEMBERED:
                self.remembered.clear()
            found = self.remembered[key] = self.has("".join(self.parts[id] for id in ids.tolist()))
        return found


def _never_ending(pattern: re.Pattern[str]) -> str | None:
    """A word for which a pattern takes too long, if there is one among repeats of its own words and letters.

    Lengths go up one by one, so that a time that doubles with each is noticed while it is short.
    """
    text = pattern.pattern
    units: list[str] = sorted(
        {*re.findall(r"\w", text), *re.findall(r"\w+", text), "a", "0"}, key=lambda unit: (len(unit), unit)
    )
    for unit in units[:_MOST_PROBES]:
        for count in range(1, _LONGEST_PROBE):
            probe = unit * count + "\0"
            begin = time.thread_time()
            pattern.fullmatch(probe)
            if time.thread_time() - begin > _SLOW:
                return probe[:-1]
    return None


def _listed(word_list: str | None, tokenizer: WordPiece) -> frozenset[str]:
    """The words of a file, as the tokenizer leaves them; a line that it takes for several words matches no word."""
    if word_list is None:
        return frozenset()
    from mini_bert.text.normalize import normalize, split_words

    try:
        lines = read_regular_file(Path(word_list), _LARGEST_LIST).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            "masking.word_list", got=f"{word_list}: {error}", expected="a file in UTF-8, one word a line"
        ) from error
    fallen = [split_words(normalize(line, tokenizer.lowercase, tokenizer.strip_accents)) for line in lines]
    words = frozenset(word for (word,) in (words for words in fallen if len(words) == 1))
    if not words:
        raise DataError("masking.word_list", got=f"{word_list}: no line that is one word", expected="one word a line")
    return words
