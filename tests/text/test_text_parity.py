"""Parity with Hugging Face's `tokenizers`: ids, pieces, offsets, word numbers and text, on every script and worse.

The large number of lines is tried by an experiment: `python -m mini_bert.verification.reliability R16`.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from mini_bert.text import characters
from mini_bert.text.normalize import normalize, split_words
from mini_bert.text.wordpiece import WordPiece
from mini_bert.verification.reliability.tokenizer import (
    SETTINGS,
    all_characters,
    count_mismatches,
    documentation,
    hostile_lines,
    hugging_face,
    own_vocabulary,
    with_characters,
    with_surrogates,
)

pytestmark = pytest.mark.reference


def bert_vocabulary() -> tuple[str, ...]:
    path = Path(os.environ["MINI_BERT_DATA"]) / "bert-base-uncased" / "vocab.txt"
    return WordPiece.load(path).vocabulary


@pytest.mark.parametrize("settings", SETTINGS)
def test_hostile_lines(tmp_path: Path, settings: tuple[bool, bool | None]) -> None:
    wordpiece = WordPiece(with_characters(own_vocabulary()), lowercase=settings[0], strip_accents=settings[1])
    lines = [*hostile_lines(1, 1000), *documentation()[:250]]
    assert count_mismatches(wordpiece, hugging_face(wordpiece, tmp_path), lines) == 0


@pytest.mark.data
def test_hostile_lines_with_the_vocabulary_of_bert(tmp_path: Path) -> None:
    wordpiece = WordPiece(bert_vocabulary())
    lines = [*hostile_lines(3, 2000), *documentation()]
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
    for begin in range(0, len(all_characters()), 64):
        text = " ".join(f"a{character}b" for character in all_characters()[begin : begin + 64])
        normal = uncased.normalize_str(text)
        assert normalize(text) == normal
        assert split_words(normal) == [word for word, _ in split.pre_tokenize_str(normal)]
        assert normalize(text, lowercase=False) == cased.normalize_str(text)
        assert characters.decompose(text) == decompose.normalize_str(text)


def test_lone_surrogates_are_read_as_the_replacement_character(tmp_path: Path) -> None:
    wordpiece = WordPiece(own_vocabulary())
    lines = with_surrogates(list(hostile_lines(6, 1000)), 5)
    assert count_mismatches(wordpiece, hugging_face(wordpiece, tmp_path), lines) == 0


@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 9, 30, None])
def test_rows_frames_and_truncation(tmp_path: Path, max_length: int | None) -> None:
    wordpiece = WordPiece(own_vocabulary())
    reference = hugging_face(wordpiece, tmp_path)
    if max_length:
        reference.enable_truncation(max_length)
    chance = random.Random(7)
    for _ in range(100):
        text, pair = chance.choice(documentation()), chance.choice(documentation())
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
    theirs.train_from_iterator(documentation(), vocab_size=2000, show_progress=False)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = WordPiece.load(tmp_path)
    assert (ours.lowercase, ours.strip_accents) == (False, True)
    for line in hostile_lines(8, 300):
        assert ours.encode(line).ids == theirs.encode(line, add_special_tokens=False).ids


def test_the_learned_vocabulary_is_theirs_but_for_ties() -> None:
    from tokenizers import BertWordPieceTokenizer

    theirs = BertWordPieceTokenizer()
    theirs.train_from_iterator(documentation(), vocab_size=2000, show_progress=False)
    common = set(theirs.get_vocab()) & set(own_vocabulary())
    assert len(common) >= 0.97 * 2000
