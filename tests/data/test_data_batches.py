"""Batches: a pure function of the step, every row once an epoch, nothing padded that need not be."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_texts import write_book

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.data import batches as batches_module
from mini_bert.data.batches import BatchStream, held_out_batches
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import DataError, InvalidInputError
from mini_bert.text.wordpiece import WordPiece


def config(*corpus: str, layout: str = "packed", length: int = 32, batch_size: int = 8, **sections: dict) -> Config:
    return Config.model_validate(
        {
            "data": {"corpus": corpus, "layout": layout, "held_out_fraction": 0.1, "held_out_rows": 20},
            "model": {"max_position_embeddings": length, "vocab_size": 100},
            "train": {"batch_size": batch_size},
            **sections,
        }
    )


def opened(settings: Config, letters: WordPiece) -> TokenCorpus:
    return open_tokens(settings.data, settings.tokenizer, settings.model.vocab_size, tokenizer=letters)


def stream(settings: Config, letters: WordPiece) -> BatchStream:
    return BatchStream(opened(settings, letters).train, settings, letters)


def test_packed_batch(book: Path, letters: WordPiece) -> None:
    settings = config(str(book))
    tokens = opened(settings, letters)
    batch = BatchStream(tokens.train, settings, letters).batch(5)
    assert batch.input_ids.shape == (8, 32)
    assert batch.input_ids.dtype == np.int32
    assert batch.attention_mask is None
    assert batch.token_type_ids is None
    assert batch.masked_positions is not None
    assert batch.target_ids is not None
    assert (batch.input_ids[:, 0] == letters.cls_id).all()
    assert (batch.input_ids[:, -1] == letters.sep_id).all()
    original = batch.input_ids.copy()
    original.ravel()[batch.masked_positions] = batch.target_ids
    texts = [" ".join(map(str, document.tolist())) for document in tokens.train.documents()]
    for row in original:
        body = " ".join(map(str, row[1:-1].tolist()))
        assert any(f" {body} " in f" {text} " for text in texts), "a row is a stretch of one document"


def test_every_row_once_an_epoch_across_batches_that_straddle_it(book: Path, letters: WordPiece) -> None:
    batches = stream(config(str(book), length=256, batch_size=7), letters)
    n = batches.rows_per_epoch
    assert n % 7
    rows = np.concatenate([batches.row_numbers(step) for step in range(n)])
    for epoch in range(7):
        np.testing.assert_array_equal(np.sort(rows[epoch * n : (epoch + 1) * n]), np.arange(n))
    assert [batches.epoch(step) for step in (0, n // 7, n // 7 + 1, n - 1)] == [0, 0, 1, 6]


def test_any_step_can_be_made_alone_and_in_any_order(book: Path, letters: WordPiece) -> None:
    for layout in ("packed", "sentences"):
        settings = config(str(book), layout=layout)
        in_order, alone = stream(settings, letters), stream(settings, letters)
        expected = [in_order.batch(step) for step in range(300)]
        for step in (299, 0, 255, 256, 41):
            same(alone.batch(step), expected[step])
        with pytest.raises(InvalidInputError, match="step"):
            alone.batch(-1)


def same(first: Batch, second: Batch) -> None:
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


GOLDEN = {
    "packed": "fa503818a00c317e4f7dafa2cff7ef84917c1ded54995efebbd5abaf264a4e63",
    "sentences": "1e8c14544175e16a2193eadd101169769f20ba237bbc5c7331613f9fe751dcaf",
}


def test_golden_batches_hold_for_ever(book: Path, letters: WordPiece) -> None:
    for layout, expected in GOLDEN.items():
        batches = stream(config(str(book), layout=layout), letters)
        digest = hashlib.sha256()
        for step in (0, 1, 1000):
            batch = batches.batch(step)
            for array in (batch.input_ids, batch.masked_positions, batch.target_ids):
                digest.update(np.asarray(array, "<i8").tobytes())
        assert digest.hexdigest() == expected, layout


def test_rows_sorted_in_parts_are_sorted(book: Path, letters: WordPiece, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(f"{book}=1.5", layout="sentences")
    at_once, in_parts = stream(settings, letters), stream(settings, letters)
    expected = at_once.row_numbers(0), at_once.row_numbers(at_once.steps_per_epoch)
    monkeypatch.setattr(batches_module, "_SORTED_AT_ONCE", 64)
    found = in_parts.row_numbers(0), in_parts.row_numbers(at_once.steps_per_epoch)
    np.testing.assert_array_equal(found, expected)


def test_a_seed_and_an_epoch_change_the_order_and_the_masks(book: Path, letters: WordPiece) -> None:
    first = stream(config(str(book)), letters)
    other = stream(config(str(book), run={"seed": 1}), letters)
    assert (first.row_numbers(0) != other.row_numbers(0)).any()
    steps = [first.batch(step).masked_positions for step in range(2)]
    assert len(np.intersect1d(*steps)) < 0.4 * len(steps[0])
    n = first.rows_per_epoch
    everything = stream(config(str(book), batch_size=n), letters)
    orders = [everything.row_numbers(epoch) for epoch in range(2)]
    assert np.count_nonzero(orders[0] == orders[1]) < 12
    again = [everything.batch(epoch).masked_positions for epoch in range(2)]
    row = [int(np.flatnonzero(order == 0)[0]) for order in orders]
    masks = [set((p[p // 32 == r] % 32).tolist()) for p, r in zip(again, row, strict=True)]
    assert masks[0] != masks[1], "the same row is masked anew"


def test_sentences_are_bucketed_and_padded_to_the_longest(tmp_path: Path, letters: WordPiece) -> None:
    draw = np.random.default_rng(0)
    lines = ["A" + " b" * int(length) + "." for length in draw.integers(1, 40, 3001)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines))
    settings = config(str(path), layout="sentences", batch_size=16)
    batches = stream(settings, letters)
    n = batches.rows_per_epoch
    for epoch in range(2):
        seen = [
            batches.row_numbers(step)
            for step in range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(n))
        assert {len(rows) for rows in seen} <= {15, 16}
    padding = total = 0
    widths = Counter()
    for step in range(0, batches.steps_per_epoch, 3):
        batch = batches.batch(step)
        widths[batch.input_ids.shape[1]] += 1
        mask = np.ones(batch.input_ids.shape, bool) if batch.attention_mask is None else batch.attention_mask
        assert mask.any(axis=0).all(), "no column is padding in all rows"
        np.testing.assert_array_equal(mask, batch.input_ids != letters.pad_id)
        assert mask.ravel()[batch.masked_positions].all()
        last = mask.sum(axis=1) - 1
        assert (batch.input_ids[np.arange(len(last)), last] == letters.sep_id).all()
        padding, total = padding + np.count_nonzero(~mask), total + mask.size
    assert padding / total < 0.25
    assert len(widths) > 5


def test_shards_see_the_masks_of_the_global_batch(book: Path, letters: WordPiece) -> None:
    batch = stream(config(str(book)), letters).batch(3)
    for ranks in (1, 2, 4):
        parts = [batch.rows(rank * 8 // ranks, (rank + 1) * 8 // ranks) for rank in range(ranks)]
        np.testing.assert_array_equal(np.concatenate([part.input_ids for part in parts]), batch.input_ids)
        positions = np.concatenate([part.masked_positions + 32 * part.first_row for part in parts])
        np.testing.assert_array_equal(positions, batch.masked_positions)


def test_weights_are_visits(tmp_path: Path, letters: WordPiece) -> None:
    first = write_book(tmp_path / "one.txt", 100, seed=1)
    second = write_book(tmp_path / "two.txt", 50, seed=2)
    for layout in ("packed", "sentences"):
        plain = stream(config(str(first), str(second), layout=layout), letters)
        weighted = stream(config(str(first), f"{second}=2.5", layout=layout), letters)
        one, two = plain.rows.counts
        assert weighted.rows_per_epoch == one + round(2.5 * two)
        steps = weighted.steps_per_epoch if layout == "sentences" else -(-2 * weighted.rows_per_epoch // 8)
        rows = np.concatenate([weighted.row_numbers(step) for step in range(steps)])
        visits = np.bincount(rows[: weighted.rows_per_epoch], minlength=one + two)
        assert (visits[:one] == 1).all()
        assert visits[one:].sum() == round(2.5 * two)
        assert set(visits[one:]) == {2, 3}


def test_held_out_batches_are_the_same_for_every_run(book: Path, letters: WordPiece) -> None:
    settings = config(str(book))
    tokens = opened(settings, letters)
    batches = held_out_batches(tokens.held_out, settings, letters)
    assert sum(len(batch.input_ids) for batch in batches) == 20
    other_run = config(str(book), batch_size=64, run={"seed": 9}, evaluation={"batch_size": 7})
    again = held_out_batches(tokens.held_out, other_run, letters)
    for field in ("input_ids", "target_ids"):
        np.testing.assert_array_equal(*(np.concatenate([getattr(b, field) for b in bs]) for bs in (batches, again)))
    other_masks = config(str(book), evaluation={"mask_seed": 1})
    assert (held_out_batches(tokens.held_out, other_masks, letters)[0].target_ids != batches[0].target_ids[:1]).any()


def test_nothing_held_out_is_trained_on(book: Path, letters: WordPiece) -> None:
    tokens = opened(config(str(book)), letters)
    train, held_out = (
        {document.tobytes() for document in side.documents()} for side in (tokens.train, tokens.held_out)
    )
    assert train
    assert held_out
    assert train.isdisjoint(held_out)
    assert len(held_out) == round(0.1 * (len(train) + len(held_out)))


def test_a_text_shorter_than_a_row_is_refused(tmp_path: Path, letters: WordPiece) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"text": "A short one."}\n{"text": "Another."}\n')
    with pytest.raises(DataError, match=r"no text of 32 tokens.*max-position-embeddings"):
        stream(config(str(path)), letters)
