"""Parity with Hugging Face's `tokenizers`: ids, pieces, offsets, word numbers and text, on every script and worse."""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from mini_bert.text import characters
from mini_bert.text.normalize import normalize, split_words
from mini_bert.text.pieces import SPECIALS
from mini_bert.text.vocabulary import count_words, learn_vocabulary
from mini_bert.text.wordpiece import WordPiece

pytestmark = pytest.mark.reference

UNICODE = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
DOCUMENTATION = [line for topic in sorted(topics) for line in topics[topic].splitlines()]
SETTINGS = [(True, None), (False, None), (True, False), (False, True)]
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


@cache
def kinds() -> dict[str, list[str]]:
    """Characters by category, and those that normalisation stumbles over."""
    by_category: dict[str, list[str]] = {}
    for character in UNICODE:
        by_category.setdefault(unicodedata.category(character), []).append(character)
    by_category["Co"] = by_category["Co"][::1000]
    by_category["Cn"] = by_category["Cn"][::1000]
    return {
        **by_category,
        "space": [character for character in UNICODE if character.isspace()],
        "mark": [character for character in UNICODE if unicodedata.combining(character)],
        "decomposed": [character for character in UNICODE if unicodedata.decomposition(character)],
        "late": [character for character in UNICODE if character in characters._UNKNOWN_TO_DECOMPOSITION],
        "edge of ideographs": [chr(code) for code in (0x33FF, 0x3400, 0x4DBF, 0x4DC0, 0x4E00, 0x9FFF, 0xA000, 0x2B820)],
        "ascii": [chr(code) for code in range(128)],
        "any": UNICODE,
    }


def hostile_word(chance: random.Random) -> str:
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
    chance = random.Random(seed)
    for _ in range(count):
        joints = ["", " ", " ", chance.choice(kinds()["space"])]
        yield "".join(hostile_word(chance) + chance.choice(joints) for _ in range(chance.randrange(1, 10)))


@cache
def own_vocabulary() -> tuple[str, ...]:
    return tuple(learn_vocabulary(count_words(DOCUMENTATION), 2000))


def bert_vocabulary() -> tuple[str, ...]:
    path = Path(os.environ["MINI_BERT_DATA"]) / "bert-base-uncased" / "vocab.txt"
    return WordPiece.load(path).vocabulary


