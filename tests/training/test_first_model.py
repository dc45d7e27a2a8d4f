"""run.start: another training's weights, a new optimiser, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from mini_bert.errors import CheckpointError, ConfigError
from mini_bert.inference.untrained import untrained_like
from mini_bert.model.bert import MiniBERT
from mini_bert.training.course import from_checkpoint, from_nothing
from mini_bert.training.first_model import drawn_by, first_model
from mini_bert.training.material import RunningText
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.ranks import Ranks
from mini_bert.training.resuming import find_beginning


@pytest.fixture
def given(configured, tokens):
    return pretrain(configured(train__steps=5, run__name="given"), tokens=tokens)


def test_the_weights_are_the_given_ones_and_the_moments_new(configured, tokens, given, tmp_path):
    config = configured(run__start="given", run__name="after", run__seed=3)
    with ShardPool(1, config.train.shards) as pool:
        course = from_nothing(config, tmp_path / "runs" / "after", RunningText(tokens), pool, Ranks())
    np.testing.assert_array_equal(course.state.model.parameters.buffer, given.model.parameters.buffer)
    assert course.state.step == 0
    assert not any(vector.any() for vector in course.state.vectors[1:])


def test_a_run_from_weights_goes_on_to_the_same_bits(configured, tokens, given):
    whole = pretrain(configured(run__start=str(given.checkpoint), run__name="whole", train__steps=8), tokens=tokens)
    drawn = pretrain(configured(run__name="drawn", train__steps=8), tokens=tokens)
    assert whole.sha256 != drawn.sha256
    settings = {"run__start": str(given.checkpoint), "run__name": "halves", "train__steps": 8}

    class Interrupted(Exception):
        pass

    def at_once(model):
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted
        return {}

    calls: list[int] = []
    with pytest.raises(Interrupted):
        pretrain(configured(**settings, train__evaluate_every=4), tokens=tokens, evaluate=at_once)
    resumed = pretrain(configured(**settings, train__evaluate_every=4, run__resume="auto"), tokens=tokens)
    assert resumed.sha256 == whole.sha256


def test_heads_that_the_weights_lack_are_drawn(configured, tokens, given):
    model = first_model(configured(run__start="given", model__heads=("mlm", "nsp")), tokens)
    fresh = MiniBERT(model.config, seed=0)
    np.testing.assert_array_equal(model.parameters["W_nsp"], fresh.parameters["W_nsp"])
    np.testing.assert_array_equal(model.parameters["W1_1"], given.model.parameters["W1_1"])


def test_the_untrained_control_is_drawn_as_the_run_was(configured, tokens):
    """A model's folder does not say how it was first drawn; the run's configuration does."""
    config = configured(
        run__name="drawn", train__steps=1, model__initializer="xavier_normal", model__initializer_range=0.07
    )
    run = pretrain(config, tokens=tokens)
    saved = MiniBERT.from_pretrained(run.checkpoint)
    first = first_model(config, tokens).parameters.buffer
    assert not np.array_equal(untrained_like(saved, config.run.seed).parameters.buffer, first)
    known = drawn_by(saved, config.model)
    np.testing.assert_array_equal(untrained_like(known, config.run.seed).parameters.buffer, first)


def test_a_run_goes_back_to_the_weights_that_it_began_with_or_not_at_all(configured, tokens, given, tmp_path):
    config = configured(run__start="given", run__name="after")
    with ShardPool(1, config.train.shards) as pool:
        course = from_nothing(config, tmp_path / "runs" / "after", RunningText(tokens), pool, Ranks())
    course.state.model.parameters.buffer[...] += 1
    course.go_back()
    np.testing.assert_array_equal(course.state.model.parameters.buffer, given.model.parameters.buffer)
    other = pretrain(configured(train__steps=9, run__name="other"), tokens=tokens)
    other.checkpoint.rename(given.checkpoint.parent / "checkpoint-9")
    with pytest.raises(CheckpointError, match=r"run\.start.*other weights"):
        course.go_back()


def test_a_resumed_run_remembers_the_weights_that_it_began_with(configured, tokens, given):
    settings = {"run__start": "given", "run__name": "after"}
    began = pretrain(configured(**settings, train__steps=2), tokens=tokens)
    manifest = json.loads((began.checkpoint / "manifest.json").read_text())
    assert manifest["start_sha256"] == hashlib.sha256(given.model.parameters.buffer.tobytes()).hexdigest()
    again = find_beginning(configured(**settings, run__resume="auto"), began.run)
    with ShardPool(1, 4) as pool:
        config = configured(**settings, train__steps=2)
        course, _ = from_checkpoint(config, began.run, again, RunningText(tokens), pool, Ranks())
    assert course.facts["start_sha256"] == manifest["start_sha256"]


@pytest.mark.parametrize("classes", [1, 2])
def test_a_classifier_of_other_classes_is_drawn(configured, tokens, classes):
    heads = ("mlm", "classifier")
    settings = {"run__name": "classes", "train__steps": 2, "model__heads": heads, "model__num_labels": classes}
    weights = pretrain(configured(**settings), tokens=tokens).model
    model = first_model(configured(run__start="classes", model__heads=heads, model__num_labels=3), tokens)
    fresh = MiniBERT(model.config, seed=0)
    np.testing.assert_array_equal(model.parameters["W_classifier"], fresh.parameters["W_classifier"])
    np.testing.assert_array_equal(model.parameters["W_pooler"], weights.parameters["W_pooler"])


@pytest.mark.parametrize("change", [{"model__hidden_size": 64}, {"model__hidden_act": "relu"}])
def test_other_architectures_are_refused(configured, tokens, given, change):
    with pytest.raises(ConfigError, match=r"run\.start.*" + next(iter(change)).removeprefix("model__")):
        first_model(configured(run__start="given", **change), tokens)


def test_no_such_weights(configured, tokens):
    with pytest.raises(CheckpointError, match="givn"):
        first_model(configured(run__start="givn"), tokens)


def test_the_decoder_begins_with_the_frequencies_of_the_text(configured, tokens):
    config = configured(model__decoder_bias_init="unigram")
    bias = first_model(config, tokens).parameters["b_vocabulary"]
    ids = np.concatenate([np.asarray(document) for document in tokens.train.documents()])
    counts = np.array([np.sum(ids == piece) for piece in range(config.model.vocab_size)])
    counts[list(tokens.tokenizer.special_ids)] = 0
    np.testing.assert_allclose(bias, np.log((counts + 1) / (counts + 1).sum()), rtol=1e-6)
