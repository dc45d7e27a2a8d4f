"""How large a share is hidden: by schedule, by what is given, and the same in all held-out rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mini_bert.config.schema import Config, MaskingConfig
from mini_bert.data.batches import BatchStream, held_out_batches
from mini_bert.data.masking_rate import greatest_rate, scheduled_rate
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import DataError
from mini_bert.text.wordpiece import WordPiece


def config(book: Path, **sections: dict) -> Config:
    return Config.model_validate(
        {
            "data": {"corpus": [str(book)], "held_out_fraction": 0.1, "held_out_rows": 20},
            "model": {"max_position_embeddings": 32, "vocab_size": 100},
            "train": {"batch_size": 8, "steps": 11},
            **sections,
        }
    )


def opened(settings: Config, letters: WordPiece) -> TokenCorpus:
    return open_tokens(settings.data, settings.tokenizer, settings.model.vocab_size, tokenizer=letters)


@pytest.mark.parametrize(
    ("schedule", "shape"),
    [
        ("fixed", lambda t: 0.0),
        ("adaptive", lambda t: 0.0),
        ("linear", lambda t: t),
        ("cosine", lambda t: 0.5 - 0.5 * math.cos(math.pi * t)),
    ],
)
def test_schedules_are_the_closed_forms(schedule: str, shape) -> None:
    masking = MaskingConfig(rate=0.4, final_rate=0.1, rate_schedule=schedule)
    for step in range(13):
        expected = 0.4 - 0.3 * shape(min(1.0, step / 10))
        assert scheduled_rate(masking, step, 11) == pytest.approx(expected, abs=1e-15)
    assert scheduled_rate(masking, 5, None) == scheduled_rate(masking, 0, 1) == 0.4


def test_the_greatest_rate_is_what_memory_is_planned_for() -> None:
    assert greatest_rate(MaskingConfig(final_rate=0.5)) == 0.15
    assert greatest_rate(MaskingConfig(final_rate=0.5, rate_schedule="linear")) == 0.5
    assert greatest_rate(MaskingConfig(rate=0.6, final_rate=0.5, rate_schedule="cosine")) == 0.6
    assert greatest_rate(MaskingConfig(rate_schedule="adaptive", adaptive_range=(0.1, 0.45))) == 0.45


def test_batches_follow_the_schedule_and_a_rate_that_is_given(book: Path, letters: WordPiece) -> None:
    settings = config(book, masking={"rate": 0.5, "final_rate": 0.1, "rate_schedule": "linear"})
    stream = BatchStream(opened(settings, letters).train, settings, letters)
    found = [len(stream.batch(step).target_ids) / (8 * 30) for step in range(11)]
    np.testing.assert_allclose(found, np.linspace(0.5, 0.1, 11), atol=0.035)
    assert len(stream.batch(3, rate=0.8).target_ids) / (8 * 30) == pytest.approx(0.8, abs=0.035)
    stream.steps = None
    assert stream.rate(10) == 0.5


def test_held_out_rows_are_masked_alike_whatever_the_training_does(book: Path, letters: WordPiece) -> None:
    plain = config(book)
    tokens = opened(plain, letters)
    other = config(book, masking={"kind": "span", "rate": 0.4, "mask_share": 1.0, "random_share": 0.0})
    for one, two in zip(*(held_out_batches(tokens.held_out, c, letters) for c in (plain, other)), strict=True):
        np.testing.assert_array_equal(one.input_ids, two.input_ids)
        np.testing.assert_array_equal(one.masked_positions, two.masked_positions)


@pytest.mark.parametrize("kind", ["whole_word", "span", "ngram", "frequency", "pattern"])
@pytest.mark.parametrize("layout", ["packed", "sentences"])
def test_batches_of_each_kind_can_be_made_alone_and_in_any_order(
    kind: str, layout: str, book: Path, letters: WordPiece
) -> None:
    settings = config(book, masking={"kind": kind, "patterns": [".*e"], "rate": 0.3})
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"layout": layout})})
    train = opened(settings, letters).train
    in_order, alone = (BatchStream(train, settings, letters) for _ in range(2))
    batches = [in_order.batch(step) for step in range(9)]
    for step in (8, 0, 4):
        for one, other in zip(alone.batch(step), batches[step], strict=True):
            np.testing.assert_array_equal(one, other)


def test_preferred_words_that_never_occur_are_refused(book: Path, letters: WordPiece, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("zzzzzzzz\n")
    for masking, named in (
        ({"patterns": ["ZZ", "q{9}"]}, r"masking.patterns: got 'ZZ' and 'q\{9\}'"),
        ({}, "masking.word_list"),
    ):
        settings = config(book, masking={"kind": "pattern", "word_list": None if masking else str(words), **masking})
        with pytest.raises(DataError, match=named):
            BatchStream(opened(settings, letters).train, settings, letters)
