"""Runs with several tasks: sums through shards and threads, what is recorded, and resumes to the bit."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.evaluation.tasks import HeldOut
from mini_bert.model.bert import MiniBERT
from mini_bert.model.tasks import task_losses_and_gradients, with_task_heads
from mini_bert.random_streams import RandomStream
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.non_finite import find_non_finite
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report
from mini_bert.training.step import TrainingState, training_step

TASKS: dict[str, dict[str, Any]] = {
    "next sentence": {"tasks.next_sentence": 0.5},
    "sentence order": {"tasks.sentence_order": 0.5},
    "token order": {"tasks.token_order": 2.0},
    "replaced by frequency": {"tasks.replaced_token": 5.0},
    "replaced by the model": {"tasks.replaced_token": 5.0, "tasks.replacements": "model"},
    "all at once": {
        "tasks.next_sentence": 0.5, "tasks.sentence_order": 0.5, "tasks.token_order": 2.0, "tasks.replaced_token": 5.0,
    },
    "none but token order": {"tasks.masked_lm": 0.0, "tasks.token_order": 1.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of many short sentences."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("stories")
    words = ["ba", "keba", "lo", "milo", "nu", "ranu", "se", "tise", "bamilo", "kese"]
    for number in range(40):
        sentences = [" ".join(rng.choice(words, 4)).capitalize() + "." for _ in range(40)]
        (folder / f"{number:02}.txt").write_text(" ".join(sentences))
    return folder


@pytest.fixture(scope="module")
def told(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenCorpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINI_BERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = settings_of(stories, stories)
        return open_tokens(config.data, config.tokenizer, config.model.vocab_size, workers=1)


def settings_of(stories: Path, folder: Path, **changes: Any) -> Config:
    return load_config(
        ["training/debugging"],
        {
            "data.corpus": [f"{stories}/*.txt"],
            "data.held_out_fraction": 0.2,
            "data.held_out_rows": 12,
            "run.directory": str(folder / "runs"),
            "run.name": "tasks",
            "run.threads": 1,
            "model.vocab_size": 43,
            "train.steps": 40,
            "train.log_every": 3,
            "train.save_every": 100,
            "train.evaluate_every": 100,
            **changes,
        },
    )


@pytest.fixture
def settings(stories: Path, tmp_path: Path) -> Callable[..., Config]:
    return lambda **changes: settings_of(stories, tmp_path, **changes)


class Stop(Report):
    def __init__(self, step: int) -> None:
        self.step = step

    def ticked(self, result: Any) -> None:
        if result.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("tasks", TASKS)
def test_a_run_of_each_task_resumes_exactly(settings: Any, told: TokenCorpus, tasks: str) -> None:
    whole = pretrain(settings(**TASKS[tasks], **{"run.name": "whole"}), tokens=told)
    stopped = pretrain(settings(**TASKS[tasks]), tokens=told, report=Stop(17))
    assert stopped.step == 17
    resumed = pretrain(settings(**TASKS[tasks], **{"run.resume": "auto"}), tokens=told)
    assert resumed.step == 40
    assert resumed.sha256 == whole.sha256
    timeless = [
        [{k: v for k, v in r.items() if "second" not in k} for r in read_metrics(run.run / "metrics.jsonl")]
        for run in (whole, resumed)
    ]
    first, second = ([r for r in records if r["kind"] == "train"] for records in timeless)
    assert first == second


@pytest.mark.parametrize("tasks", ["all at once", "replaced by the model"])
def test_threads_and_shards_in_flight_change_no_bit(settings: Any, told: TokenCorpus, tasks: str) -> None:
    config = with_task_heads(settings(**TASKS[tasks], **{"model.hidden_dropout_prob": 0.1}))
    model, batch = MiniBERT(config.model), BatchStream(told.train, config, told.tokenizer).batch(2)
    results = []
    for threads, in_flight in ((1, 1), (2, 2), (3, 2)):
        with ShardPool(threads, 4, in_flight=in_flight) as pool:
            summed = pool.gradients(model, batch, RandomStream(0, "dropout", 3))
            results.append((summed.gradient.tobytes(), summed.tasks, summed.total_loss))
    assert results[0] == results[1] == results[2]


def test_shards_sum_to_the_weighted_mean_of_the_whole_batch(settings: Any, told: TokenCorpus) -> None:
    config = with_task_heads(settings(**TASKS["all at once"]))
    model, batch = MiniBERT(config.model, np.float64), BatchStream(told.train, config, told.tokenizer).batch(0)
    grads = type(model.parameters)(config.model, np.float64)
    expected = task_losses_and_gradients(model, batch, grads)
    for shards in (1, 3, 5):
        with ShardPool(1, shards) as pool:
            summed = pool.gradients(model, batch)
            np.testing.assert_allclose(summed.gradient, grads.buffer, rtol=0, atol=1e-13)
            assert summed.divisor == 1
        assert list(summed.tasks) == list(expected)
        for task, of in summed.tasks.items():
            assert of == (pytest.approx(expected[task].loss, rel=1e-12), *expected[task][1:])
            question = next(q for q in batch.questions if q.task == task)
            assert of.items == question.items
        weights = {q.task: q.weight for q in batch.questions}
        total = sum(weights[task] * of.loss / of.items for task, of in expected.items())
        assert summed.total_loss == pytest.approx(total, rel=1e-12)
        assert summed[:3] == summed.tasks["masked_lm"]


def test_more_shards_than_rows(settings: Any, told: TokenCorpus) -> None:
    config = with_task_heads(settings(**TASKS["all at once"]))
    model, batch = MiniBERT(config.model), BatchStream(told.train, config, told.tokenizer).batch(0)
    with ShardPool(1, len(batch.input_ids) + 3) as pool:
        assert pool.gradients(model, batch).tasks["token_order"].items == batch.questions[3].items


def test_records_name_every_task(settings: Any, told: TokenCorpus) -> None:
    config = settings(**TASKS["all at once"], **{"train.steps": 6})
    result = pretrain(config, tokens=told, evaluate=HeldOut(told.held_out, with_task_heads(config), told.tokenizer))
    records = read_metrics(result.run / "metrics.jsonl")
    trained = [record for record in records if record["kind"] == "train"]
    names = ("next_sentence", "sentence_order", "token_order", "replaced_token")
    for record in (*trained, *(record for record in records if record["kind"] == "evaluation")):
        for name in names:
            assert 0 < record[f"{name}_loss"] < 2
            assert 0 <= record[f"{name}_accuracy"] <= 1
        assert "masked_lm_loss" not in record
    assert trained[-1]["total_loss"] > trained[-1]["loss"], "the weighted sum, and the masked language model's"
    assert "perplexity" in result.evaluation
    saved = json.loads((result.checkpoint / "config.json").read_text())
    assert saved["heads"] == ["mlm", "nsp", "sop", "std", "rtd"]
    again = MiniBERT.from_pretrained(result.checkpoint)
    assert again.parameters.buffer.tobytes() == result.model.parameters.buffer.tobytes()


def test_next_sentence_beside_masks_is_a_bert_for_pre_training(settings: Any, told: TokenCorpus) -> None:
    result = pretrain(settings(**TASKS["next sentence"], **{"train.steps": 2}), tokens=told)
    saved = json.loads((result.checkpoint / "config.json").read_text())
    assert saved["architectures"] == ["BertForPreTraining"]
    assert "heads" not in saved


def test_a_run_without_masked_lm_minimises_what_it_records(settings: Any, told: TokenCorpus) -> None:
    config = settings(**TASKS["none but token order"], **{"train.steps": 9})
    result = pretrain(config, tokens=told, evaluate=HeldOut(told.held_out, with_task_heads(config), told.tokenizer))
    for record in read_metrics(result.run / "metrics.jsonl"):
        if record["kind"] == "train":
            assert record["loss"] == pytest.approx(record["total_loss"], rel=1e-12)
            assert record["accuracy"] == pytest.approx(record["token_order_accuracy"], rel=1e-12)
            assert record["phase"] == "learning other tasks", "frequencies say nothing about such a loss"
    assert result.evaluation["loss"] == result.evaluation["total_loss"] == result.evaluation["token_order_loss"]


def test_a_run_without_tasks_records_what_it_did(settings: Any, told: TokenCorpus) -> None:
    result = pretrain(settings(**{"train.steps": 3}), tokens=told)
    (record,) = (r for r in read_metrics(result.run / "metrics.jsonl") if r["kind"] == "train")
    assert not [key for key in record if "token_" in key or "sentence" in key or "total" in key]


@pytest.mark.parametrize("tasks", ["token order", "sentence order"])
def test_a_task_is_learned(settings: Any, told: TokenCorpus, tasks: str) -> None:
    """One batch over and over is learned by heart."""
    config = with_task_heads(settings(**TASKS[tasks], **{"train.lr": 3e-3, "tasks.masked_lm": 0.0}))
    state = TrainingState.fresh(MiniBERT(config.model, seed=0))
    batch = BatchStream(told.train, config, told.tokenizer).batch(0).rows(0, 8)
    batch = batch._replace(questions=tuple(q._replace(items=q.positions.size) for q in batch.questions))
    with ShardPool(1, 2) as pool:
        losses = [training_step(state, batch, config, 200, pool).loss for _ in range(120)]
    assert losses[-1] < 0.35 * losses[0]


def test_a_number_that_is_not_finite_is_found_in_a_task(settings: Any, told: TokenCorpus) -> None:
    config = with_task_heads(settings(**TASKS["all at once"]))
    model, batch = MiniBERT(config.model), BatchStream(told.train, config, told.tokenizer).batch(0)
    model.parameters["W_std"][...] = 3e38
    with ShardPool(1, 2) as pool:
        with pytest.raises(FloatingPointError):
            pool.gradients(model, batch)
        state = TrainingState.fresh(model)
        result = training_step(state, batch, config, 10, pool)
    assert result.skipped
    assert math.isnan(result.total_loss)
    found = find_non_finite(model, batch, None, 2)
    assert (found.name, found.direction) == ("token_order.logits", "forward")
    assert (found.kind, found.op) == ("overflow", "ops/linear.py")
