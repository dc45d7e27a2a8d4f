"""Rows: every token of a long enough document stands in one, whole and in order."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.data import packing
from mini_bert.data.packing import PackedRows, SentenceRows


@pytest.mark.parametrize("body", [1, 3, 7, 30])
def test_packed_rows_against_the_slow_definition(body: int) -> None:
    draw = np.random.default_rng(body)
    lengths = draw.integers(0, 40, 60)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rows = PackedRows(np.append(starts, lengths.sum()), np.arange(60), body)
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
    rows = SentenceRows(np.array([0, 4, 30, 35]), np.array([0, 30, 35]), np.array([0, 1]), body=10)
    found = rows.places(np.array([2, 1, 0]))
    assert found.starts.tolist() == [30, 4, 0]
    assert found.lengths.tolist() == [5, 10, 4]


@pytest.mark.parametrize("seed", range(8))
def test_sentence_rows_against_the_slow_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences and documents without tokens among them, at the ends too; any choice of documents, none included."""
    monkeypatch.setattr(packing, "_AT_ONCE", 7)
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 6, 90) * draw.integers(0, 2, 90)
    offsets = np.append(0, np.cumsum(lengths))
    ends = np.sort(draw.integers(0, 91, 24))
    documents = offsets[np.concatenate([[0], ends, [90]])]
    chosen = np.flatnonzero(draw.random(25) < [0.0, 0.1, 0.5, 0.5, 0.9, 0.9, 1.0, 1.0][seed])
    expected = [
        (int(offsets[s]), min(int(lengths[s]), 4))
        for document in chosen
        for s in range(90)
        if documents[document] <= offsets[s] < documents[document + 1] and lengths[s]
    ]
    rows = SentenceRows(offsets, documents, chosen.astype(np.uint32), body=4)
    assert rows.count == len(expected)
    order = draw.permutation(rows.count)
    found = rows.places(order)
    assert list(zip(found.starts.tolist(), found.lengths.tolist(), strict=True)) == [expected[row] for row in order]
