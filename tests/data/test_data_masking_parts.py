"""Which part of masking is wrong: what is chosen, what is put in its place, or what is asked? Each has its own test."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.config.schema import MaskingConfig
from mini_bert.data.masking import MaskedRows, Pieces, mask_rows
from mini_bert.random_streams import RandomStream
from mini_bert.text.wordpiece import WordPiece

ROWS, T = 1000, 32
STREAM = RandomStream(seed=1, name="masking", step=4)


@pytest.fixture(scope="module")
def pieces(letters: WordPiece) -> Pieces:
    return Pieces.of(letters)


@pytest.fixture(scope="module")
def ids(pieces: Pieces) -> np.ndarray:
    """Rows of 3 to 32 ids: [CLS], ordinary pieces, [SEP], padding."""
    rng = np.random.default_rng(0)
    ids = rng.choice(pieces.ordinary_ids, (ROWS, T)).astype(np.int32)
    lengths = rng.integers(3, T + 1, ROWS)
    ids[np.arange(T) >= lengths[:, None]] = pieces.pad_id
    ids[:, 0] = 2
    ids[np.arange(ROWS), lengths - 1] = 3
    return ids


@pytest.fixture(scope="module")
def masked(ids: np.ndarray, pieces: Pieces) -> MaskedRows:
    return mask_rows(ids, pieces, MaskingConfig(), STREAM)


def test_specials_are_never_chosen(ids: np.ndarray, pieces: Pieces, masked: MaskedRows) -> None:
    chosen = ids.ravel()[masked.masked_positions]
    assert not pieces.special[chosen].any(), f"special ids {sorted(set(chosen[pieces.special[chosen]].tolist()))}"


def test_rate_is_of_ordinary_tokens_without_padding(ids: np.ndarray, pieces: Pieces, masked: MaskedRows) -> None:
    """15 % of them, rounded up or down, and never none."""
    ordinary = (~pieces.special[ids]).sum(axis=1)
    chosen = np.bincount(masked.masked_positions // T, minlength=ROWS)
    assert (chosen >= np.maximum(1, np.floor(0.15 * ordinary))).all()
    assert (chosen <= np.maximum(1, np.ceil(0.15 * ordinary))).all()


@pytest.mark.parametrize(
    ("fate", "share"), [("hidden behind [MASK]", 0.8), ("replaced at random", 0.1), ("left as it is", 0.1)]
)
def test_share_of_the_chosen(ids: np.ndarray, pieces: Pieces, masked: MaskedRows, fate: str, share: float) -> None:
    shown, was = masked.input_ids.ravel()[masked.masked_positions], ids.ravel()[masked.masked_positions]
    hidden, left = shown == pieces.mask_id, shown == was
    found = {"hidden behind [MASK]": hidden, "replaced at random": ~hidden & ~left, "left as it is": left}[fate]
    assert found.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / len(was)) + 0.1 / 70)


def test_random_replacements_are_ordinary_pieces(pieces: Pieces, masked: MaskedRows) -> None:
    shown = masked.input_ids.ravel()[masked.masked_positions]
    drawn = set(shown[shown != pieces.mask_id].tolist())
    assert drawn <= set(pieces.ordinary_ids.tolist())
    assert len(drawn) == len(pieces.ordinary_ids), "all of them, sooner or later"


def test_targets_are_the_originals_at_their_own_places(ids: np.ndarray, masked: MaskedRows) -> None:
    np.testing.assert_array_equal(masked.target_ids, ids.ravel()[masked.masked_positions])


def test_only_masked_tokens_are_targets(ids: np.ndarray, masked: MaskedRows) -> None:
    """What is asked for is hidden, but for the tenth that is left and the seventieth of a tenth that is drawn again."""
    visible = masked.input_ids.ravel()[masked.masked_positions] == ids.ravel()[masked.masked_positions]
    assert visible.mean() < 0.15


def test_whole_words_stay_whole(pieces: Pieces, letters: WordPiece) -> None:
    ids = np.array([[2, *letters.encode_ids("abc defg hi jklm nop qrs tuvw xy"), 3]] * 200, np.int32)
    masked = mask_rows(ids, pieces, MaskingConfig(rate=0.3, kind="whole_word"), STREAM)
    chosen = np.zeros(ids.shape, bool)
    chosen.flat[masked.masked_positions] = True
    goes_on = pieces.continuation[ids]
    np.testing.assert_array_equal(chosen[:, 1:][goes_on[:, 1:]], chosen[:, :-1][goes_on[:, 1:]])
