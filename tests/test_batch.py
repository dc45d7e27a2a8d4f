from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.batch import Batch, Question

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
ROWS, TOKENS = 6, 4


def batch_of(masked: list[int], full: bool = True) -> Batch:
    ids = np.arange(ROWS * TOKENS, dtype=np.int32).reshape(ROWS, TOKENS)
    positions = np.array(masked, np.int64)
    targets = 100 + positions.astype(np.int32)
    return Batch(ids, ids % 3 > 0 if full else None, ids % 2 if full else None, positions, targets, first_row=10)


@quick
@given(st.sets(st.integers(0, ROWS * TOKENS - 1)), st.lists(st.integers(0, ROWS), max_size=3), st.booleans())
def test_parts_make_up_the_whole(masked: set[int], cuts: list[int], full: bool) -> None:
    whole = batch_of(sorted(masked), full)
    bounds = [0, *sorted(cuts), ROWS]
    parts = [whole.rows(start, stop) for start, stop in itertools.pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate([part.input_ids for part in parts]), whole.input_ids)
    for start, part in zip(bounds[:-1], parts, strict=True):
        assert part.first_row == 10 + start
        assert (part.attention_mask is None) == (not full)
        assert (part.token_type_ids is None) == (not full)
        # The token at a masked position is the token that stood there in the whole, and so is its target.
        asked = part.input_ids.ravel()[part.masked_positions]
        np.testing.assert_array_equal(part.target_ids, 100 + asked)
    asked = [part.input_ids.ravel()[part.masked_positions] for part in parts]
    assert np.concatenate(asked).tolist() == sorted(masked)


def test_rows_of_rows_count_from_the_global_batch() -> None:
    part = batch_of([1, 9, 13, 22]).rows(1, 5).rows(1, 3)
    assert part.first_row == 12
    assert part.input_ids.tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert part.masked_positions is not None
    assert part.target_ids is not None
    assert part.masked_positions.tolist() == [1, 5]
    assert part.target_ids.tolist() == [109, 113]
    assert part.attention_mask is not None
    assert part.attention_mask.tolist() == [[True, False, True, True], [False, True, True, False]]


def test_a_batch_without_questions_has_none_in_its_parts() -> None:
    part = Batch(np.zeros((3, 2), np.int32)).rows(1, 2)
    assert part == (part.input_ids, None, None, None, None, 1, (), None)
    asked = Batch(np.zeros((3, 2), np.int32), masked_positions=np.array([0, 2])).rows(1, 2)
    assert asked.masked_positions is not None
    assert asked.masked_positions.tolist() == [0]
    assert asked.target_ids is None


def test_questions_and_draws_are_cut_between_rows() -> None:
    words = Question("token_order", np.array([0, 3, 5]), np.array([0, 1, 1]), 2.0, 3)
    batch = Batch(
        np.zeros((3, 2), np.int32),
        masked_positions=np.array([1, 2, 4]),
        questions=(words,),
        draws=np.array([0.1, 0.2, 0.3]),
    )
    (part,) = batch.rows(1, 3).questions
    assert (part.positions.tolist(), part.labels.tolist(), part.weight, part.items) == ([1, 3], [1, 1], 2.0, 3)
    assert batch.rows(1, 3).draws.tolist() == [0.2, 0.3]
    assert batch.rows(0, 1).questions[0].positions.tolist() == [0]
