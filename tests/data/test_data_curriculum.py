"""Curricula: pacing as the closed forms say, draws from the easiest rows and from nothing else, resumable anywhere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mini_bert import implement_curriculum_learning
from mini_bert.batch import Batch
from mini_bert.config.schema import Config, CurriculumConfig
from mini_bert.data import difficulty as difficulty_module
from mini_bert.data.batches import BatchStream
from mini_bert.data.curriculum import PACING, Curriculum
from mini_bert.data.difficulty import Reference, row_difficulties
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.text.wordpiece import WordPiece

STEPS = 400
LAYOUTS = pytest.mark.parametrize("layout", ["packed", "sentences"])


def told(what: str, done: int, total: int) -> None:
    """Nobody listens."""


def config(*corpus: object, layout: str = "packed", steps: int | None = STEPS, **curriculum: object) -> Config:
    return Config.model_validate(
        {
            "data": {"corpus": list(map(str, corpus)), "layout": layout, "held_out_fraction": 0.1},
            "model": {"max_position_embeddings": 32, "vocab_size": 100},
            "train": {"batch_size": 8, "steps": steps},
            "curriculum": {"kind": "rarity", **curriculum},
        }
    )


def opened(settings: Config, letters: WordPiece) -> TokenCorpus:
    return open_tokens(settings.data, settings.tokenizer, settings.model.vocab_size, tokenizer=letters)


def stream(settings: Config, letters: WordPiece, reference: Reference | None = None) -> BatchStream:
    return BatchStream(opened(settings, letters).train, settings, letters, reference=reference)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Sentences of 2 to 40 words of one letter."""
    lengths = np.random.default_rng(0).integers(1, 40, 3001)
    path = tmp_path / "lines.txt"
    path.write_text("\n".join("A" + " b" * int(length) + "." for length in lengths))
    return path


@pytest.mark.parametrize(
    ("pacing", "quarter", "half"),
    [
        ("linear", 0.4, 0.6),
        ("root", math.sqrt(0.04 + 0.96 / 4), math.sqrt(0.04 + 0.48)),
        ("exponential", 0.2 + 0.8 * (math.e**2.5 - 1) / (math.e**10 - 1), 0.2 + 0.8 / (math.e**5 + 1)),
        ("steps", 0.4, 0.6),
    ],
)
def test_pacing_is_the_closed_form(pacing: str, quarter: float, half: float) -> None:
    pace = PACING[pacing]
    assert (pace(0.2, 0.0), pace(0.2, 1.0)) == (pytest.approx(0.2), pytest.approx(1.0))
    assert pace(0.2, 0.25) == pytest.approx(quarter)
    assert pace(0.2, 0.5) == pytest.approx(half)
    shares = [pace(0.2, t / 100) for t in range(101)]
    assert shares == sorted(shares)
    assert pace(1.0, 0.3) == pytest.approx(1.0)


def test_steps_have_four_stairs() -> None:
    assert {round(PACING["steps"](0.2, t / 1000), 9) for t in range(1001)} == {0.2, 0.4, 0.6, 0.8, 1.0}


@pytest.mark.parametrize("hard_first", [False, True])
@pytest.mark.parametrize("pacing", list(PACING))
def test_rows_come_from_the_easiest_of_now(book: Path, letters: WordPiece, pacing: str, hard_first: bool) -> None:
    settings = config(book, pacing=pacing, hard_first=hard_first, start=0.1, until=0.5)
    train = opened(settings, letters).train
    batches = BatchStream(train, settings, letters)
    rows = train.rows(32)
    hardness = row_difficulties(train, rows, settings, letters, None, told) * (-1 if hard_first else 1)
    in_order = np.sort(hardness)
    for step in range(0, 200, 7):
        share = PACING[pacing](0.1, step / 199)
        assert batches.share(step) == pytest.approx(share)
        drawn = batches.row_numbers(step)
        assert len(set(drawn.tolist())) == 8
        assert hardness[drawn].max() <= in_order[max(8, math.ceil(share * len(rows))) - 1]
    assert batches.share(200) == batches.share(399) == 1.0


