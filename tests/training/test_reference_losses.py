"""The losses of a reference model: those of each row alone, and a curriculum that begins with the lowest."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.data.batches import BatchStream
from mini_bert.errors import CheckpointError, ConfigError
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece
from mini_bert.training.pretrain import pretrain
from mini_bert.training.reference_losses import reference_of, row_losses


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(configured, tokens) -> MiniBERT:
    """Trained for 40 steps, and saved as `runs/teacher`."""
    return pretrain(configured(run__name="teacher"), tokens=tokens).model


def after(configured, **changes):
    return configured(curriculum__kind="loss", curriculum__reference="teacher", **changes)


def test_losses_are_those_of_each_masked_token(configured, tokens, model) -> None:
    batch = BatchStream(tokens.train, configured(train__batch_size=40), tokens.tokenizer).batch(0)
    found = row_losses(model, batch, threads=2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, row_losses(model, batch))
    length = batch.input_ids.shape[1]
    logits = model.forward(batch.input_ids, batch.attention_mask)[0].astype(np.float64)
    losses = [[] for _ in range(40)]
    for position, target in zip(batch.masked_positions, batch.target_ids, strict=True):
        scores = logits[position // length, position % length]
        losses[position // length].append(np.log(np.exp(scores).sum()) - scores[target])
    np.testing.assert_allclose(found, [np.mean(row) for row in losses], rtol=1e-5)


def test_rows_without_masks_and_no_rows(model) -> None:
    nothing = np.empty(0, np.int64)
    batch = Batch(np.full((3, 8), 7), masked_positions=nothing, target_ids=nothing)
    assert row_losses(model, batch).tolist() == [0.0, 0.0, 0.0]
    assert row_losses(model, batch.rows(0, 0)).size == 0


def test_a_training_begins_with_what_the_reference_knows(configured, tokens, model, tmp_path) -> None:
    config = after(configured, curriculum__start=0.2, curriculum__until=1.0)
    reference = reference_of(config, tokens.tokenizer)
    stream = BatchStream(tokens.train, config, tokens.tokenizer, reference=reference)
    easy, hard = (row_losses(model, stream.batch(step)).mean() for step in (0, 39))
    assert easy < hard
    whole = pretrain(config, tokens=tokens)
    part = after(configured, curriculum__start=0.2, curriculum__until=1.0, run__name="part")
    again = pretrain(part, tokens=tokens)
    assert whole.sha256 == again.sha256
    assert (tmp_path / "cache" / "difficulties").is_dir()


def test_other_weights_are_another_reference(configured, tokens, model) -> None:
    config = after(configured)
    first = reference_of(config, tokens.tokenizer)
    pretrain(configured(run__name="other", run__seed=1), tokens=tokens)
    named_so = config.curriculum.model_copy(update={"reference": "other"})
    other = reference_of(config.model_copy(update={"curriculum": named_so}), tokens.tokenizer)
    assert first.fingerprint == reference_of(config, tokens.tokenizer).fingerprint != other.fingerprint


def test_none_is_loaded_where_none_is_asked_for(configured, tokens) -> None:
    assert reference_of(configured(curriculum__reference="nobody"), tokens.tokenizer) is None


def test_a_reference_that_does_not_fit_is_refused(configured, tokens, model) -> None:
    with pytest.raises(CheckpointError, match="nobody"):
        reference_of(configured(curriculum__kind="loss", curriculum__reference="nobody"), tokens.tokenizer)
    longer = after(configured, model__max_position_embeddings=64)
    with pytest.raises(ConfigError, match="rows of 32 tokens"):
        reference_of(longer, tokens.tokenizer)
    with pytest.raises(ConfigError, match="other pieces"):
        reference_of(after(configured), WordPiece([*tokens.tokenizer.vocabulary, "zzz"]))
