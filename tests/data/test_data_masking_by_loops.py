"""Masking beside a transcription of its rule, one token at a time, and at the very edges of its arguments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from mini_bert.config.schema import MaskingConfig
from mini_bert.data.masking import IGNORED, Pieces, mask_rows, mask_tokens
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream
from mini_bert.text.wordpiece import WordPiece

STREAM = RandomStream(seed=9, name="masking", step=2)


def words_of(row: list[int], pieces: Pieces) -> list[list[int]]:
    """Columns of each word: a ## piece goes on with the ordinary piece before it."""
    words: list[list[int]] = []
    for column, piece in enumerate(row):
        if pieces.special[piece]:
            continue
        if words and words[-1][-1] == column - 1 and pieces.continuation[piece]:
            words[-1].append(column)
        else:
            words.append([column])
    return words


def chosen_columns(
    row: list[int], pieces: Pieces, masking: MaskingConfig, keys: list[int], rounding: float
) -> set[int]:
    words = words_of(row, pieces)
    tokens = sum(map(len, words))
    wanted = min(tokens, max(1, math.floor(masking.rate * tokens + rounding)))
    if masking.kind == "token":
        words = [[column] for word in words for column in word]
    words.sort(key=lambda word: keys[word[0]])
    chosen: set[int] = set()
    for word in words:
        if len(chosen) + len(word) <= wanted:
            chosen |= set(word)
    return chosen or set(words[0] if words else [])


