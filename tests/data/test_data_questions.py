"""Batches with the questions of several tasks: who asks where, what each may see, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mini_bert.batch import Batch, Question
from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream, held_out_batches, held_out_task_batches
from mini_bert.data.questions import are_asked
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import ConfigError, DataError
from mini_bert.text.wordpiece import WordPiece

EVERYTHING = {"next_sentence": 0.5, "sentence_order": 0.25, "token_order": 2.0, "replaced_token": 50.0}


def config(book: Path, **tasks: object) -> Config:
    layout = tasks.pop("layout", "packed")
    length = tasks.pop("length", 48)
    return Config.model_validate(
        {
            "data": {"corpus": [str(book)], "layout": layout, "held_out_fraction": 0.1, "held_out_rows": 20},
            "model": {"max_position_embeddings": length, "vocab_size": 100, "heads": ["mlm"]},
            "train": {"batch_size": 12},
            "tasks": tasks,
        }
    )


def opened(settings: Config, letters: WordPiece) -> TokenCorpus:
    return open_tokens(settings.data, settings.tokenizer, settings.model.vocab_size, tokenizer=letters)


def batch_of(settings: Config, letters: WordPiece, step: int = 3) -> Batch:
    return BatchStream(opened(settings, letters).train, settings, letters).batch(step)


def asked(batch: Batch) -> dict[str, Question]:
    return {question.task: question for question in batch.questions}


def test_without_other_tasks_a_batch_is_what_it_was(book: Path, letters: WordPiece) -> None:
    plain = batch_of(config(book), letters)
    assert plain.questions == ()
    assert plain.draws is None
    weighted = batch_of(config(book, masked_lm=2.0), letters)
    for field in ("input_ids", "masked_positions", "target_ids"):
        np.testing.assert_array_equal(getattr(weighted, field), getattr(plain, field))
    (question,) = weighted.questions
    assert question[0] == "masked_lm"
    assert question.positions is weighted.masked_positions
    assert (question.weight, question.items) == (2.0, plain.target_ids.size)


def test_one_pass_serves_all_tasks(book: Path, letters: WordPiece) -> None:
    settings = config(book, **EVERYTHING)
    batch, plain = batch_of(settings, letters), asked(batch_of(settings, letters))
    found = asked(batch)
    assert list(found) == ["masked_lm", "next_sentence", "sentence_order", "token_order", "replaced_token"]
    assert {task: q.weight for task, q in found.items()} == {"masked_lm": 1.0, **EVERYTHING}
    shown = np.setdiff1d(np.arange(12 * 48), batch.masked_positions)
    for task in ("token_order", "replaced_token"):
        np.testing.assert_array_equal(found[task].positions, shown)
        assert found[task].items == shown.size
        assert 0.03 < found[task].labels.mean() < 0.2
    assert not (found["token_order"].labels & found["replaced_token"].labels).any(), "a token suffers one thing only"
    for task in ("next_sentence", "sentence_order"):
        assert (found[task].positions % 48 == 0).all()
    specials = np.isin(batch.input_ids.ravel()[shown], [letters.cls_id, letters.sep_id])
    assert specials.sum() == 3 * 12
    assert not found["token_order"].labels[specials].any()
    assert not found["replaced_token"].labels[specials].any()
    assert all(np.array_equal(found[task].labels, plain[task].labels) for task in found)


def test_labels_of_tokens_are_true(book: Path, letters: WordPiece) -> None:
    """Beside the same rows of a run that masks alike and changes nothing."""
    for task in ("token_order", "replaced_token"):
        batch, untouched = (
            batch_of(config(book, **{task: 1.0}), letters),
            batch_of(config(book, masked_lm=2.0), letters),
        )
        np.testing.assert_array_equal(batch.masked_positions, untouched.masked_positions)
        question = asked(batch)[task]
        changed = (batch.input_ids != untouched.input_ids).ravel()
        np.testing.assert_array_equal(question.labels, changed[question.positions])
        assert not changed[batch.masked_positions].any()


def test_the_models_guesses_are_asked_about_everywhere(book: Path, letters: WordPiece) -> None:
    batch = batch_of(config(book, replaced_token=1.0, replacements="model"), letters)
    question = asked(batch)["replaced_token"]
    np.testing.assert_array_equal(question.positions, np.arange(12 * 48))
    assert not question.labels.any(), "they are found when the guesses are made"
    assert batch.draws.shape == batch.masked_positions.shape
    assert 0 <= batch.draws.min() < batch.draws.max() < 1
    plain = batch_of(config(book, masked_lm=2.0), letters)
    np.testing.assert_array_equal(batch.input_ids, plain.input_ids)


def test_without_masked_lm_nothing_is_masked(book: Path, letters: WordPiece) -> None:
    batch = batch_of(config(book, masked_lm=0, token_order=1.0), letters)
    assert batch.masked_positions is None
    assert not (batch.input_ids == letters.mask_id).any()
    assert asked(batch)["token_order"].positions.size == 12 * 48


def test_padded_rows_are_asked_about_real_tokens(book: Path, letters: WordPiece) -> None:
    batch = batch_of(config(book, layout="sentences", length=64, token_order=1.0, replaced_token=1.0), letters)
    real = batch.input_ids != letters.pad_id
    np.testing.assert_array_equal(real, batch.attention_mask)
    real.ravel()[batch.masked_positions] = False
    for task in ("token_order", "replaced_token"):
        np.testing.assert_array_equal(asked(batch)[task].positions, np.flatnonzero(real))
    np.testing.assert_array_equal(asked(batch)["masked_lm"].positions, batch.masked_positions)


def test_shards_are_the_rows_of_the_batch(book: Path, letters: WordPiece) -> None:
    for tasks in (EVERYTHING, {**EVERYTHING, "replacements": "model"}):
        batch = batch_of(config(book, **tasks), letters)
        parts = [batch.rows(first, first + 4) for first in (0, 4, 8)]
        for number, question in enumerate(batch.questions):
            shards = [part.questions[number] for part in parts]
            positions = np.concatenate(
                [q.positions + 48 * part.first_row for q, part in zip(shards, parts, strict=True)]
            )
            np.testing.assert_array_equal(positions, question.positions)
            np.testing.assert_array_equal(np.concatenate([q.labels for q in shards]), question.labels)
            assert {(q.task, q.weight, q.items) for q in shards} == {(question.task, question.weight, question.items)}
        if batch.draws is not None:
            np.testing.assert_array_equal(np.concatenate([part.draws for part in parts]), batch.draws)


def test_held_out_masks_are_those_of_a_run_without_tasks(book: Path, letters: WordPiece) -> None:
    plain, tasks = config(book), config(book, **EVERYTHING)
    held_out = opened(plain, letters).held_out
    expected, found = held_out_batches(held_out, plain, letters), held_out_batches(held_out, tasks, letters)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.input_ids, other.input_ids)
        np.testing.assert_array_equal(one.target_ids, other.target_ids)
        assert other.questions == ()
    assert held_out_task_batches(held_out, plain, letters) == []
    batches = held_out_task_batches(held_out, tasks, letters)
    assert sum(len(batch.input_ids) for batch in batches) == 20
    again = config(book, **EVERYTHING).model_copy(update={"run": plain.run.model_copy(update={"seed": 5})})
    for one, other in zip(batches, held_out_task_batches(held_out, again, letters), strict=True):
        np.testing.assert_array_equal(one.input_ids, other.input_ids)


def test_too_little_held_out_text_is_called_that(book: Path, letters: WordPiece) -> None:
    settings = config(book, next_sentence=1.0)
    data = settings.data.model_copy(update={"held_out_fraction": 0.001})
    settings = settings.model_copy(update={"data": data})
    texts = opened(settings, letters)
    assert texts.held_out.n_documents == 1
    BatchStream(texts.train, settings, letters).batch(0)
    with pytest.raises(DataError, match=r"held-out text.*--data\.held-out-fraction"):
        held_out_task_batches(texts.held_out, settings, letters)


def test_which_weights_ask_more_than_masked_lm() -> None:
    assert not are_asked(Config().tasks)
    for tasks in ({"masked_lm": 0.5}, {"token_order": 0.1}, {"masked_lm": 0.0, "replaced_token": 1.0}):
        assert are_asked(Config.model_validate({"tasks": tasks}).tasks)


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ("data.layout", {"layout": "sentences"}),
        ("model.max_position_embeddings", {"length": 4}),
    ],
)
def test_pairs_without_room_are_refused(book: Path, letters: WordPiece, setting: str, change: dict) -> None:
    with pytest.raises(ConfigError, match=setting):
        batch_of(config(book, sentence_order=1.0, **change), letters)


def test_pairs_need_two_segments(book: Path, letters: WordPiece) -> None:
    settings = config(book, sentence_order=1.0)
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"type_vocab_size": 1})})
    with pytest.raises(ConfigError, match="type_vocab_size"):
        batch_of(settings, letters)


@pytest.mark.parametrize(("task", "least"), [("next_sentence", 10), ("sentence_order", 6)])
def test_most_rows_are_asked_about_their_pair(book: Path, letters: WordPiece, task: str, least: int) -> None:
    batch = batch_of(config(book, length=200, **{task: 1.0}), letters)
    question = asked(batch)[task]
    assert question.items == question.positions.size >= least
    assert batch.token_type_ids.shape == batch.input_ids.shape == (12, 200)
    assert batch.attention_mask is None
