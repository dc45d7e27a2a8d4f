"""Batches of labelled texts: every example once an epoch, its own label beside it, whatever stands around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labelled_toy import TOKENIZER, nearness, sentiment

from mini_bert.batch import Batch
from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.data.labelled_batches import LabelledStream
from mini_bert.errors import InvalidInputError


def config(**changes: Any) -> Config:
    base = {"train.batch_size": 8, "train.shards": 2, "tasks.classification": 1.0, "tasks.masked_lm": 0.0}
    fields = {name.replace("__", "."): value for name, value in changes.items()}
    return load_config([], {**base, "model.max_position_embeddings": 16, **fields})


def read(batch: Batch) -> list[tuple[tuple[int, ...], float]]:
    """Ids and label of each labelled row."""
    (question,) = (q for q in batch.questions if q.task != "masked_lm")
    T = batch.input_ids.shape[1]
    rows, mask = question.positions // T, batch.attention_mask
    assert not (question.positions % T).any()
    found = []
    for row, label in zip(rows, question.labels, strict=True):
        real = slice(None) if mask is None else mask[row]
        found.append((tuple(batch.input_ids[row][real].tolist()), float(label)))
    return found


@pytest.mark.parametrize("count", [5, 61, 64, 300])
def test_every_example_comes_once_an_epoch_with_its_label(count: int) -> None:
    examples = sentiment(count)
    stream = LabelledStream(examples, config(), TOKENIZER)
    expected = sorted((tuple(TOKENIZER.encode_row(e.text)[0]), float(e.label)) for e in examples.examples)
    steps = stream.steps_per_epoch
    orders = []
    for epoch in range(2):
        rows = [row for step in range(epoch * steps, (epoch + 1) * steps) for row in read(stream.batch(step))]
        assert sorted(rows) == expected
        orders.append(rows)
        assert {stream.epoch(step) for step in range(epoch * steps, (epoch + 1) * steps)} == {epoch}
    assert count < 10 or orders[0] != orders[1]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, again = (LabelledStream(sentiment(), config(), TOKENIZER) for _ in range(2))
    again.batch(7)
    np.testing.assert_array_equal(one.batch(3).input_ids, again.batch(3).input_ids)
    other = LabelledStream(sentiment(), config(run__seed=1), TOKENIZER)
    assert read(one.batch(0)) != read(other.batch(0))
    with pytest.raises(InvalidInputError):
        one.batch(-1)


def test_rows_of_similar_length_meet() -> None:
    stream = LabelledStream(sentiment(3000), config(), TOKENIZER)
    padded = sum(stream.batch(step).input_ids.size for step in range(stream.steps_per_epoch))
    assert stream.tokens <= padded < 1.15 * stream.tokens


def test_pairs_have_two_segments_and_long_ones_are_cut() -> None:
    examples = nearness(1)
    (example,) = examples.examples
    long = examples._replace(examples=(example._replace(text="good " * 40),))
    batch = LabelledStream(long, config(), TOKENIZER).batch(0)
    ids, types = TOKENIZER.encode_row("good " * 40, example.pair, max_length=16)
    assert batch.input_ids.tolist() == [ids]
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [types]
    (question,) = batch.questions
    assert (question.task, question.labels.tolist()) == ("regression", [example.label])


class Text:
    """Running text that is replayed: two rows of 12 ids, of which 3 and 5, and 0, are hidden."""

    def rate(self, step: int) -> float:
        return 0.15

    def batch(self, step: int, rate: float | None = None) -> Batch:
        ids = np.arange(24).reshape(2, 12) + 100
        return Batch(ids, masked_positions=np.array([3, 5, 12]), target_ids=np.array([7, 8, 9]))


def test_replayed_rows_stand_between_and_keep_their_masks() -> None:
    plain = LabelledStream(sentiment(), config(), TOKENIZER).batch(2)
    stream = LabelledStream(sentiment(), config(tasks__masked_lm=0.5), TOKENIZER, Text())  # type: ignore[arg-type]
    batch = stream.batch(2)
    assert read(batch) == read(plain)
    masked, labelled = batch.questions
    assert (masked.task, masked.weight, masked.items) == ("masked_lm", 0.5, 3)
    assert (labelled.task, labelled.weight, labelled.items) == ("classification", 1.0, 8)
    assert batch.input_ids.ravel()[masked.positions].tolist() == [103, 105, 112]
    assert masked.labels.tolist() == [7, 8, 9]
    rows = np.unique(masked.positions // batch.input_ids.shape[1])
    assert rows.tolist() == [2, 7]  # one in each half
    assert batch.attention_mask is not None
    assert batch.attention_mask[rows, :12].all()
