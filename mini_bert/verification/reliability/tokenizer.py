"""Does the tokenizer do what Hugging Face's does, on every script and worse, and learn the same in any process? (R16)

The lines that tests and experiments try it on are made here.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from mini_bert.data.sources import data_home
from mini_bert.text import characters
from mini_bert.text.pieces import SPECIALS
from mini_bert.text.vocabulary import count_words, learn_vocabulary
from mini_bert.text.wordpiece import WordPiece
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

SETTINGS = [(True, None), (False, None), (True, False), (False, True)]
"""`lowercase` and `strip_accents`."""

KNOWN = [
    "hello",
    "World",
    "THE",
    "Unaffable",
    "don't",
    "İSTANBUL",
    "ΟΔΥΣΣΕΥΣ",
    "ﷺ",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👍🏽",
    "\ufffd",
]
KNOWN += [*SPECIALS, "[mask]", "[ MASK]", "[MASK][MASK]", "##a", "a" * 99, "a" * 101, "é" * 100, "é" * 101]

_LINES_A_CALL = 2500
_SURROGATE = re.compile("[\ud800-\udfff]")
_REAL = ("enwiki-2018", "novels", "ud-ewt", "wikitext-2")


@cache
def all_characters() -> list[str]:
    """Every code point that can stand in a text."""
    return [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


@cache
def documentation() -> list[str]:
    """The lines of Python's help, which are everywhere."""
    from pydoc_data.topics import topics

    return [line for topic in sorted(topics) for line in topics[topic].splitlines()]


@cache
def own_vocabulary() -> tuple[str, ...]:
    """2,000 pieces learned from the documentation."""
    return tuple(learn_vocabulary(count_words(documentation()), 2000))


@cache
def kinds() -> dict[str, list[str]]:
    """Characters by category, and those that normalisation stumbles over."""
    by_category: dict[str, list[str]] = {}
    for character in all_characters():
        by_category.setdefault(unicodedata.category(character), []).append(character)
    by_category["Co"] = by_category["Co"][::1000]
    by_category["Cn"] = by_category["Cn"][::1000]
    return {
        **by_category,
        "space": [character for character in all_characters() if character.isspace()],
        "mark": [character for character in all_characters() if unicodedata.combining(character)],
        "decomposed": [character for character in all_characters() if unicodedata.decomposition(character)],
        "late": [character for character in all_characters() if character in characters._UNKNOWN_TO_DECOMPOSITION],
        "edge of ideographs": [chr(code) for code in (0x33FF, 0x3400, 0x4DBF, 0x4DC0, 0x4E00, 0x9FFF, 0xA000, 0x2B820)],
        "ascii": [chr(code) for code in range(128)],
        "any": all_characters(),
    }


def hostile_word(chance: random.Random) -> str:
    """A word of a kind that tokenizers stumble over, now and then of 10,000 characters."""
    shape = chance.randrange(8)
    length = chance.randrange(1, 9)
    names = sorted(kinds())
    if shape == 0:
        return chance.choice(KNOWN)
    if shape == 1:
        return "".join(chance.choice(kinds()[chance.choice(names)]) for _ in range(length))
    if shape == 2:
        return chance.choice("aeiouK") + "".join(chance.choices(kinds()["mark"], k=length))
    if shape == 3:
        return "".join(chance.choices(kinds()["decomposed"] + kinds()["mark"] + kinds()["late"], k=length))
    if shape == 4:
        block = chance.randrange(0, 0x3000, 0x80)
        return "".join(chr(block + chance.randrange(0x80)) for _ in range(length))
    if shape == 5 and chance.random() < 0.002:
        return chance.choice("aé中🙂") * 10_000
    return "".join(chance.choices(kinds()[chance.choice(names)], k=length))


def hostile_lines(seed: int, count: int) -> Iterator[str]:
    """Lines of one to nine such words, joined by nothing, by spaces and by other white space."""
    chance = random.Random(seed)
    for _ in range(count):
        joints = ["", " ", " ", chance.choice(kinds()["space"])]
        yield "".join(hostile_word(chance) + chance.choice(joints) for _ in range(chance.randrange(1, 10)))


