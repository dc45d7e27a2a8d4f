"""Rows: every token of a long enough document stands in one, whole and in order."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.data.packing import PackedRows, SentenceRows


@pytest.mark.parametrize("body", [1, 3, 7, 30])
def test_packed_rows_against_the_slow_definition(body: int) -> None:
    draw = np.random.default_rng(body)
    lengths = draw.integers(0, 40, 60)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rows = PackedRows(starts, lengths, body)
    expected = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        if length < body:
            continue
        at = 0
        while at + body < length:
            expected.append(start + at)
            at += body
        expected.append(start + length - body)
    assert rows.count == len(expected)
    assert rows.dropped_documents == np.count_nonzero(lengths < body)
    assert rows.dropped_tokens == lengths[lengths < body].sum()
    order = draw.permutation(rows.count)
    found = rows.places(order)
    np.testing.assert_array_equal(found.starts, np.array(expected)[order])
    assert (found.lengths == body).all()


def test_a_sentence_is_cut_at_the_row() -> None:
    rows = SentenceRows(np.array([0, 4, 30]), np.array([4, 26, 5]), body=10)
    found = rows.places(np.array([2, 1, 0]))
    assert found.starts.tolist() == [30, 4, 0]
    assert found.lengths.tolist() == [5, 10, 4]
