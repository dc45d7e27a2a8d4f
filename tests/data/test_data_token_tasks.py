"""Shuffled and replaced tokens: as many as they should be, from where they should come, by loops and by counting."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.data.token_tasks import replace_tokens, shuffle_tokens
from mini_bert.random_streams import RandomStream

V, B, T = 50, 200, 40
STREAM = RandomStream(3, "tasks", 5)


def rows_of(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids of which the lower are frequent, and free places: all but the ends, and some in between."""
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.geometric(0.08, (B, T)) + 4, V - 1).astype(np.int32)
    free = rng.random((B, T)) < 0.8
    free[:, 0] = free[:, -1] = False
    return ids, free


def test_chosen_tokens_trade_places_along_one_cycle() -> None:
    _, free = rows_of()
    ids = np.tile(np.arange(T, dtype=np.int32), (B, 1))  # each token knows where it came from
    shuffled = shuffle_tokens(ids, free, 0.3, STREAM)
    np.testing.assert_array_equal(shuffled.ids != ids, shuffled.chosen)
    assert not (shuffled.chosen & ~free).any()
    for row, chosen in zip(shuffled.ids, shuffled.chosen, strict=True):
        assert sorted(row.tolist()) == list(range(T))
        places = np.flatnonzero(chosen)
        place, steps = int(row[places[0]]), 1
        while place != places[0]:
            place, steps = int(row[place]), steps + 1
        assert steps == places.size


@pytest.mark.parametrize("share", [0.1, 0.37])
def test_the_share_that_is_shuffled_is_right_on_average(share: float) -> None:
    ids, free = rows_of()
    counts = np.concatenate(
        [shuffle_tokens(ids, free, share, RandomStream(3, "tasks", step)).chosen.sum(axis=1) for step in range(20)]
    )
    wanted = np.tile(share * free.sum(axis=1), 20)
    assert (np.abs(counts - wanted) < 1).all()
    assert abs((counts - wanted).mean()) < 4 * 0.5 / np.sqrt(counts.size)


def test_every_free_place_is_as_likely_and_every_other_as_likely_its_source() -> None:
    ids, free = np.tile(np.arange(8, dtype=np.int32), (6000, 1)), np.ones((6000, 8), bool)
    shuffled = shuffle_tokens(ids, free, 0.5, STREAM)
    chosen = shuffled.chosen.mean(axis=0)
    assert (np.abs(chosen - 0.5) < 4 * 0.5 / np.sqrt(6000)).all()
    sources = np.bincount(shuffled.ids[shuffled.chosen[:, 0], 0], minlength=8)[1:]
    expected = sources.sum() / 7
    assert (((sources - expected) ** 2) / expected).sum() < 26  # chi-square, 6 degrees of freedom, 2 in 10,000


def test_a_place_with_the_same_piece_again_is_not_changed() -> None:
    ids, free = rows_of()
    shuffled = shuffle_tokens(ids, free, 0.3, STREAM)
    np.testing.assert_array_equal(shuffled.differs, shuffled.ids != ids)
    assert 0 < (shuffled.chosen & ~shuffled.differs).sum() < 0.2 * shuffled.chosen.sum()
    np.testing.assert_array_equal(np.sort(shuffled.ids, axis=1), np.sort(ids, axis=1))


def test_one_free_token_cannot_trade_and_two_always_do() -> None:
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    free = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    shuffled = shuffle_tokens(ids, free, 0.01, STREAM)
    np.testing.assert_array_equal(shuffled.ids, [[0, 1, 2, 3], [4, 6, 5, 7], [8, 9, 10, 11]])


def test_replacements_have_the_pieces_frequencies() -> None:
    ids, free = rows_of()
    counts = np.zeros(V, np.int64)
    counts[5:] = np.arange(V - 5, 0, -1) ** 2
    found = np.zeros(V)
    for step in range(60):
        replaced = replace_tokens(ids, free, counts, RandomStream(3, "tasks", step))
        found += np.bincount(replaced.ids[replaced.chosen], minlength=V)
        np.testing.assert_array_equal(replaced.differs, replaced.ids != ids)
        assert not (replaced.differs & ~replaced.chosen).any()
        assert not (replaced.chosen & ~free).any()
    assert not found[:5].any()
    expected = counts / counts.sum() * found.sum()
    often = expected > 5
    statistic = ((found[often] - expected[often]) ** 2 / expected[often]).sum()
    assert statistic < often.sum() + 5 * np.sqrt(2 * often.sum())


def test_fifteen_of_a_hundred_are_replaced() -> None:
    ids, free = rows_of()
    chosen = replace_tokens(ids, free, np.ones(V, np.int64), STREAM).chosen.sum(axis=1)
    wanted = 0.15 * free.sum(axis=1)
    assert (np.abs(chosen - wanted) < 1).all()
    alone = np.zeros((1, 4), bool)
    alone[0, 2] = True
    assert replace_tokens(ids[:1, :4], alone, np.ones(V, np.int64), STREAM).chosen.sum() == 1


def test_each_row_is_a_function_of_its_number() -> None:
    ids, free = rows_of()
    counts = np.ones(V, np.int64)
    whole = shuffle_tokens(ids, free, 0.2, STREAM), replace_tokens(ids, free, counts, STREAM)
    part = slice(30, 70)
    parts = (
        shuffle_tokens(ids[part], free[part], 0.2, STREAM, 30),
        replace_tokens(ids[part], free[part], counts, STREAM, 30),
    )
    for together, apart in zip(whole, parts, strict=True):
        for one, other in zip(together, apart, strict=True):
            np.testing.assert_array_equal(one[part], other)
    again = shuffle_tokens(ids, free, 0.2, STREAM._replace(step=6))
    assert (again.chosen != whole[0].chosen).any()
    assert ids.max() < V, "the rows that were given are as they were"