def with_characters(vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    """The vocabulary and 200,000 single characters, so that few words are [UNK] and offsets are put to the test."""
    chance = random.Random(0)
    plain = [character for character in all_characters() if character not in "\n\r"]
    singles = chance.sample(plain, 60_000) + kinds()["mark"] + kinds()["decomposed"] + kinds()["late"]
    return tuple(dict.fromkeys([*vocabulary, *singles, *(f"##{character}" for character in singles)]))


def hugging_face(wordpiece: WordPiece, folder: Path) -> Any:
    """The tokenizer of `tokenizers` that reads the files which this one writes."""
    from tokenizers import Tokenizer

    wordpiece.save(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def count_mismatches(wordpiece: WordPiece, reference: Any, lines: Sequence[str]) -> int:
    """Lines of which ids, pieces, offsets, word numbers, the text put together again or the fast ids are not the same.

    `tokenizers` does not take lone surrogates: it is given the replacement character, as which they are to be read.
    """
    mismatches = 0
    readable = [_SURROGATE.sub("\ufffd", line) for line in lines]
    encoded = reference.encode_batch(readable, add_special_tokens=False)
    for line, theirs in zip(lines, encoded, strict=True):
        ours = wordpiece.encode(line)
        alike = tuple(ours) == (theirs.ids, theirs.tokens, theirs.offsets, theirs.word_ids)
        alike &= wordpiece.decode(ours.ids) == reference.decode(theirs.ids)
        alike &= any(name in line for name in SPECIALS) or wordpiece.encode_ids(line) == ours.ids
        mismatches += not alike
    return mismatches


def with_surrogates(lines: Sequence[str], seed: int) -> list[str]:
    """Every tenth line gets a lone surrogate somewhere."""
    chance = random.Random(seed)

    def spoiled(line: str) -> str:
        place = chance.randrange(len(line) + 1)
        return f"{line[:place]}{chr(chance.randrange(0xD800, 0xE000))}{line[place:]}"

    return [spoiled(line) if number % 10 == 0 else line for number, line in enumerate(lines)]


def real_lines() -> Iterator[str]:
    """Lines of the registered texts that are on this machine, a file of each in turn; of the documentation if none."""
    files = [sorted((data_home() / name).glob("*")) for name in _REAL]
    paths = [path for turn in zip(*(files_ * 1000 for files_ in files if files_), strict=False) for path in turn]
    if not paths:
        yield from documentation()
    for path in dict.fromkeys(paths):
        if path.is_file() and path.suffix in ("", ".txt", ".conllu"):
            with path.open(encoding="utf-8", errors="surrogateescape") as file:
                yield from (line.rstrip("\n") for line in file if line.strip())


def parity(scale: Scale, folder: Path) -> Outcome:
    """Half hostile lines, half real ones, through both tokenizers, under each of the four settings."""
    outcome, wanted = Outcome(), scale.of(full=100_000, quick=1000)
    share = wanted // len(SETTINGS)
    real = real_lines()
    pieces = unknown = 0
    for number, (lowercase, strip_accents) in enumerate(SETTINGS):
        vocabulary = with_characters(own_vocabulary())
        wordpiece = WordPiece(vocabulary, lowercase=lowercase, strip_accents=strip_accents)
        reference = hugging_face(wordpiece, folder / str(number))
        texts = list(islice(real, share // 2))
        lines = with_surrogates([*texts, *hostile_lines(40 + number, share - len(texts))], number)
        for first in range(0, len(lines), _LINES_A_CALL):
            part = lines[first : first + _LINES_A_CALL]
            wrong = count_mismatches(wordpiece, reference, part)
            setting = f"lowercase={lowercase}, strip_accents={strip_accents}"
            outcome.tried += len(part)
            outcome.failures += [f"{setting}: a line is not the same"] * wrong
            ids = [id for line in part for id in wordpiece.encode_ids(line)]
            pieces, unknown = pieces + len(ids), unknown + ids.count(wordpiece.unk_id)
            scale.told(outcome.tried, wanted)
    from importlib.metadata import version

    outcome.measured = {"tokenizers": version("tokenizers"), "pieces": pieces, "share_unknown": unknown / pieces}
    return outcome


_LEARN = """
import random, sys
from mini_bert.text.vocabulary import count_words, learn_vocabulary
from mini_bert.text.wordpiece import WordPiece
from mini_bert.verification.reliability.tokenizer import documentation, hostile_lines
lines = [*documentation(), *hostile_lines(50, 300)]
random.Random(sys.argv[1]).shuffle(lines)
WordPiece(learn_vocabulary(count_words(lines), 2000)).save(sys.argv[2])
"""


def training(scale: Scale, folder: Path) -> Outcome:
    """Learn a vocabulary in several processes, each with a hash seed and an order of lines of its own."""
    outcome, processes = Outcome(), scale.of(full=6, quick=2)
    digests = []
    for number in range(processes):
        environment = {**os.environ, "PYTHONHASHSEED": str(number + 1)}
        target = folder / str(number)
        command = [sys.executable, "-c", _LEARN, str(number), str(target)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        digests.append(hashlib.sha256((target / "vocab.txt").read_bytes()).hexdigest())
        outcome.count(digests[-1] == digests[0], f"process {number} learned another vocab.txt than process 0")
        scale.told(number + 1, processes)
    return outcome


EXPERIMENTS = (
    Experiment(
        "R16",
        "hostile and real lines through this tokenizer and Hugging Face's",
        "the same ids, pieces, offsets, word numbers and text of every line",
        parity,
        ("tokenizers",),
    ),
    Experiment(
        "R16",
        "a vocabulary learned in several processes, under other hash seeds, from shuffled lines",
        "the same bytes of vocab.txt",
        training,
    ),
)