def with_characters(vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    """The vocabulary and 200,000 single characters, so that few words are [UNK] and offsets are put to the test."""
    chance = random.Random(0)
    plain = [character for character in UNICODE if character not in "\n\r"]
    singles = chance.sample(plain, 60_000) + kinds()["mark"] + kinds()["decomposed"] + kinds()["late"]
    return tuple(dict.fromkeys([*vocabulary, *singles, *(f"##{character}" for character in singles)]))


def hugging_face(wordpiece: WordPiece, folder: Path) -> Any:
    from tokenizers import Tokenizer

    wordpiece.save(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def count_mismatches(wordpiece: WordPiece, reference: Any, lines: list[str]) -> int:
    mismatches = 0
    for line, theirs in zip(lines, reference.encode_batch(lines, add_special_tokens=False), strict=True):
        ours = wordpiece.encode(line)
        alike = tuple(ours) == (theirs.ids, theirs.tokens, theirs.offsets, theirs.word_ids)
        alike &= wordpiece.decode(ours.ids) == reference.decode(theirs.ids)
        alike &= any(name in line for name in SPECIALS) or wordpiece.encode_ids(line) == ours.ids
        mismatches += not alike
    return mismatches


@pytest.mark.parametrize("settings", SETTINGS)
def test_hostile_lines(tmp_path: Path, settings: tuple[bool, bool | None]) -> None:
    wordpiece = WordPiece(with_characters(own_vocabulary()), lowercase=settings[0], strip_accents=settings[1])
    lines = [*hostile_lines(1, 1000), *DOCUMENTATION[:250]]
    assert count_mismatches(wordpiece, hugging_face(wordpiece, tmp_path), lines) == 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_100_000_hostile_lines(tmp_path: Path, settings: tuple[bool, bool | None]) -> None:
    wordpiece = WordPiece(with_characters(own_vocabulary()), lowercase=settings[0], strip_accents=settings[1])
    reference = hugging_face(wordpiece, tmp_path)
    assert count_mismatches(wordpiece, reference, list(hostile_lines(2, 25_000))) == 0


@pytest.mark.data
def test_hostile_lines_with_the_vocabulary_of_bert(tmp_path: Path) -> None:
    wordpiece = WordPiece(bert_vocabulary())
    lines = [*hostile_lines(3, 2000), *DOCUMENTATION]
    assert count_mismatches(wordpiece, hugging_face(wordpiece, tmp_path), lines) == 0


@pytest.mark.data
@pytest.mark.slow
def test_100_000_hostile_lines_with_the_vocabulary_of_bert(tmp_path: Path) -> None:
    wordpiece = WordPiece(with_characters(bert_vocabulary()))
    reference = hugging_face(wordpiece, tmp_path)
    for seed in range(4):
        assert count_mismatches(wordpiece, reference, list(hostile_lines(4 + seed, 25_000))) == 0


def test_every_code_point_alone_and_within_a_word() -> None:
    from tokenizers.normalizers import NFD, BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    uncased, cased = BertNormalizer(), BertNormalizer(lowercase=False, strip_accents=False)
    split, decompose = BertPreTokenizer(), NFD()
    for begin in range(0, len(UNICODE), 64):
        text = " ".join(f"a{character}b" for character in UNICODE[begin : begin + 64])
        normal = uncased.normalize_str(text)
        assert normalize(text) == normal
        assert split_words(normal) == [word for word, _ in split.pre_tokenize_str(normal)]
        assert normalize(text, lowercase=False) == cased.normalize_str(text)
        assert characters.decompose(text) == decompose.normalize_str(text)


def test_lone_surrogates_are_read_as_the_replacement_character(tmp_path: Path) -> None:
    wordpiece = WordPiece(own_vocabulary())
    reference = hugging_face(wordpiece, tmp_path)
    chance = random.Random(5)
    for line in hostile_lines(6, 300):
        place = chance.randrange(len(line) + 1)
        broken = wordpiece.encode(f"{line[:place]}{chr(chance.randrange(0xD800, 0xE000))}{line[place:]}")
        replaced = reference.encode(f"{line[:place]}\ufffd{line[place:]}", add_special_tokens=False)
        assert (broken.ids, broken.offsets) == (replaced.ids, replaced.offsets)


@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 9, 30, None])
def test_rows_frames_and_truncation(tmp_path: Path, max_length: int | None) -> None:
    wordpiece = WordPiece(own_vocabulary())
    reference = hugging_face(wordpiece, tmp_path)
    if max_length:
        reference.enable_truncation(max_length)
    chance = random.Random(7)
    for _ in range(100):
        text, pair = chance.choice(DOCUMENTATION), chance.choice(DOCUMENTATION)
        single, double = reference.encode(text), reference.encode(text, pair)
        assert wordpiece.encode_row(text, max_length=max_length) == (single.ids, single.type_ids)
        assert wordpiece.encode_row(text, pair, max_length) == (double.ids, double.type_ids)


@pytest.mark.parametrize("settings", SETTINGS)
def test_transformers_reads_what_is_saved_and_saves_what_is_read(
    tmp_path: Path, settings: tuple[bool, bool | None]
) -> None:
    from transformers import BertTokenizer

    wordpiece = WordPiece(own_vocabulary(), lowercase=settings[0], strip_accents=settings[1])
    wordpiece.save(tmp_path / "ours")
    theirs = BertTokenizer.from_pretrained(str(tmp_path / "ours"))
    text = "The Élan of [MASK] — naïve Übermut!"
    assert theirs(text)["input_ids"] == wordpiece.encode_row(text)[0]
    theirs.save_pretrained(str(tmp_path / "theirs"))
    assert WordPiece.load(tmp_path / "theirs") == wordpiece


def test_what_tokenizers_trains_and_saves_is_read(tmp_path: Path) -> None:
    from tokenizers import BertWordPieceTokenizer

    theirs = BertWordPieceTokenizer(lowercase=False, strip_accents=True)
    theirs.train_from_iterator(DOCUMENTATION, vocab_size=2000, show_progress=False)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = WordPiece.load(tmp_path)
    assert (ours.lowercase, ours.strip_accents) == (False, True)
    for line in hostile_lines(8, 300):
        assert ours.encode(line).ids == theirs.encode(line, add_special_tokens=False).ids


def test_the_learned_vocabulary_is_theirs_but_for_ties() -> None:
    from tokenizers import BertWordPieceTokenizer

    theirs = BertWordPieceTokenizer()
    theirs.train_from_iterator(DOCUMENTATION, vocab_size=2000, show_progress=False)
    common = set(theirs.get_vocab()) & set(own_vocabulary())
    assert len(common) >= 0.97 * 2000
