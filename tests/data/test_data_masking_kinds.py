"""Each kind of masking beside a transcription of its rule in loops, and its distribution beside the closed form."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mini_bert.config.schema import MaskingConfig
from mini_bert.data.masking import Pieces, mask_rows
from mini_bert.data.masking_facts import NO_FACTS, MaskingFacts
from mini_bert.data.masking_kinds import KINDS, geometric, harmonic
from mini_bert.data.masking_patterns import PreferredWords
from mini_bert.data.masking_pmi import Collocations, _indexed
from mini_bert.errors import ConfigError, DataError, InvalidInputError
from mini_bert.random_streams import RandomStream
from mini_bert.text.wordpiece import WordPiece

STREAM = RandomStream(seed=5, name="masking", step=3)
COLLOCATIONS = ["ab cd", "cd e", "e f g", "f g", "ab cd e f", "hij a"]
PATTERNS = (".*[aeiou]", "q.*")


@pytest.fixture(scope="module")
def pieces(letters: WordPiece) -> Pieces:
    return Pieces.of(letters)


@pytest.fixture(scope="module")
def facts(letters: WordPiece) -> dict[str, MaskingFacts]:
    frequency = np.random.default_rng(0).integers(1, 100, letters.vocab_size)
    ids = [letters.encode_ids(text) for text in COLLOCATIONS]
    flat, sizes = np.array([id for run in ids for id in run], np.int32), np.array([len(run) for run in ids])
    found = _indexed(Collocations(flat, sizes, np.zeros(len(ids), np.float32)), letters, 4)
    preferred = PreferredWords.of(PATTERNS, None, letters)
    return {
        "frequency": MaskingFacts("frequency", weights=frequency**-0.5),
        "pmi": MaskingFacts("pmi", collocations=found),
        "pattern": MaskingFacts("pattern", preferred=preferred),
    }


@pytest.fixture(scope="module")
def ids(letters: WordPiece) -> np.ndarray:
    """Rows of words of one to four letters, with specials here and there, and padding."""
    draw = np.random.default_rng(1)
    rows = []
    for _ in range(120):
        texts = [*COLLOCATIONS, "a", "ab", "cd", "e", "f", "qx", "hij", "klmn", "z", "y", "x"]
        row = [letters.cls_id]
        while len(row) < draw.integers(4, 40):
            row += letters.encode_ids(texts[draw.integers(len(texts))])
            if draw.random() < 0.08:
                row.append(letters.unk_id)
        rows.append([*row[:39], letters.sep_id, *[letters.pad_id] * 40][:40])
    return np.array(rows, np.int32)


class Oracle:
    """One row, by its definition."""

    def __init__(self, row: list[int], number: int, pieces: Pieces, masking: MaskingConfig, facts: MaskingFacts):
        self.row, self.pieces, self.masking, self.facts = row, pieces, masking, facts
        columns = len(row)

        def drawn(site: str) -> list[int]:
            return STREAM.at(site).row_words(number, 1, columns)[0].tolist()

        self.keys, self.fates, self.lengths, self.overlap = map(drawn, ("choice", "fate", "length", "overlap"))
        self.ordinary = [not pieces.special[id] for id in row]
        tokens = sum(self.ordinary)
        rounding = float(STREAM.at("count").uniform(1, first_row=number)[0, 0])
        self.wanted = min(tokens, max(1, math.floor(masking.rate * tokens + rounding)))
        self.words: list[list[int]] = []
        for column in range(columns):
            if not self.ordinary[column]:
                continue
            if self.words and self.words[-1][-1] == column - 1 and pieces.continuation[row[column]]:
                self.words[-1].append(column)
            else:
                self.words.append([column])

    def chosen(self) -> dict[int, int]:
        """Chosen columns, each with the column that decides its fate."""
        return getattr(self, self.masking.kind)()

    def exponential(self, column: int) -> float:
        return -math.log(((self.keys[column] >> 11) + 0.5) * 2.0**-53)

    def token(self) -> dict[int, int]:
        columns = [column for column in range(len(self.row)) if self.ordinary[column]]
        columns.sort(key=lambda column: self.keys[column])
        return {column: column for column in columns[: self.wanted]}

    def frequency(self) -> dict[int, int]:
        columns = [column for column in range(len(self.row)) if self.ordinary[column]]
        columns.sort(key=lambda column: self.exponential(column) / self.facts.weights[self.row[column]])
        return {column: column for column in columns[: self.wanted]}

    def whole_word(self) -> dict[int, int]:
        return self.in_order(self.words, [self.keys[word[0]] for word in self.words], [1] * len(self.words), False)

    def span(self) -> dict[int, int]:
        return self.drawn_runs([0.2 * 0.8**k for k in range(self.masking.span_max)], True)

    def ngram(self) -> dict[int, int]:
        return self.drawn_runs([1 / (k + 1) for k in range(self.masking.ngram_max)], False)

    def pattern(self) -> dict[int, int]:
        import re

        texts = ["".join(self.facts.preferred.parts[self.row[c]] for c in word) for word in self.words]
        weights = [self.masking.pattern_weight if any(re.fullmatch(p, t) for p in PATTERNS) else 1 for t in texts]
        keys = [self.exponential(word[0]) / weight for word, weight in zip(self.words, weights, strict=True)]
        return self.in_order(self.words, keys, [1] * len(self.words), False)

    def pmi(self) -> dict[int, int]:
        listed = {tuple(run) for run in self.listed}
        found = []
        for i in range(len(self.words)):
            for j in range(i + 2, len(self.words) + 1):
                run = [column for word in self.words[i:j] for column in word]
                if run == list(range(run[0], run[-1] + 1)) and tuple(self.row[c] for c in run) in listed:
                    found.append((i, j))
        longest = [(i, j) for i, j in found if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in found)]
        units, taken = [], set()
        for i, j in sorted(longest, key=lambda run: self.overlap[self.words[run[0]][0]]):
            if taken.isdisjoint(range(i, j)):
                taken |= set(range(i, j))
                units.append([column for word in self.words[i:j] for column in word])
        units += [word for number, word in enumerate(self.words) if number not in taken]
        units.sort()
        return self.in_order(units, [self.keys[unit[0]] for unit in units], [1] * len(units), True)

    listed: ClassVar[list[list[int]]] = []

    def drawn_runs(self, weights: list[float], one_fate: bool) -> dict[int, int]:
        reach = []
        for word in self.words:
            draw, total, length = (self.lengths[word[0]] >> 11) * 2.0**-53, 0.0, 0
            for weight in weights:
                total += weight / sum(weights)
                length += 1
                if draw < total:
                    break
            reach.append(length)
        return self.in_order(self.words, [self.keys[word[0]] for word in self.words], reach, one_fate)

    def in_order(self, units: list[list[int]], keys: list[Any], reach: list[int], one_fate: bool) -> dict[int, int]:
        chosen: dict[int, int] = {}
        order = sorted(range(len(units)), key=lambda number: keys[number])
        for first in order:
            for number in range(first, min(first + reach[first], len(units))):
                unit = units[number]
                apart = number > first and unit[0] != units[number - 1][-1] + 1
                if apart or unit[0] in chosen or len(chosen) + len(unit) > self.wanted:
                    break
                chosen |= {column: units[first][0] if one_fate else column for column in unit}
        if not chosen and units:
            chosen = {column: units[order[0]][0] if one_fate else column for column in units[order[0]]}
        return chosen


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("rate", [0.02, 0.15, 0.5])
def test_every_row_is_masked_as_the_loops_do(
    kind: str, rate: float, ids: np.ndarray, pieces: Pieces, facts: dict[str, MaskingFacts], letters: WordPiece
) -> None:
    masking = MaskingConfig(kind=kind, rate=rate, mask_share=0.5, random_share=0.3, patterns=PATTERNS)
    known = facts.get(kind, NO_FACTS)
    Oracle.listed = [letters.encode_ids(text) for text in COLLOCATIONS]
    shown, expected = ids.copy(), []
    for number, row in enumerate(ids.tolist()):
        oracle = Oracle(row, 7 + number, pieces, masking, known)
        for column, deciding in sorted(oracle.chosen().items()):
            expected.append(number * ids.shape[1] + column)
            share, draw = oracle.fates[deciding] >> 32, oracle.fates[column] % 2**32
            if share < 0.5 * 2**32:
                shown[number, column] = pieces.mask_id
            elif share < 0.8 * 2**32:
                shown[number, column] = pieces.ordinary_ids[draw * len(pieces.ordinary_ids) // 2**32]
    masked = mask_rows(ids, pieces, masking, STREAM, first_row=7, facts=known)
    assert masked.masked_positions.tolist() == expected
    np.testing.assert_array_equal(masked.input_ids, shown)
    np.testing.assert_array_equal(masked.target_ids, ids.ravel()[expected])
    part = mask_rows(ids[50:60], pieces, masking, STREAM, first_row=57, facts=known)
    np.testing.assert_array_equal(part.input_ids, shown[50:60])


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_mean_of_the_budget(kind: str, pieces: Pieces, facts: dict[str, MaskingFacts], letters: WordPiece) -> None:
    """Exact where tokens are chosen one by one; of whole words, as good as exact where words of one piece are about."""
    draw = np.random.default_rng(2)
    starts = np.flatnonzero(~pieces.continuation & ~pieces.special)
    goes_on = np.flatnonzero(pieces.continuation)
    ids = np.where(draw.random((3000, 64)) < 0.25, draw.choice(goes_on, (3000, 64)), draw.choice(starts, (3000, 64)))
    ids[:, 0], ids[:, -1] = letters.cls_id, letters.sep_id
    masked = mask_rows(
        ids, pieces, MaskingConfig(kind=kind, patterns=PATTERNS), STREAM, facts=facts.get(kind, NO_FACTS)
    )
    per_row = np.bincount(masked.masked_positions // 64, minlength=3000)
    assert set(per_row) <= {8, 9, 10}
    error = 4 * 0.46 / np.sqrt(3000)
    assert abs(per_row.mean() - 9.3) < error + (0 if kind in ("token", "frequency") else 0.03)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("ids", [np.zeros((3, 6), int), np.zeros((0, 6), int), np.zeros((3, 0), int)])
def test_where_no_token_is_ordinary_none_is_hidden(
    kind: str, ids: np.ndarray, pieces: Pieces, facts: dict[str, MaskingFacts]
) -> None:
    masking = MaskingConfig(kind=kind, patterns=PATTERNS)
    masked = mask_rows(ids, pieces, masking, STREAM, facts=facts.get(kind, NO_FACTS))
    np.testing.assert_array_equal(masked.input_ids, ids)
    assert masked.masked_positions.size == 0


def test_a_rate_that_is_given_counts(ids: np.ndarray, pieces: Pieces) -> None:
    given = mask_rows(ids, pieces, MaskingConfig(), STREAM, rate=0.4)
    configured = mask_rows(ids, pieces, MaskingConfig(rate=0.4), STREAM)
    np.testing.assert_array_equal(given.masked_positions, configured.masked_positions)


def single_words(rows: int, columns: int, pieces: Pieces) -> np.ndarray:
    starts = np.flatnonzero(~pieces.continuation & ~pieces.special)
    ids = np.random.default_rng(4).choice(starts, (rows, columns))
    return ids.astype(np.int32)


@pytest.mark.parametrize(
    ("kind", "expected"), [("span", geometric(0.2, 10)), ("ngram", harmonic(3))], ids=["span", "ngram"]
)
def test_lengths_of_first_spans(kind: str, expected: np.ndarray, pieces: Pieces) -> None:
    """The word with the smallest key comes first: how far does its span go, where nothing cuts it short?"""
    rows, columns, longest = 20_000, 40, len(expected)
    ids = single_words(rows, columns, pieces)
    rate = longest / columns + 1e-9
    masked = mask_rows(ids, pieces, MaskingConfig(kind=kind, rate=rate), STREAM)
    hidden = np.zeros((rows, columns + 1), bool)
    hidden[:, :-1].flat[masked.masked_positions] = True
    first = STREAM.at("choice").row_words(0, rows, columns).argmin(axis=1)
    room = first < columns - longest
    lengths = (STREAM.at("length").row_words(0, rows, columns)[np.arange(rows), first] >> np.uint64(11)) * 2.0**-53
    drawn = 1 + (lengths[:, None] >= np.cumsum(expected)[:-1]).sum(axis=1)
    for row in np.flatnonzero(room)[:2000]:
        assert hidden[row, first[row] : first[row] + drawn[row]].all()
    counts = np.bincount(drawn[room], minlength=longest + 1)[1:]
    wanted = room.sum() * expected
    assert ((counts - wanted) ** 2 / wanted).sum() < longest - 1 + 5 * np.sqrt(2 * (longest - 1))


def test_the_mean_span_is_that_of_the_paper() -> None:
    assert geometric(0.2, 10) @ np.arange(1, 11) == pytest.approx(3.797, abs=5e-4)
    assert harmonic(3).tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_tokens_of_a_span_share_a_fate(pieces: Pieces) -> None:
    ids = single_words(2000, 40, pieces)
    masking = MaskingConfig(kind="span", rate=0.1, mask_share=0.5, random_share=0.0)
    masked = mask_rows(ids, pieces, masking, STREAM)
    shown = masked.input_ids.ravel()[masked.masked_positions] == pieces.mask_id
    beside = np.diff(masked.masked_positions) == 1
    same = shown[1:] == shown[:-1]
    assert same[beside].mean() > 0.85, "few neighbours belong to two spans"
    assert abs(same[~beside].mean() - 0.5) < 0.05
    each = mask_rows(ids, pieces, masking.model_copy(update={"kind": "ngram"}), STREAM)
    shown = each.input_ids.ravel()[each.masked_positions] == pieces.mask_id
    beside = np.diff(each.masked_positions) == 1
    assert abs((shown[1:] == shown[:-1])[beside].mean() - 0.5) < 0.05


def chances(weights: list[float], taken: int) -> np.ndarray:
    """P(i is among the first `taken`), drawing one by one in proportion to the weights of those that are left."""
    chance = np.zeros(len(weights))
    for order in permutations(range(len(weights)), taken):
        p, left = 1.0, sum(weights)
        for item in order:
            p *= weights[item] / left
            left -= weights[item]
        chance[list(order)] += p
    return chance


def test_rare_pieces_come_sooner_as_the_closed_form_says(pieces: Pieces, facts: dict[str, MaskingFacts]) -> None:
    rows, row = 20_000, np.array([8, 20, 33, 9, 12, 15])
    masking = MaskingConfig(kind="frequency", rate=1 / 3 + 1e-9)
    masked = mask_rows(np.tile(row, (rows, 1)), pieces, masking, STREAM, facts=facts["frequency"])
    found = np.bincount(masked.masked_positions % 6, minlength=6) / rows
    expected = chances(facts["frequency"].weights[row].tolist(), 2)
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / np.sqrt(rows))
    assert np.ptp(expected) > 0.2


def test_preferred_words_come_sooner_as_the_closed_form_says(
    pieces: Pieces, facts: dict[str, MaskingFacts], letters: WordPiece
) -> None:
    rows, row = 20_000, np.array(letters.encode_ids("x a y e z w"))
    masking = MaskingConfig(kind="pattern", rate=1 / 3 + 1e-9, patterns=PATTERNS, pattern_weight=4)
    masked = mask_rows(np.tile(row, (rows, 1)), pieces, masking, STREAM, facts=facts["pattern"])
    found = np.bincount(masked.masked_positions % 6, minlength=6) / rows
    np.testing.assert_allclose(found, chances([1, 4, 1, 4, 1, 1], 2), atol=5 * 0.5 / np.sqrt(rows))


def test_of_two_collocations_that_overlap_either_is_taken(
    pieces: Pieces, facts: dict[str, MaskingFacts], letters: WordPiece
) -> None:
    """In "e f g" and "hij a" nothing overlaps; "ab cd" and "cd e" do, and one of them is drawn."""
    row = np.array([letters.encode_ids("z ab cd e z z")])
    rows = 4000
    masking = MaskingConfig(kind="pmi", rate=0.5)
    masked = mask_rows(np.tile(row, (rows, 1)), pieces, masking, STREAM, facts=facts["pmi"])
    hidden = np.zeros((rows, row.size), bool)
    hidden.flat[masked.masked_positions] = True
    ab, cd, e = hidden[:, 1], hidden[:, 3], hidden[:, 5]
    together = [(ab & cd & ~e).mean(), (~ab & cd & e).mean()]
    assert min(together) > 0.1
    assert Counter(zip(hidden[:, 1], hidden[:, 2], strict=True)).keys() == {(True, True), (False, False)}


def test_words_of_a_list(tmp_path: Path, letters: WordPiece) -> None:
    path = tmp_path / "words.txt"
    path.write_text("Café\nTWO words\nabc\n\n", encoding="utf-8-sig")
    words = PreferredWords.of((), str(path), letters)
    assert words.listed == {"cafe", "abc"}
    assert words.has("abc")
    assert not words.has("two")


@pytest.mark.parametrize("content", [b"", b"two words\n", b"\xff\xfe\x00"])
def test_a_list_without_words_is_refused(content: bytes, tmp_path: Path, letters: WordPiece) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="word_list"):
        PreferredWords.of((), str(path), letters)
    with pytest.raises(DataError, match="word_list"):
        PreferredWords.of((), str(tmp_path / "none.txt"), letters)


def test_a_pattern_that_is_none_is_refused(letters: WordPiece) -> None:
    with pytest.raises(ConfigError, match=r"masking.patterns: got '\('"):
        PreferredWords.of(("(",), None, letters)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", r"(\w+\s?)*x", "(un|u|n)*d", "(.*.*)*q", "([a-z]+)*[0-9]"])
def test_a_pattern_that_would_never_end_is_refused(pattern: str, letters: WordPiece) -> None:
    with pytest.raises(ConfigError, match=r"masking.patterns: got .* grows without bounds .* expected"):
        PreferredWords.of((pattern,), None, letters)


@pytest.mark.parametrize(
    ("pattern", "preferred"),
    [
        (".*ing|.*ed", ["seeing", "used"]),
        (r"(?:\w+-)*\w+", ["seeing", "used", "12", "abba", "x2999"]),
        ("[0-9]+", ["12"]),
        ("(a|b)+", ["abba"]),
        ("|".join(f"x{i}" for i in range(3000)), ["x2999"]),
    ],
)
def test_a_pattern_with_one_way_to_match_is_not(pattern: str, preferred: list[str], letters: WordPiece) -> None:
    words = PreferredWords.of((pattern,), None, letters)
    assert [word for word in ("seeing", "used", "12", "abba", "x2999", "x-") if words.has(word)] == preferred


def test_a_kind_that_needs_facts_asks_for_them(ids: np.ndarray, pieces: Pieces, facts: dict[str, MaskingFacts]) -> None:
    for kind in facts:
        for given in (NO_FACTS, *(facts[other] for other in facts if other != kind)):
            with pytest.raises(InvalidInputError, match="facts_for"):
                mask_rows(ids, pieces, MaskingConfig(kind=kind, patterns=PATTERNS), STREAM, facts=given)


def test_each_pattern_has_flags_and_groups_of_its_own(letters: WordPiece) -> None:
    words = PreferredWords.of((r"(?i)ABC", r"(?P<x>d)(?P=x)", r"(?P<x>e)(.)\2"), None, letters)
    assert [word for word in ("abc", "dd", "ezz", "ABD", "ee", "ezy") if words.has(word)] == ["abc", "dd", "ezz"]
