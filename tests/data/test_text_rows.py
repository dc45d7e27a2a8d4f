"""Are texts batched so that each is read once, with nothing of its neighbours?"""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.data.text_rows import TextRow, padded_batches
from mini_bert.errors import InvalidInputError

ROWS = [TextRow([2, 5, 3]), TextRow([2, 6, 7, 5, 3], [0, 0, 0, 1, 1]), TextRow([2, 3]), TextRow([2, 7, 3])]


def test_every_row_comes_once_as_it_was() -> None:
    seen = {}
    for numbers, batch in padded_batches(ROWS, 0, tokens=6):
        assert batch.input_ids.size <= 6
        for number, ids in zip(numbers.tolist(), batch.input_ids, strict=True):
            length = len(ROWS[number].ids)
            assert ids.tolist() == [*ROWS[number].ids, *[0] * (len(ids) - length)]
            assert number not in seen
            seen[number] = batch
    assert sorted(seen) == [0, 1, 2, 3]
    assert seen[1].token_type_ids.tolist() == [[0, 0, 0, 1, 1]]
    assert seen[0] is seen[2]
    assert seen[0].attention_mask.tolist() == [[True, True, False], [True, True, True]]
    assert seen[3].attention_mask is None
    assert seen[0].token_type_ids is None


def test_neighbours_change_nothing_beyond_rounding() -> None:
    model = small_bert()
    alone = {n: b for numbers, b in padded_batches(ROWS, 0, tokens=1) for n in numbers.tolist()}
    for numbers, batch in padded_batches(ROWS, 0):
        assert len(numbers) == 4
        together, _ = model.encode(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        for row, number in enumerate(numbers.tolist()):
            one = alone[number]
            hidden, _ = model.encode(one.input_ids, one.attention_mask, one.token_type_ids)
            np.testing.assert_allclose(together[row, : hidden.shape[1]], hidden[0], atol=1e-12)


def test_what_is_no_row_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no ids in row 1"):
        list(padded_batches([TextRow([2]), TextRow([])], 0))
    with pytest.raises(InvalidInputError, match="1 segments for 2 ids"):
        list(padded_batches([TextRow([2, 3], [0])], 0))
    assert list(padded_batches([], 0)) == []
