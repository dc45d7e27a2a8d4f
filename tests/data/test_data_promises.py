"""What training and evaluation rely on in their texts, one promise a test: order, borders, ids, capitals, held-out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream, held_out_batches
from mini_bert.data.packing import RowIndex, SentenceRows
from mini_bert.data.shard_writer import ShardWriter
from mini_bert.data.shards import TokenStore
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.text.wordpiece import WordPiece

LAYOUTS = pytest.mark.parametrize("layout", ["packed", "sentences"])
T = 16


def config(*corpus: object, layout: str = "packed") -> Config:
    return Config.model_validate(
        {
            "data": {"corpus": list(map(str, corpus)), "layout": layout, "held_out_fraction": 0.1, "held_out_rows": 50},
            "model": {"max_position_embeddings": T, "vocab_size": 100},
            "train": {"batch_size": 8},
            "evaluation": {"batch_size": 16},
        }
    )


def opened(settings: Config, letters: WordPiece) -> TokenCorpus:
    return open_tokens(settings.data, settings.tokenizer, settings.model.vocab_size, tokenizer=letters)


def stream(settings: Config, letters: WordPiece) -> BatchStream:
    return BatchStream(opened(settings, letters).train, settings, letters)


@LAYOUTS
def test_every_epoch_has_an_order_of_its_own(book: Path, letters: WordPiece, layout: str) -> None:
    batches = stream(config(book, layout=layout), letters)
    n = batches.steps_per_epoch
    epochs = [np.concatenate([batches.row_numbers(step) for step in range(e * n, (e + 1) * n)]) for e in range(3)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        size = min(map(len, epochs))
        same = epochs[first][:size] == epochs[second][:size]
        assert same.mean() < 0.05, f"epochs {first} and {second} have their rows in the same places"


@LAYOUTS
def test_every_row_comes_once_an_epoch(book: Path, letters: WordPiece, layout: str) -> None:
    batches = stream(config(book, layout=layout), letters)
    rows = np.concatenate([batches.row_numbers(step) for step in range(batches.steps_per_epoch)])
    np.testing.assert_array_equal(np.sort(rows[: batches.rows_per_epoch]), np.arange(batches.rows_per_epoch))


def test_every_step_has_masks_of_its_own(book: Path, letters: WordPiece) -> None:
    batches = stream(config(book), letters)
    masks = {tuple(batches.batch(step).masked_positions.tolist()) for step in range(20)}
    assert len(masks) == 20


@LAYOUTS
def test_no_row_crosses_the_border_of_a_document(tmp_path: Path, letters: WordPiece, layout: str) -> None:
    """Each document is made of one letter."""
    texts = [" ".join([letter * 3] * 30) + "." for letter in "abcdefghijklmnopqrst"]
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = opened(config(path, layout=layout), letters).train.rows(T)
    for row in rows.read(np.arange(len(rows))):
        found = {letters.token(id).removeprefix("##") for id in row.tolist() if id not in letters.special_ids} - {"."}
        assert len(found) == 1, f"a row with text of the documents {sorted(found)}"


@LAYOUTS
def test_every_row_ends_in_sep(book: Path, letters: WordPiece, layout: str) -> None:
    rows = opened(config(book, layout=layout), letters).train.rows(T)
    ids = rows.read(np.arange(len(rows)))
    lengths = (ids != letters.pad_id).sum(axis=1)
    np.testing.assert_array_equal(ids[np.arange(len(ids)), lengths - 1], letters.sep_id)


@pytest.mark.parametrize("largest", [255, 256, 32_767, 32_768, 65_535])
def test_rows_hold_every_token_id_of_a_vocabulary(tmp_path: Path, largest: int) -> None:
    ids = np.array([7, largest, 9], np.uint16)
    writer = ShardWriter(tmp_path / "store")
    writer.add("one", ids, np.array([3]), b"0" * 16)
    writer.finish({"vocab_size": 65_536})
    store = TokenStore(tmp_path / "store")
    layout = SentenceRows(np.array([0, 3]), np.array([0, 3]), np.array([0]), body=6)
    rows = RowIndex(8, [store], [layout], [1.0], cls_id=2, sep_id=3, pad_id=0)
    assert rows.read(np.array([0])).tolist() == [[2, 7, largest, 9, 3, 0, 0, 0]]


def test_capitals_of_a_corpus_are_lowered(letters: WordPiece) -> None:
    assert letters.encode_ids("The CAT Élan") == letters.encode_ids("the cat elan")
    assert letters.unk_id not in letters.encode_ids("The CAT Élan")


def test_held_out_documents_are_not_trained_on(book: Path, letters: WordPiece) -> None:
    tokens = opened(config(book), letters)
    both = set(tokens.train.names()) & set(tokens.held_out.names())
    assert not both, f"held out and trained on: {sorted(both)[:3]}"


def test_copies_of_held_out_documents_are_held_out(tmp_path: Path, letters: WordPiece) -> None:
    lines = [json.dumps({"text": " ".join([letter * 4] * 30)}) for letter in "abcdefghijklmnopqrst"]
    path = tmp_path / "twice.jsonl"
    path.write_text("\n".join(lines + lines))
    tokens = opened(config(path), letters)
    train, held_out = ({ids.tobytes() for ids in side.documents()} for side in (tokens.train, tokens.held_out))
    assert held_out
    assert train.isdisjoint(held_out)


def test_held_out_masks_are_the_same_at_every_call(book: Path, letters: WordPiece) -> None:
    settings = config(book)
    tokens = opened(settings, letters)
    calls = [held_out_batches(tokens.held_out, settings, letters) for _ in range(2)]
    for first, second in zip(*calls, strict=True):
        np.testing.assert_array_equal(first.masked_positions, second.masked_positions)
        np.testing.assert_array_equal(first.input_ids, second.input_ids)


def test_held_out_batches_leave_no_row_out(book: Path, letters: WordPiece) -> None:
    """50 rows in batches of 16: the last has two."""
    settings = config(book)
    batches = held_out_batches(opened(settings, letters).held_out, settings, letters)
    assert [len(batch.input_ids) for batch in batches] == [16, 16, 16, 2]
