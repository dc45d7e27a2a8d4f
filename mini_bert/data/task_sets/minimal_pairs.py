"""Minimal pairs: two sentences that differ in one point, which makes one of them wrong.

BLiMP (Warstadt et al. 2020) is generated from templates, 1,000 pairs a paradigm. Linzen, Dupoux and Goldberg (2016)
took sentences of Wikipedia and gave the verb the wrong number; here as Gulordava et al. (2018) filtered them, by the
number of attractors: nouns of the other number between subject and verb. Gulordava et al. (2018) also replaced all
content words at random, so that meaning cannot help: "colourless green ideas".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mini_bert.data.sources import fetch
from mini_bert.data.task_sets.columns import fetched, rows_of
from mini_bert.data.task_sets.facts import json_lines
from mini_bert.errors import DataError, InvalidInputError, nearest

_END = "<eos>"
_AS_IN_THE_PAPER = {"s-selection": "argument_structure"}
"""One file of BLiMP names the phenomenon otherwise than the paper's table, in which it is counted here."""
_PATTERNS = {
    "L!NOUN_VERB_VERB!Number=Plur!Number=Sing": "verb after a clause in its subject",
    "R!VERB_NOUN_CCONJ_VERB!Number=Sing!Number=Plur": "second of two joined verbs",
}


class MinimalPair(NamedTuple):
    """A sentence and its ungrammatical twin."""

    good: str
    bad: str
    paradigm: str
    """What is wrong, in particular: 1,000 pairs of BLiMP."""
    phenomenon: str
    """What is wrong, in general."""
    group: str = ""
    """Pairs of one group were made from one sentence; empty: the pair is its own."""


def blimp() -> list[MinimalPair]:
    """The paradigms of BLiMP that are at hand.

    Raises:
        DataError: a file is not there and cannot be fetched.
    """
    return [pair for path in sorted(fetch("blimp")) for pair in _blimp_file(path)]


def pairs_of_folder(folder: Path) -> list[MinimalPair]:
    """The pairs of all `.jsonl` files of a folder: objects with `sentence_good` and `sentence_bad`.

    `UID` names the paradigm, else the file does; `linguistics_term` the phenomenon, else the paradigm does.

    Raises:
        DataError: there is no such folder, no pair in it, or a line is not as it should be.
    """
    if not folder.is_dir():
        raise DataError(str(folder), got="no such folder", expected="a folder of .jsonl files")
    pairs = [pair for path in sorted(folder.glob("*.jsonl")) for pair in _blimp_file(path)]
    if not pairs:
        raise DataError(
            str(folder),
            got="no pair in any .jsonl file",
            expected="lines with sentence_good and sentence_bad, as in BLiMP",
        )
    return pairs


def linzen() -> list[MinimalPair]:
    """Agreement in Wikipedia's sentences; paradigms are the numbers of attractors.

    The sentences are as published, split at punctuation and in small letters.

    Raises:
        DataError: a file is not there and cannot be fetched, or the files do not fit each other.
    """
    text, gold = fetched("agreement-linzen", "subj_agr_filtered.text", "subj_agr_filtered.gold")
    pairs = []
    for (number, (sentence,)), (_, fields) in _aligned(text, gold, 4):
        place, right, wrong, attractors = fields
        paradigm = f"{attractors} attractor" + "s" * (attractors != "1")
        pairs.append(_with_verb(sentence, place, right, wrong, paradigm, "agreement", f"{gold}:{number}"))
    return pairs


def gulordava() -> list[MinimalPair]:
    """Agreement in 41 sentences of a treebank, and in nine nonsense twins of each.

    The verb is put where it belongs: the published nonsense sentences have another one there. A model that reads from
    left to right sees only what stands before it; here the whole sentence stands.

    Raises:
        DataError: as `linzen`.
    """
    text, gold = fetched("agreement-gulordava", "generated.text", "generated.gold")
    pairs = []
    for (number, (sentence,)), (_, fields) in _aligned(text, gold, 8):
        pattern, construction, version, place, _, _, right, wrong = fields
        phenomenon = _PATTERNS.get(pattern, pattern)
        paradigm = f"{phenomenon}, {'original' if version == '0' else 'nonsense'}"
        pair = _with_verb(sentence, place, right, wrong, paradigm, phenomenon, f"{gold}:{number}")
        pairs.append(pair._replace(group=f"{pattern} {construction}"))
    return pairs


PAIR_SETS: Mapping[str, Callable[[], list[MinimalPair]]] = {"blimp": blimp, "linzen": linzen, "gulordava": gulordava}


def published_pairs(name: str) -> list[MinimalPair]:
    """A set by its name.

    Raises:
        InvalidInputError: there is none of that name.
        DataError: it is not there and cannot be fetched.
    """
    if name not in PAIR_SETS:
        expected = "a set of minimal pairs"
        raise InvalidInputError("sets", got=f"'{name}'", expected=expected, advice=nearest(name, PAIR_SETS))
    return PAIR_SETS[name]()


def _blimp_file(path: Path) -> list[MinimalPair]:
    pairs = []
    for number, line in enumerate(json_lines(path, ("sentence_good", "sentence_bad")), start=1):
        good, bad = line["sentence_good"], line["sentence_bad"]
        if not all(isinstance(text, str) and text.strip() for text in (good, bad)):
            raise DataError(f"{path}, pair {number}", got=f"{line!r:.60}", expected="two sentences")
        paradigm = str(line.get("UID", path.stem))
        term = str(line.get("linguistics_term", paradigm))
        pairs.append(MinimalPair(good, bad, paradigm, _AS_IN_THE_PAPER.get(term, term)))
    return pairs


def _aligned(text: Path, gold: Path, columns: int) -> list[tuple[tuple[int, list[str]], tuple[int, list[str]]]]:
    """The lines of two files side by side, with their numbers."""
    sentences, answers = list(rows_of(text, 1)), list(rows_of(gold, columns))
    if len(sentences) != len(answers):
        raise DataError(str(gold), got=f"{len(answers)} lines", expected=f"{len(sentences)}, as {text.name} has")
    return list(zip(sentences, answers, strict=True))


def _with_verb(
    sentence: str, place: str, right: str, wrong: str, paradigm: str, phenomenon: str, where: str
) -> MinimalPair:
    words = [word for word in sentence.split() if word != _END]
    if not place.isdecimal() or int(place) >= len(words):
        raise DataError(where, got=f"place '{place}'", expected=f"the number of a word, 0 to {len(words) - 1}")
    before, after = words[: int(place)], words[int(place) + 1 :]
    good, bad = (" ".join([*before, verb, *after]) for verb in (right, wrong))
    return MinimalPair(good, bad, paradigm, phenomenon)