def by_loops(
    ids: np.ndarray, pieces: Pieces, masking: MaskingConfig, first_row: int
) -> tuple[Any, list[int], list[int]]:
    shown, positions, targets = ids.astype(np.int32), [], []
    columns = ids.shape[1]
    for b, row in enumerate(ids.tolist()):
        keys = STREAM.at("choice").row_words(first_row + b, 1, columns)[0].tolist()
        fates = STREAM.at("fate").row_words(first_row + b, 1, columns)[0].tolist()
        rounding = float(STREAM.at("count").uniform(1, first_row=first_row + b)[0, 0])
        for t in sorted(chosen_columns(row, pieces, masking, keys, rounding)):
            share, draw = divmod(fates[t], 2**32)
            positions.append(b * columns + t)
            targets.append(row[t])
            if share < masking.mask_share * 2**32:
                shown[b, t] = pieces.mask_id
            elif share < (masking.mask_share + masking.random_share) * 2**32:
                shown[b, t] = pieces.ordinary_ids[draw * len(pieces.ordinary_ids) // 2**32]
    return shown, positions, targets


@pytest.fixture(scope="module")
def pieces(letters: WordPiece) -> Pieces:
    return Pieces.of(letters)


@pytest.mark.parametrize("kind", ["token", "whole_word"])
@pytest.mark.parametrize("rate", [0.02, 0.15, 0.4, 0.85])
@pytest.mark.parametrize("specials", [0.1, 0.5, 0.9])
def test_every_row_is_masked_as_the_loops_do(pieces: Pieces, specials: float, rate: float, kind: str) -> None:
    draw = np.random.default_rng(int(100 * specials))
    ids = draw.integers(5, len(pieces.special), (60, 25))
    ids = np.where(draw.random(ids.shape) < specials, draw.integers(0, 5, ids.shape), ids)
    masking = MaskingConfig(rate=rate, mask_share=0.6, random_share=0.3, kind=kind)
    shown, positions, targets = by_loops(ids, pieces, masking, first_row=7)
    masked = mask_rows(ids, pieces, masking, STREAM, first_row=7)
    assert masked.masked_positions.tolist() == positions
    assert masked.target_ids.tolist() == targets
    np.testing.assert_array_equal(masked.input_ids, shown)


def test_where_no_word_fits_the_first_drawn_is_taken(pieces: Pieces) -> None:
    starts, goes_on = np.flatnonzero(~pieces.continuation & ~pieces.special), np.flatnonzero(pieces.continuation)
    ids = np.full((40, 24), 0)
    for b in range(40):
        for word in range(1 + b % 5):
            ids[b, 1 + 4 * word : 4 + 4 * word] = [starts[word], *goes_on[: 1 + word % 2], 0][:3]
    masking = MaskingConfig(rate=0.01, kind="whole_word")
    shown, positions, _ = by_loops(ids, pieces, masking, first_row=0)
    masked = mask_rows(ids, pieces, masking, STREAM)
    assert masked.masked_positions.tolist() == positions
    np.testing.assert_array_equal(masked.input_ids, shown)
    assert set(np.bincount(masked.masked_positions // 24)) == {2, 3}


def test_the_facts_of_a_vocabulary(pieces: Pieces, letters: WordPiece) -> None:
    assert (pieces.mask_id, pieces.pad_id) == (4, 0)
    assert np.flatnonzero(pieces.special).tolist() == [0, 1, 2, 3, 4]
    assert pieces.ordinary_ids.tolist() == list(range(5, letters.vocab_size))
    assert pieces.ordinary_ids.dtype == np.int32
    assert [letters.token(int(i))[:2] == "##" for i in range(letters.vocab_size)] == pieces.continuation.tolist()


@pytest.mark.parametrize("kind", ["token", "whole_word"])
@pytest.mark.parametrize("ids", [np.zeros((3, 6), int), np.zeros((0, 6), int), np.zeros((3, 0), int)])
def test_where_no_token_is_ordinary_none_is_hidden(pieces: Pieces, ids: np.ndarray, kind: str) -> None:
    masked = mask_rows(ids, pieces, MaskingConfig(kind=kind), STREAM)
    np.testing.assert_array_equal(masked.input_ids, ids)
    assert masked.masked_positions.size == masked.target_ids.size == 0


class Drawn(NamedTuple):
    """A stream that says what it is told to: every token is chosen, and its fate is given."""

    fates: list[int]

    def at(self, site: str) -> Any:
        return self if site == "fate" else STREAM.at(site)

    def row_words(self, first_row: int, rows: int, columns: int) -> np.ndarray:
        return np.array(self.fates, np.uint64).reshape(rows, columns)


def test_the_shares_end_where_they_end() -> None:
    """A draw of exactly 0.5 is no longer among the half that becomes [MASK]; one of 0.75 stays as it is."""
    pieces = Pieces(4, 0, np.arange(8) < 5, np.array([5, 6, 7], np.int32), np.zeros(8, bool))
    draws = [0, 2**31 - 1, 2**31, 3 * 2**30 - 1, 3 * 2**30, 2**32 - 1]
    masking = MaskingConfig(rate=0.999, mask_share=0.5, random_share=0.25)
    stream: Any = Drawn([draw << 32 for draw in draws])
    masked = mask_rows(np.full((1, 6), 7), pieces, masking, stream)
    assert masked.input_ids.tolist() == [[4, 4, 5, 5, 7, 7]]


def test_a_random_piece_is_drawn_from_all_32_bits() -> None:
    pieces = Pieces(4, 0, np.arange(8) < 5, np.array([5, 6, 7], np.int32), np.zeros(8, bool))
    thirds = [0, 1_431_655_765, 1_431_655_766, 2_863_311_530, 2_863_311_531, 2**32 - 1]
    stream: Any = Drawn(thirds)
    masked = mask_rows(np.full((1, 6), 6), pieces, MaskingConfig(rate=0.999, mask_share=0, random_share=1), stream)
    assert masked.input_ids.tolist() == [[5, 5, 6, 6, 7, 7]]


class TestMaskTokens:
    @pytest.mark.parametrize("mask_id", [4, 20])
    def test_is_mask_rows_with_a_stream_of_its_own(self, mask_id: int) -> None:
        batch = np.random.default_rng(3).integers(0, 40, (30, 50))
        special = np.isin(np.arange(40), [0, 1, 2, 3, 4, mask_id])
        pieces = Pieces(mask_id, 0, special, np.flatnonzero(~special).astype(np.int32), np.zeros(40, bool))
        expected = mask_rows(batch, pieces, MaskingConfig(rate=0.15), RandomStream(6, "mask_tokens"))
        input_ids, target_ids, mask_pos = mask_tokens(batch, 40, mask_id, seed=6)
        np.testing.assert_array_equal(input_ids, expected.input_ids)
        np.testing.assert_array_equal(np.flatnonzero(mask_pos), expected.masked_positions)
        np.testing.assert_array_equal(target_ids[mask_pos], expected.target_ids)
        assert set(target_ids[~mask_pos].tolist()) == {IGNORED}

    @pytest.mark.parametrize("numpys_seed", range(8))
    def test_without_a_seed_numpy_draws_one_of_31_bits(self, numpys_seed: int) -> None:
        batch = np.full((3, 40), 9)
        np.random.seed(numpys_seed)
        unseeded = mask_tokens(batch, 20, 4)[0]
        np.random.seed(numpys_seed)
        np.testing.assert_array_equal(unseeded, mask_tokens(batch, 20, 4, seed=int(np.random.randint(0, 2**31)))[0])

    @pytest.mark.parametrize(
        ("batch", "vocab_size", "mask_id"), [([[0, 5]], 6, 4), ([[5, 5]], 6, 0), ([[5, 6]], 7, 6), ([[6, 6]], 7, 1)]
    )
    def test_the_smallest_arguments_that_are_right(self, batch: list[list[int]], vocab_size: int, mask_id: int) -> None:
        mask_pos = mask_tokens(batch, vocab_size, mask_id, 0.5, seed=0)[2]
        assert mask_pos.sum() == 1

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (([[0, 1]], 5, 4), "vocab_size"),
            (([[5, 6]], -6, 4), "vocab_size"),
            (([[5, 6]], 7, -1), "mask_id"),
            (([[5, 6]], 2**31 + 1, 4), "vocab_size"),
            (([[5, 6]], 2**31, 4, 0.0), "mask_prob"),  # so large a vocabulary is right, and what is wrong comes next
            (([[5, 6]], 7, 4, 1.0), "mask_prob"),
            (([[5, 6]], 7, 4, 1), "mask_prob"),
        ],
    )
    def test_the_first_arguments_that_are_wrong(self, arguments: tuple[Any, ...], named: str) -> None:
        with pytest.raises(InvalidInputError) as error:
            mask_tokens(*arguments, seed=0)
        assert named in error.value.argument