def test_each_row_of_the_pool_is_as_likely(book: Path, letters: WordPiece) -> None:
    """Constant pacing: each draw is 64 of the easiest 40 %."""
    settings = config(book, pacing="steps", start=0.4, until=1.0, steps=40_000)
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"batch_size": 64})})
    batches = stream(settings, letters)
    pool = math.ceil(0.4 * len(batches.rows))
    visits = np.bincount(np.concatenate([batches.row_numbers(step) for step in range(1000)]))
    expected = 64_000 / pool
    assert np.count_nonzero(visits) == pool
    chi = ((visits[visits > 0] - expected) ** 2 / expected).sum()
    assert abs(chi - pool) < 5 * np.sqrt(2 * pool)


@LAYOUTS
def test_after_it_every_row_comes_once_an_epoch(book: Path, letters: WordPiece, layout: str) -> None:
    settings = config(book, layout=layout, until=0.2)
    batches = stream(settings, letters)
    plain = stream(settings.model_copy(update={"curriculum": CurriculumConfig()}), letters)
    first = 80 if layout == "packed" else 96
    for step in range(30):
        np.testing.assert_array_equal(batches.row_numbers(first + step), plain.row_numbers(step))
    assert (batches.row_numbers(first - 1) != plain.row_numbers(0)).any()
    assert batches.epoch(0) == 0


@LAYOUTS
def test_any_step_can_be_made_alone_and_in_any_order(book: Path, letters: WordPiece, layout: str) -> None:
    settings = config(book, layout=layout)
    in_order, alone = stream(settings, letters), stream(settings, letters)
    expected = [in_order.batch(step) for step in range(STEPS)]
    for step in (399, 0, 150, 31, 32, 199, 200, 33):
        for one, other in zip(alone.batch(step), expected[step], strict=True):
            np.testing.assert_array_equal(one, other)
    assert {len(batch.input_ids) for batch in expected} <= {7, 8}


def test_a_seed_changes_the_draws(book: Path, letters: WordPiece) -> None:
    settings = config(book)
    other = settings.model_copy(update={"run": settings.run.model_copy(update={"seed": 1})})
    assert (stream(settings, letters).row_numbers(5) != stream(other, letters).row_numbers(5)).any()
    batches = stream(settings, letters)
    assert (batches.row_numbers(5) != batches.row_numbers(6)).any()


def test_before_the_steps_are_known_it_has_not_begun(book: Path, letters: WordPiece) -> None:
    batches = stream(config(book, steps=None, start=0.3), letters)
    assert batches.share(10_000) == 0.3
    np.testing.assert_array_equal(batches.row_numbers(0), stream(config(book, start=0.3), letters).row_numbers(0))
    batches.steps = STEPS
    assert batches.share(10_000) == 1.0


def test_every_row_is_reached_at_the_latest_by_the_last_step(book: Path, letters: WordPiece) -> None:
    for pacing in PACING:
        assert stream(config(book, pacing=pacing, until=1.0), letters).share(STEPS - 1) == pytest.approx(1.0)


def test_sentences_of_like_length_make_a_batch(lines: Path, letters: WordPiece) -> None:
    batches = stream(config(lines, layout="sentences", until=1.0), letters)
    spread = [np.ptp(batches.rows.lengths(batches.row_numbers(step))) for step in range(0, STEPS, 5)]
    everything = np.ptp(batches.rows.lengths(np.arange(len(batches.rows))))
    assert np.mean(spread) < 0.2 * everything


def test_length_is_the_number_of_tokens_of_a_sentence(lines: Path, letters: WordPiece) -> None:
    settings = config(lines, layout="sentences", kind="length")
    train = opened(settings, letters).train
    rows = train.rows(32)
    found = row_difficulties(train, rows, settings, letters, None, told)
    ids = rows.read(np.arange(len(rows)))
    np.testing.assert_array_equal(found, (ids != letters.pad_id).sum(axis=1) - 2)
    assert found.dtype == np.float32
    assert len(set(found.tolist())) > 20
    early = stream(settings, letters)
    assert early.rows.lengths(early.row_numbers(0)).max() <= np.quantile(found, 0.25) + 2


