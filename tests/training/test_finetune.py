"""Fine-tuning: it learns, it begins as it should, and it is a run like any other: killed and resumed to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_toy import TOKENIZER, nearness, saved, sentiment, small_model

from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.data.task_sets.labelled import LabelledSet
from mini_bert.data.tokens import TokenCorpus
from mini_bert.errors import ConfigError, DataError
from mini_bert.model.pretrained import from_pretrained
from mini_bert.training.finetune import LabelledTexts, finetune, finetune_config
from mini_bert.training.model_lookup import find_model
from mini_bert.training.pretrain import pretrain


@pytest.fixture
def configured_labels(tmp_path: Path):
    def make(examples: LabelledSet, epochs: int = 2, start: bool = True, **changes: Any) -> Config:
        base: dict[str, Any] = {
            "run.directory": str(tmp_path / "runs"), "run.name": "labels", "run.threads": 1, "train.lr": 5e-3,
            "train.batch_size": 16, "train.log_every": 4, "tasks.masked_lm": 0.0, "tasks.classification": 1.0,
        }  # fmt: skip
        fields = {name.replace("__", "."): value for name, value in changes.items()}
        folder = saved(tmp_path / "given") if start else None
        config = load_config(["training/finetuning"], {**base, **fields})
        return finetune_config(config, small_model(), None if folder is None else str(folder), examples, epochs)

    return make


def test_a_small_model_learns_the_toy_task_from_texts_it_has_not_seen(configured_labels) -> None:
    config = configured_labels(sentiment(480), epochs=10)
    result = finetune(config, sentiment(480), TOKENIZER)
    from mini_bert.evaluation.classification import evaluate_labelled

    assert evaluate_labelled(result.model, sentiment(100, seed=9))["accuracy"] >= 0.95
    assert result.train["classification_accuracy"] >= 0.9
    assert result.train["phase"] == "learning other tasks"


def test_scores_are_learned_too(configured_labels) -> None:
    from mini_bert.evaluation.classification import evaluate_labelled

    config = configured_labels(nearness(240), epochs=8)
    assert (config.tasks.regression, config.tasks.classification) == (1.0, 0.0)
    result = finetune(config, nearness(240), TOKENIZER)
    assert evaluate_labelled(result.model, nearness(100, seed=9))["pearson"] >= 0.9


def test_it_begins_with_the_given_weights_and_a_head_from_the_seed(configured_labels, tmp_path: Path) -> None:
    config = configured_labels(sentiment())
    model = LabelledTexts(sentiment(), TOKENIZER).first_model(config)
    given = from_pretrained(tmp_path / "given")
    for name, array in given.parameters.items():
        if name in model.parameters:
            np.testing.assert_array_equal(model.parameters[name], array)
    assert model.config.heads == ("classifier",)
    assert model.config.labels == ("negative", "positive")
    other = LabelledTexts(sentiment(), TOKENIZER).first_model(configured_labels(sentiment(), run__seed=1))
    assert (other.parameters["W_classifier"] != model.parameters["W_classifier"]).any()
    assert not model.parameters["b_classifier"].any()


def test_another_tasks_classifier_is_not_taken_but_its_pooler_is(configured_labels, tmp_path: Path) -> None:
    small_model(heads=("classifier",)).save_pretrained(tmp_path / "other")
    config = configured_labels(sentiment(), run__seed=5)
    config = config.model_copy(update={"run": config.run.model_copy(update={"start": str(tmp_path / "other")})})
    model, other = LabelledTexts(sentiment(), TOKENIZER).first_model(config), from_pretrained(tmp_path / "other")
    np.testing.assert_array_equal(model.parameters["W_pooler"], other.parameters["W_pooler"])
    assert (model.parameters["W_classifier"] != other.parameters["W_classifier"]).any()


def test_a_head_for_scores_begins_with_their_mean(configured_labels) -> None:
    examples = nearness()
    model = LabelledTexts(examples, TOKENIZER).first_model(configured_labels(examples))
    assert model.parameters["b_classifier"].tolist() == pytest.approx([examples.labels.mean()])


def test_from_scratch_takes_no_weights(configured_labels, tmp_path: Path) -> None:
    model = LabelledTexts(sentiment(), TOKENIZER).first_model(configured_labels(sentiment(), start=False))
    drawn = small_model(heads=("classifier",), initializer_range=0.02)
    np.testing.assert_array_equal(model.parameters["W_Q_0"], drawn.parameters["W_Q_0"])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("task", ["classes", "scores"])
def test_killed_and_resumed_it_ends_with_the_same_bits(task: str, configured_labels) -> None:
    examples = sentiment() if task == "classes" else nearness(120)
    whole = finetune(configured_labels(examples, epochs=3, run__name="whole"), examples, TOKENIZER)
    calls: list[int] = []

    def killed(model: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted
        return {"loss": 1.0 / len(calls)}

    with pytest.raises(Interrupted):
        finetune(configured_labels(examples, epochs=3, run__name="cut"), examples, TOKENIZER, evaluate=killed)
    resumed = finetune(configured_labels(examples, epochs=3, run__name="cut", run__resume="auto"), examples, TOKENIZER)
    assert resumed.sha256 == whole.sha256


def test_threads_change_no_bits(configured_labels) -> None:
    results = [
        finetune(configured_labels(sentiment(), run__threads=n, run__name=f"threads-{n}"), sentiment(), TOKENIZER)
        for n in (1, 2)
    ]
    assert results[0].sha256 == results[1].sha256


def test_other_examples_are_refused_on_a_resume(configured_labels) -> None:
    finetune(configured_labels(sentiment(), epochs=1), sentiment(), TOKENIZER)
    with pytest.raises(DataError, match="data_sha256"):
        finetune(configured_labels(sentiment(seed=1), epochs=1, run__resume="auto"), sentiment(seed=1), TOKENIZER)


def test_running_text_is_learned_along(configured_labels, tokens: TokenCorpus, tmp_path: Path) -> None:
    """The corpus has a tokenizer of its own, and so the model that is fine-tuned beside it."""
    shape = {"vocab_size": tokens.tokenizer.vocab_size, "heads": ("mlm",)}
    given = small_model(**shape)
    given.tokenizer = tokens.tokenizer
    given.save_pretrained(tmp_path / "words")
    config = configured_labels(sentiment(), tasks__masked_lm=1.0)
    config = finetune_config(
        config.model_copy(update={"train": config.train.model_copy(update={"steps": None})}),
        given,
        str(tmp_path / "words"),
        sentiment(),
        4,
    )
    assert config.model.heads == ("mlm", "classifier")
    result = finetune(config, sentiment(), tokens.tokenizer, replay=tokens)
    assert result.train["loss"] < 4.2  # of 96 pieces: less than guessing, 4.56
    assert "classification_loss" in result.train
    with pytest.raises(ConfigError, match="replayed"):
        finetune(config, sentiment(), tokens.tokenizer)


def test_epochs_are_steps_and_every_one_is_kept(configured_labels, tmp_path: Path) -> None:
    config = configured_labels(sentiment(100), epochs=5)
    train = config.train
    assert (train.steps, train.evaluate_every, train.save_every, train.keep_checkpoints) == (35, 7, 7, 6)
    result = finetune(config, sentiment(100), TOKENIZER)
    kept = sorted(int(path.name.split("-")[1]) for path in (result.run / "checkpoints").iterdir())
    assert kept == [7, 14, 21, 28, 35]


def test_the_chosen_model_is_what_a_run_means(configured_labels, tmp_path: Path) -> None:
    result = finetune(configured_labels(sentiment(), epochs=1), sentiment(), TOKENIZER)
    assert find_model(result.run) == result.checkpoint
    small_model(heads=("classifier",)).save_pretrained(result.run / "model")
    assert find_model(result.run) == result.run / "model"


@pytest.mark.parametrize("setting", ["steps", "minutes"])
def test_a_length_beside_epochs_is_refused(setting: str, configured_labels) -> None:
    with pytest.raises(ConfigError, match=f"train.{setting}.*--epochs"):
        configured_labels(sentiment(), **{f"train__{setting}": 5})


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_running_text_has_no_labels(task: str, configured, tokens: TokenCorpus) -> None:
    with pytest.raises(ConfigError, match=rf"tasks\.{task}.*finetune"):
        pretrain(configured(**{f"tasks__{task}": 1.0}), tokens=tokens)
