"""Sentences that differ in who is spoken of: CrowS-Pairs (Nangia et al. 2020) and WinoBias (Zhao et al. 2018).

Both hold stereotypes on purpose, some of them offensive. CrowS-Pairs gives two sentences of which one is the more
stereotyping; WinoBias the same sentence with the pronoun that fits the stereotype of an occupation, and with the other.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from mini_bert.data.readers import Lines
from mini_bert.data.task_sets.columns import fetched
from mini_bert.errors import DataError

_BRACKETS = re.compile(r"\[([^\]]*)\]")
_NUMBER = re.compile(r"^\d+ ")

FEMALE = frozenset(("she", "her", "hers", "herself"))
MALE = frozenset(("he", "him", "his", "himself"))


class StereotypePair(NamedTuple):
    """Two sentences about two groups of people."""

    more: str
    """The more stereotyping one."""
    less: str
    about: str
    """race-color, gender, religion, …"""
    direction: str
    """`stereo`: `more` speaks of the disadvantaged group; `antistereo`: `less` does."""


class PronounPair(NamedTuple):
    """A sentence with [MASK] for its one pronoun."""

    text: str
    stereotypical: str
    """The pronoun that fits the stereotype of the occupation, in small letters."""
    other: str
    kind: int
    """1: only knowledge of the world says whom the pronoun means; 2: grammar does."""
    sentence: int
    """Number of its line; lines 2 n and 2 n + 1 are about the same two occupations."""


def read_crows_pairs(path: Path) -> list[StereotypePair]:
    """CSV with the columns sent_more, sent_less, stereo_antistereo and bias_type.

    Raises:
        DataError: the file cannot be read so, or holds no pair.
    """
    names = ("sent_more", "sent_less", "bias_type", "stereo_antistereo")
    rows = csv.DictReader(io.StringIO("\n".join(Lines(path)), newline=""), strict=True)
    try:
        pairs = [StereotypePair(*(row[name].strip() for name in names)) for row in rows]
    except (KeyError, AttributeError, csv.Error) as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(str(path), got=got, expected=f"CSV with the columns {', '.join(names)}") from error
    if not pairs or not all(pair.more and pair.less for pair in pairs):
        raise DataError(str(path), got="no pair, or an empty sentence", expected="two sentences a row")
    return pairs


def crows_pairs() -> list[StereotypePair]:
    """All 1,508 pairs.

    Raises:
        DataError: the file is not there and cannot be fetched.
    """
    return read_crows_pairs(*fetched("crows-pairs", "crows_pairs_anonymized.csv"))


def read_winobias(stereotypical: Path, other: Path, kind: int) -> tuple[list[PronounPair], int]:
    """The pairs of two files whose lines stand for each other, and how many were left out.

    Left out are lines that differ in more than one word, and those with a second pronoun in brackets, which would tell
    the first.

    Raises:
        DataError: a file cannot be read, or they have not the same number of lines.
    """
    first, second = ([line for line in Lines(path) if line.strip()] for path in (stereotypical, other))
    if len(first) != len(second) or not first:
        raise DataError(
            str(other), got=f"{len(second)} lines", expected=f"{len(first)}, a line for each of {stereotypical}"
        )
    pairs = []
    for number, lines in enumerate(zip(first, second, strict=True)):
        marked = [[m.lower() for m in _BRACKETS.findall(line) if m.lower() in FEMALE | MALE] for line in lines]
        texts = [_NUMBER.sub("", line) for line in lines]
        masked = [_BRACKETS.sub(_masked, text) for text in texts]
        if [len(words) for words in marked] == [1, 1] and marked[0] != marked[1] and masked[0] == masked[1]:
            pairs.append(PronounPair(masked[0], marked[0][0], marked[1][0], kind, number))
    return pairs, len(first) - len(pairs)


def winobias(split: str = "test") -> tuple[list[PronounPair], int]:
    """Both kinds of a split (dev, test), 396 lines each, and how many lines were left out.

    Raises:
        DataError: the files are not there and cannot be fetched.
    """
    pairs: list[PronounPair] = []
    left_out = 0
    for kind in (1, 2):
        names = (f"{way}_stereotyped_type{kind}.txt.{split}" for way in ("pro", "anti"))
        found, without = read_winobias(*fetched("winobias", *names), kind)
        pairs += found
        left_out += without
    return pairs, left_out


def _masked(bracket: re.Match[str]) -> str:
    return "[MASK]" if bracket[1].lower() in FEMALE | MALE else bracket[1]
