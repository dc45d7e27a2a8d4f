"""Pairs of sentences: half of them follow, every answer is true of the documents, and the form says nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mini_bert.config.schema import Config
from mini_bert.data.sentence_pairs import NOT_ASKED, PairRows, SentencePairs
from mini_bert.data.tokens import TokenSet, open_tokens
from mini_bert.errors import DataError
from mini_bert.random_streams import RandomStream
from mini_bert.text.wordpiece import WordPiece

T = 32


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """60 documents of 2 to 40 sentences, no two sentences alike; some longer than a row."""
    draw = random.Random(3)
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(60):
        sentences = []
        for _ in range(draw.randint(2, 40)):
            words = ["".join(draw.choice("abcdefghij") for _ in range(draw.randint(1, 3))) for _ in range(30)]
            length = 29 if draw.random() < 0.04 else draw.randint(2, 8)
            sentences.append(" ".join(words[:length]).capitalize() + " jig.")  # no abbreviation: a sentence ends
        (folder / f"{number:02}.txt").write_text(" ".join(sentences))
    return folder


def opened(*corpus: str, letters: WordPiece) -> TokenSet:
    config = Config.model_validate({"data": {"corpus": corpus, "held_out_fraction": 0.05}})
    return open_tokens(config.data, config.tokenizer, 100, tokenizer=letters).train


def pairs_of(texts: TokenSet, letters: WordPiece, next_sentence: bool = True, order: bool = True) -> SentencePairs:
    return SentencePairs(
        texts.rows(T - 1),
        next_sentence=next_sentence,
        sentence_order=order,
        cls_id=letters.cls_id,
        sep_id=letters.sep_id,
    )


def many(texts: TokenSet, letters: WordPiece, repeats: int = 6, **tasks: bool) -> PairRows:
    """Every row, several times."""
    pairs, numbers = pairs_of(texts, letters, **tasks), np.arange(len(texts.rows(T - 1)))
    read = [pairs.read(numbers, RandomStream(0, "pairs", step)) for step in range(repeats)]
    return PairRows(*map(np.concatenate, zip(*read, strict=True)))


def segments(rows: PairRows) -> Iterator[tuple[list[int], list[int]]]:
    """A and B of each row, without special tokens."""
    for ids, types in zip(rows.ids.tolist(), rows.types.tolist(), strict=True):
        a = types.index(1)
        yield ids[1 : a - 1], ids[a:-1]


class Documents:
    """The texts as lists, to look things up in, slowly."""

    def __init__(self, texts: TokenSet, stop: int) -> None:
        self.documents = [document.tolist() for document in texts.documents()]
        self.begins = [
            {0, *(i + 1 for i, piece in enumerate(document) if piece == stop and i + 1 < len(document))}
            for document in self.documents
        ]

    def places(self, segment: list[int]) -> list[tuple[int, int]]:
        """(document, first token) wherever a segment stands."""
        n = len(segment)
        return [
            (number, i)
            for number, document in enumerate(self.documents)
            for i in range(len(document) - n + 1)
            if document[i] == segment[0] and document[i : i + n] == segment
        ]


def shape_is_right(rows: PairRows, letters: WordPiece) -> None:
    assert rows.ids.shape == rows.types.shape == (len(rows.ids), T)
    assert (rows.ids[:, 0] == letters.cls_id).all()
    assert (rows.ids[:, -1] == letters.sep_id).all()
    assert ((rows.ids == letters.sep_id).sum(axis=1) == 2).all()
    assert (np.diff(rows.types, axis=1) >= 0).all()
    first_of_b = rows.types.argmax(axis=1)
    assert (rows.ids[np.arange(len(rows.ids)), first_of_b - 1] == letters.sep_id).all()
    assert not (rows.ids == letters.pad_id).any()


def test_every_answer_is_true_of_the_documents(library: Path, letters: WordPiece) -> None:
    texts = opened(f"{library}/*.txt", letters=letters)
    known = Documents(texts, letters.id("."))
    rows = many(texts, letters, repeats=2)
    shape_is_right(rows, letters)
    seen = set()
    for (A, B), follows, ordered in zip(segments(rows), rows.next_sentence, rows.sentence_order, strict=True):
        ours, theirs = known.places(A), known.places(B)
        if (follows, ordered) == (NOT_ASKED, NOT_ASKED):
            assert any((d, i + len(A)) in theirs for d, i in ours), "an unasked row is a stretch of text"
            seen.add("unasked")
            continue
        whole = [(d, i) for d, i in ours if i in known.begins[d] and i + len(A) in known.begins[d]]
        starts = [(e, j) for e, j in theirs if j in known.begins[e]]
        if follows == 0 or ordered == 0:
            assert any((d, i + len(A)) in starts for d, i in whole)
            seen.add("in order")
        elif follows == 1:
            assert any(d != e for d, _ in whole for e, _ in starts)
            assert min(len(A), len(B)) < 10 or {d for d, _ in whole}.isdisjoint(e for e, _ in theirs)
            seen.add("other")
        else:  # B ends before A begins, by less than two rows
            gaps = [i - (k + len(B)) for d, i in whole for e, k in starts if d == e]
            assert any(0 <= gap < 2 * T for gap in gaps)
            seen.add("swapped")
    assert seen == {"unasked", "in order", "other", "swapped"}


@pytest.mark.parametrize(("follow", "order"), [(True, False), (False, True), (True, True)])
def test_half_of_the_answers_are_one(library: Path, letters: WordPiece, follow: bool, order: bool) -> None:
    texts = opened(f"{library}/*.txt", letters=letters)
    rows = many(texts, letters, repeats=40, next_sentence=follow, order=order)
    for asked, answers in ((follow, rows.next_sentence), (order, rows.sentence_order)):
        given = answers[answers != NOT_ASKED]
        assert bool(given.size) == asked
        if asked:
            assert given.size > 4000
            assert abs(given.mean() - 0.5) < 4 * 0.5 / np.sqrt(given.size)
    if follow and order:
        both = (rows.next_sentence != NOT_ASKED) & (rows.sentence_order != NOT_ASKED)
        np.testing.assert_array_equal(rows.next_sentence[both], 0)
        np.testing.assert_array_equal(rows.sentence_order[both], 0)


def test_the_form_of_a_row_says_nothing(library: Path, letters: WordPiece) -> None:
    """Where segments and sentences begin and end, and how long they are, is alike under both answers."""
    texts = opened(f"{library}/*.txt", letters=letters)
    rows = many(texts, letters, repeats=40)
    stop = letters.id(".")
    forms = np.array(
        [
            (len(A), A[-1] == stop, stop in B, B.index(stop) if stop in B else T, B[-1] == stop)
            for A, B in segments(rows)
        ],
        float,
    )
    for answers in (rows.next_sentence, rows.sentence_order):
        zero, one = forms[answers == 0], forms[answers == 1]
        error = np.sqrt(zero.var(axis=0) / len(zero) + one.var(axis=0) / len(one)) + 1e-12
        assert (np.abs(zero.mean(axis=0) - one.mean(axis=0)) < 4.5 * error)[:4].all()
        assert (zero[:, 1] == 1).all()
        assert (one[:, 1] == 1).all()
        assert abs(zero[:, 4].mean() - one[:, 4].mean()) < 0.05, "B is cut where the row is full, whatever it is"


def test_rows_are_a_function_of_seed_step_and_number(library: Path, letters: WordPiece) -> None:
    texts = opened(f"{library}/*.txt", letters=letters)
    pairs, stream = pairs_of(texts, letters), RandomStream(1, "pairs", 7)
    numbers = np.random.default_rng(0).permutation(len(texts.rows(T - 1)))[:40]
    whole = pairs.read(numbers, stream)
    parts = [pairs.read(numbers[first : first + 9], stream, first) for first in range(0, 40, 9)]
    for together, apart in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(together, np.concatenate(apart))
    other = pairs.read(numbers, RandomStream(1, "pairs", 8))
    assert (other.ids != whole.ids).any()


def test_nearly_every_token_is_seen(library: Path, letters: WordPiece) -> None:
    """Rows that are in order cover their documents but for less than a sentence at the ends."""
    texts = opened(f"{library}/*.txt", letters=letters)
    rows = many(texts, letters, repeats=1, next_sentence=False, order=False)
    known = Documents(texts, letters.id("."))
    covered: list[NDArray[np.bool_]] = [np.zeros(len(document), bool) for document in known.documents]
    for A, B in segments(rows):
        for d, i in known.places([*A, *B]):
            covered[d][i : i + T - 3] = True
    long_enough = [places for places in covered if places.size >= T - 3]
    assert np.concatenate(long_enough).mean() > 0.85


def test_one_document_has_no_other(tmp_path: Path, letters: WordPiece) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(4):
        text = "a b." * (number + 1) if number else " ".join(f"A b{'c' * (i % 9)} d e." for i in range(90))
        (folder / f"{number}.txt").write_text(text)
    texts = opened(f"{folder}/*.txt", letters=letters)
    documents = sum(len(document) >= T - 3 for document in texts.documents())
    assert documents == 1
    with pytest.raises(DataError, match="two documents that fill a row"):
        pairs_of(texts, letters)
    rows = many(texts, letters, repeats=4, next_sentence=False)
    assert {0, 1} <= set(rows.sentence_order.tolist())


def test_others_come_from_the_same_corpus(library: Path, tmp_path: Path, letters: WordPiece) -> None:
    """Another corpus would be known by its style."""
    digits = tmp_path / "digits"
    digits.mkdir()
    for number in range(8):
        lines = [f"{number}{i} {i}{i} 3 4 5 6." for i in range(40)]
        (digits / f"{number}.txt").write_text(" ".join(lines))
    texts = opened(f"{library}/*.txt", f"{digits}/*.txt", letters=letters)
    rows = many(texts, letters, repeats=3)
    piece = {letters.id(c) for c in "0123456789"} | {letters.id(f"##{c}") for c in "0123456789"}
    others = 0
    for (A, B), follows in zip(segments(rows), rows.next_sentence, strict=True):
        if follows == 1:
            others += 1
            assert bool(piece & set(A)) == bool(piece & set(B))
    assert others > 100