def test_length_of_packed_rows_is_that_of_their_sentences(book: Path, letters: WordPiece) -> None:
    settings = config(book, kind="length")
    train = opened(settings, letters).train
    rows = train.rows(32)
    found = row_difficulties(train, rows, settings, letters, None, told)
    ((text, _),) = rows.texts(np.arange(1))
    sentence = np.searchsorted(text.store.sentence_offsets, np.arange(text.store.sentence_offsets[-1]), side="right")
    starts, lengths = text.layout.places(np.arange(len(rows)))
    for row in range(0, len(rows), 17):
        inside = set(sentence[starts[row] : starts[row] + lengths[row]].tolist())
        assert found[row] == pytest.approx(30 / len(inside), rel=1e-6)


def test_rarity_is_the_mean_surprise_by_counts(book: Path, letters: WordPiece) -> None:
    settings = config(book)
    train = opened(settings, letters).train
    rows = train.rows(32)
    found = row_difficulties(train, rows, settings, letters, None, told)
    ids = np.concatenate(list(train.documents()))
    counts = np.bincount(ids[~np.isin(ids, list(letters.special_ids))], minlength=letters.vocab_size)
    for row in range(0, len(rows), 23):
        surprise = [-math.log(counts[i] / counts.sum()) for i in rows.read(np.array([row]))[0] if i > 4]
        assert found[row] == pytest.approx(np.mean(surprise), rel=1e-5)


def test_losses_come_from_a_reference_once(book: Path, letters: WordPiece, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Batch] = []

    def losses(batch: Batch) -> np.ndarray:
        asked.append(batch)
        return batch.first_row + batch.input_ids.astype(float).mean(axis=1)

    settings = config(book, kind="loss", reference="other")
    reference = Reference("weights 1", losses)
    batches = stream(settings, letters, reference)
    rows = len(batches.rows)
    assert sum(len(batch.input_ids) for batch in asked) == rows
    assert all(batch.masked_positions is not None and batch.masked_positions.size for batch in asked)
    monkeypatch.setattr(difficulty_module, "_losses", lambda *_: pytest.fail("scored again"))
    np.testing.assert_array_equal(stream(settings, letters, reference).row_numbers(9), batches.row_numbers(9))
    with pytest.raises(ConfigError, match="reference model"):
        stream(settings, letters)


@pytest.mark.parametrize("losses", [lambda b: np.zeros(3), lambda b: np.full(len(b.input_ids), np.nan)])
def test_a_reference_that_gives_no_losses_is_refused(losses, book: Path, letters: WordPiece) -> None:
    settings = config(book, kind="loss", reference="other")
    with pytest.raises(InvalidInputError, match="finite losses"):
        stream(settings, letters, Reference("bad", losses))


def test_weights_are_refused_beside_it(book: Path, letters: WordPiece) -> None:
    with pytest.raises(ConfigError, match="weights"):
        stream(config(f"{book}=2"), letters)


def test_memory_is_four_bytes_a_row(book: Path, letters: WordPiece) -> None:
    train = opened(config(book), letters).train
    rows = train.rows(32)
    made = Curriculum(CurriculumConfig(kind="length"), np.zeros(len(rows)), rows, seed=0, batch_size=8)
    assert made.order.itemsize == 4
    assert sorted(made.order.tolist()) == list(range(len(rows)))
    assert (np.diff(made.order.astype(int)) < 0).mean() > 0.4, "rows of equal difficulty stand in random order"


def test_fewer_rows_than_a_batch_are_gone_through_again(book: Path, letters: WordPiece) -> None:
    settings = config(book, start=0.01)
    huge = settings.model_copy(update={"train": settings.train.model_copy(update={"batch_size": 9000})})
    batches = stream(huge, letters)
    visits = np.bincount(batches.row_numbers(0), minlength=len(batches.rows))
    assert len(batches.rows) < 9000
    assert visits.max() - visits.min() <= 1


def test_the_function_gives_the_settings() -> None:
    made = implement_curriculum_learning(Config(train={"steps": 7}), "loss", "steps", start=0.3, reference="other")
    assert made.curriculum.model_dump() == {
        "kind": "loss", "pacing": "steps", "start": 0.3, "until": 0.5, "hard_first": False, "reference": "other"
    }  # fmt: skip
    assert made.train.steps == 7
    with pytest.raises(ConfigError, match="pacing"):
        implement_curriculum_learning(pacing="sideways")
    with pytest.raises(ConfigError, match="reference"):
        implement_curriculum_learning(kind="loss")
