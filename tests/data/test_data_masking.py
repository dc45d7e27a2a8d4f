"""Masking: shares, what is never touched, and that a row's masks are its own."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import mini_bert
from mini_bert.config.schema import MaskingConfig
from mini_bert.data.masking import Pieces, mask_rows, mask_tokens
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream
from mini_bert.text.wordpiece import WordPiece

STREAM = RandomStream(seed=3, name="masking", step=11)


@pytest.fixture(scope="module")
def pieces(letters: WordPiece) -> Pieces:
    return Pieces.of(letters)


def packed(rows: int, columns: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(5, vocab_size, (rows, columns)).astype(np.int32)
    ids[:, 0], ids[:, -1] = 2, 3
    return ids


def test_shares_are_15_and_80_10_10(pieces: Pieces) -> None:
    ids = packed(2000, 64, len(pieces.special))
    corrupted, positions, targets = mask_rows(ids, pieces, MaskingConfig(), STREAM)
    per_row = np.bincount(positions // 64, minlength=2000)
    assert set(per_row) == {9, 10}, "0.15 times 62 is 9.3"
    assert abs(per_row.mean() / 62 - 0.15) < 5 * 0.46 / np.sqrt(2000) / 62
    shown = corrupted.ravel()[positions]
    n = len(positions)
    became_mask, stayed = shown == pieces.mask_id, shown == targets
    ordinary = len(pieces.ordinary_ids)
    assert abs(became_mask.mean() - 0.8) < 5 * np.sqrt(0.8 * 0.2 / n)
    assert abs(stayed.mean() - (0.1 + 0.1 / ordinary)) < 5 * np.sqrt(0.1 * 0.9 / n)
    others = shown[~became_mask & ~stayed]
    assert not pieces.special[others].any()
    counts = np.bincount(others, minlength=len(pieces.special))[pieces.ordinary_ids]
    expected = len(others) / ordinary
    assert ((counts - expected) ** 2 / expected).sum() < ordinary - 1 + 5 * np.sqrt(2 * ordinary)
    by_column = np.bincount(positions % 64, minlength=64)[1:-1]
    expected = n / 62
    assert ((by_column - expected) ** 2 / expected).sum() < 61 + 5 * np.sqrt(122)


def test_only_the_chosen_change_and_targets_are_the_originals(pieces: Pieces) -> None:
    ids = packed(50, 32, len(pieces.special))
    before = ids.copy()
    corrupted, positions, targets = mask_rows(ids, pieces, MaskingConfig(), STREAM)
    np.testing.assert_array_equal(ids, before)
    assert (np.diff(positions) > 0).all()
    assert positions.dtype == np.int64
    assert targets.dtype == corrupted.dtype == np.int32
    np.testing.assert_array_equal(targets, ids.ravel()[positions])
    restored = corrupted.copy()
    restored.ravel()[positions] = targets
    np.testing.assert_array_equal(restored, ids)


@pytest.mark.parametrize("kind", ["token", "whole_word"])
def test_specials_are_never_masked(pieces: Pieces, kind: str) -> None:
    draw = np.random.default_rng(0)
    ids = draw.integers(0, len(pieces.special), (300, 20)).astype(np.int32)
    ids[draw.random(ids.shape) < 0.5] = draw.integers(0, 5)
    ids[7] = 0
    masking = MaskingConfig(rate=0.9, kind=kind)
    corrupted, positions, targets = mask_rows(ids, pieces, masking, STREAM)
    assert not pieces.special[targets].any()
    assert 7 not in positions // 20, "a row of padding has nothing to predict"
    shown = corrupted.ravel()[positions]
    assert not pieces.special[shown[shown != pieces.mask_id]].any()


def test_a_row_of_one_token_has_one_masked(pieces: Pieces) -> None:
    positions = mask_rows(np.array([[2, 9, 3, 0]]), pieces, MaskingConfig(rate=0.01), STREAM).masked_positions
    assert positions.tolist() == [1]


@pytest.mark.parametrize("kind", ["token", "whole_word"])
def test_a_row_does_not_know_the_rows_beside_it(pieces: Pieces, kind: str) -> None:
    ids = packed(12, 32, len(pieces.special))
    masking = MaskingConfig(kind=kind)
    corrupted, positions, targets = mask_rows(ids, pieces, masking, STREAM)
    for start, stop in [(0, 12), (3, 4), (4, 12), (0, 5)]:
        part = mask_rows(ids[start:stop], pieces, masking, STREAM, first_row=start)
        np.testing.assert_array_equal(part.input_ids, corrupted[start:stop])
        mine = (positions >= start * 32) & (positions < stop * 32)
        np.testing.assert_array_equal(part.masked_positions, positions[mine] - start * 32)
        np.testing.assert_array_equal(part.target_ids, targets[mine])


def test_memory_order_does_not_matter(pieces: Pieces) -> None:
    ids = packed(12, 32, len(pieces.special))
    expected = mask_rows(ids, pieces, MaskingConfig(), STREAM)
    for other in (np.asfortranarray(ids), ids.astype(np.uint16), ids[:, ::-1].copy()[:, ::-1]):
        for found, wanted in zip(mask_rows(other, pieces, MaskingConfig(), STREAM), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_every_step_and_seed_masks_anew(pieces: Pieces) -> None:
    ids = packed(8, 64, len(pieces.special))
    streams = [STREAM, STREAM._replace(step=12), STREAM._replace(seed=4)]
    masks = [mask_rows(ids, pieces, MaskingConfig(), stream).masked_positions for stream in streams]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert len(np.intersect1d(masks[first], masks[second])) < 40


GOLDEN_POSITIONS = [6, 7, 11, 13, 35, 42, 43, 45, 52, 69]
GOLDEN_SHA256 = "43ebc396796bc4e223c4a8a30d8351ffa89e8705e2add261e3cba3d2434899a2"


def test_golden_masks_hold_for_ever(pieces: Pieces) -> None:
    ids = (np.arange(64 * 64) * 7919 % len(pieces.special)).reshape(64, 64)
    masked = mask_rows(ids, pieces, MaskingConfig(), STREAM)
    assert masked.masked_positions[:10].tolist() == GOLDEN_POSITIONS
    assert hashlib.sha256(masked.input_ids.astype("<i4").tobytes()).hexdigest() == GOLDEN_SHA256


def slow_words(row: np.ndarray, letters: WordPiece) -> list[list[int]]:
    words: list[list[int]] = []
    for column, id in enumerate(row.tolist()):
        if id in letters.special_ids:
            continue
        goes_on = letters.vocabulary[id].startswith("##") and column and row[column - 1] not in letters.special_ids
        if goes_on:
            words[-1].append(column)
        else:
            words.append([column])
    return words


def test_whole_words_are_masked_together(pieces: Pieces, letters: WordPiece) -> None:
    text = "the quick brown fox jumps over a lazy dog and then it was as it ever is so go on"
    row = [letters.cls_id, *letters.encode_ids(text)[:60], letters.sep_id, letters.pad_id]
    ids = np.array([row] * 400, np.int32)
    positions = mask_rows(ids, pieces, MaskingConfig(kind="whole_word"), STREAM).masked_positions
    words = slow_words(ids[0], letters)
    assert max(map(len, words)) == 5
    chosen_words = np.zeros(len(words))
    limit = int(np.ceil(0.15 * sum(map(len, words))))
    for number in range(400):
        columns = set((positions[positions // len(row) == number] % len(row)).tolist())
        assert 0 < len(columns) <= limit
        for word, where in enumerate(words):
            assert columns.issuperset(where) or columns.isdisjoint(where)
            chosen_words[word] += columns.issuperset(where)
    assert chosen_words.min() > 20, "every word has its turn"


def test_a_word_longer_than_the_share_is_masked_if_there_is_no_other(pieces: Pieces, letters: WordPiece) -> None:
    row = np.array([[2, *letters.encode_ids("abcdefgh"), 3]])
    masked = mask_rows(row, pieces, MaskingConfig(kind="whole_word"), STREAM)
    assert masked.masked_positions.tolist() == list(range(1, 9))


class TestMaskTokens:
    def test_dense_form(self) -> None:
        batch = np.random.default_rng(0).integers(0, 8192, (16, 64))
        input_ids, target_ids, mask_pos = mini_bert.mask_tokens(batch, 8192, 4, 0.15, seed=1)
        assert mask_pos.dtype == bool
        assert mask_pos.shape == input_ids.shape == target_ids.shape == (16, 64)
        np.testing.assert_array_equal(target_ids[mask_pos], batch[mask_pos])
        assert (target_ids[~mask_pos] == -100).all()
        np.testing.assert_array_equal(input_ids[~mask_pos], batch[~mask_pos])
        assert (batch[mask_pos] >= 5).all()
        assert 0.13 < mask_pos.mean() < 0.17
        assert (input_ids[mask_pos] == 4).mean() > 0.7

    def test_a_seed_makes_it_pure_and_none_asks_numpys_global_state(self) -> None:
        batch = np.random.default_rng(0).integers(5, 100, (4, 32))
        pure = [mask_tokens(batch, 100, 4, seed=7) for _ in range(2)]
        np.random.seed(0)
        first, second = mask_tokens(batch, 100, 4), mask_tokens(batch, 100, 4)
        np.random.seed(0)
        again = mask_tokens(batch, 100, 4)
        np.testing.assert_array_equal(pure[0][0], pure[1][0])
        np.testing.assert_array_equal(first[0], again[0])
        assert (first[2] != second[2]).any()

    def test_another_mask_id_is_special_too(self) -> None:
        batch = np.full((4, 50), 103)
        batch[:, ::2] = 50
        input_ids, _, mask_pos = mask_tokens(batch, 200, mask_id=103, mask_prob=0.5, seed=0)
        assert not mask_pos[:, 1::2].any()
        assert (input_ids[mask_pos] == 103).any()

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (([[5, 100]], 100, 4), "batch"),
            (([[-1, 7]], 100, 4), "batch"),
            (([5, 6], 100, 4), "batch"),
            (([[5.0, 6.0]], 100, 4), "batch"),
            (([[5, 6]], 100, 100), "mask_id"),
            (([[5, 6]], 100, 4, 0.0), "mask_prob"),
            (([[5, 6]], 100, 4, 1.5), "mask_prob"),
            (([[5, 6]], 100, 4, "often"), "mask_prob"),
            (([[5], [6, 7]], 100, 4), "unequal lengths"),
            (([[5, 6]], 100, 4.5), "mask_id"),
            (([[5, 6]], "many", 4), "vocab_size"),
            (([[5, 6]], 2**41, 4), "vocab_size"),
        ],
    )
    def test_bad_input_is_refused(self, arguments: tuple, named: str) -> None:
        with pytest.raises(InvalidInputError, match=named):
            mask_tokens(*arguments, seed=0)
