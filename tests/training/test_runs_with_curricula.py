"""Runs whose masks, rates and rows change on the way end with the same bits wherever they are stopped."""

from __future__ import annotations

import os
import signal

import pytest

from mini_bert.data.batches import BatchStream, held_out_batches
from mini_bert.errors import ConfigError, DataError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.training.course import from_nothing
from mini_bert.training.material import RunningText
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import Report
from mini_bert.training.resuming import learning_sha256

ADAPTIVE = {
    "masking__rate_schedule": "adaptive",
    "masking__adaptive_target": 0.02,
    "masking__adaptive_step": 0.03,
    "train__evaluate_every": 5,
    "train__log_every": 1,
}
OTHERS = {
    "schedule": {"masking__rate_schedule": "cosine", "masking__rate": 0.4, "masking__final_rate": 0.1},
    "spans": {"masking__kind": "span", "masking__rate_schedule": "linear", "masking__final_rate": 0.3},
    "rare": {"masking__kind": "frequency", "curriculum__kind": "rarity", "curriculum__until": 1.0},
    "collocations": {"masking__kind": "pmi", "masking__span_max": 3},
    "sentences": {"data__layout": "sentences", "curriculum__kind": "length", "curriculum__pacing": "linear"},
    "hard": {"curriculum__kind": "rarity", "curriculum__hard_first": True, "masking__kind": "ngram"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))


class Stop(Report):
    def __init__(self, *steps: int) -> None:
        self.steps = set(steps)

    def ticked(self, result):
        if result.step in self.steps:
            os.kill(os.getpid(), signal.SIGTERM)


def run_in_parts(configured, tokens, name, settings, evaluate=None, stops=(7, 23)):
    result = pretrain(configured(run__name=name, **settings), tokens=tokens, evaluate=evaluate, report=Stop(stops[0]))
    for stop in (*stops[1:], 1000):
        again = configured(run__name=name, run__resume="auto", **settings)
        result = pretrain(again, tokens=tokens, evaluate=evaluate, report=Stop(stop))
    return result


def rates(result):
    records = read_metrics(result.run / "metrics.jsonl")
    return [record["masking_rate"] for record in records if record["kind"] == "train"]


def test_an_adaptive_rate_follows_and_is_resumed(configured, tokens):
    batches = held_out_batches(tokens.held_out, configured(), tokens.tokenizer)

    def evaluate(model):
        return evaluate_masked_lm(model, batches).to_dict()

    whole = pretrain(configured(run__name="whole", **ADAPTIVE), tokens=tokens, evaluate=evaluate)
    parts = run_in_parts(configured, tokens, "parts", ADAPTIVE, evaluate)
    assert parts.sha256 == whole.sha256
    assert rates(parts) == rates(whole)
    found = rates(whole)
    assert found[:5] == [0.15] * 5
    assert len({round(rate, 9) for rate in found}) > 3
    plain = pretrain(configured(run__name="plain", train__evaluate_every=5), tokens=tokens, evaluate=evaluate)
    assert plain.sha256 != whole.sha256


def test_what_an_adaptive_run_is_evaluated_on_belongs_to_it(configured, tokens):
    pretrain(configured(**ADAPTIVE, train__steps=6), tokens=tokens, evaluate=lambda model: {"loss": 1.0, "top1": 0.5})
    changed = {**ADAPTIVE, "train__evaluate_every": 2}
    with pytest.raises(ConfigError, match="evaluate_every"):
        pretrain(configured(run__resume="auto", **changed, train__steps=6), tokens=tokens)


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_runs_are_resumed_to_the_bit(name, configured, tokens):
    settings = OTHERS[name]
    whole = pretrain(configured(run__name="whole", **settings), tokens=tokens)
    parts = run_in_parts(configured, tokens, "parts", settings)
    assert parts.sha256 == whole.sha256
    plain = pretrain(configured(run__name="plain"), tokens=tokens)
    assert whole.sha256 != plain.sha256


def test_a_time_budget_becomes_steps_that_a_schedule_counts_in(configured, tokens):
    settings = {"masking__rate_schedule": "linear", "masking__rate": 0.4, "masking__final_rate": 0.1}
    timed = configured(**settings, train__steps=None, train__minutes=0.01, train__log_every=1)
    result = pretrain(timed, tokens=tokens)
    found = rates(result)
    assert len(found) == result.steps > 2
    a_step = 0.3 / (result.steps - 1)
    assert found[0] == pytest.approx(0.4, abs=1.01 * a_step)
    assert found[-1] == pytest.approx(0.1)


def test_batches_to_time_are_from_all_over_what_is_left(configured, tokens, tmp_path):
    settings = {"masking__rate_schedule": "linear", "masking__rate": 0.8, "masking__final_rate": 0.2}

    def share(course):
        batches = [course.batch_to_time(course.state.step + number) for number in range(20)]
        return sum(len(batch.masked_positions) for batch in batches) / sum(
            batch.input_ids[:, 2:].size for batch in batches
        )

    config = configured(**settings, train__steps=100)
    with ShardPool(1, config.train.shards) as pool:
        course, plain = (
            from_nothing(c, tmp_path / "run", RunningText(tokens), pool, Ranks()) for c in (config, configured())
        )
    assert share(course) == pytest.approx(0.5, abs=0.05)
    course.state.step = 50
    assert share(course) == pytest.approx(0.35, abs=0.05)
    assert (plain.batch_to_time(3).input_ids == plain.stream.batch(3).input_ids).all()


def test_a_budget_of_minutes_is_not_spent_on_the_longest_batches_alone(configured, tokens, monkeypatch):
    asked = []
    monkeypatch.setattr(BatchStream, "rate", lambda self, step: asked.append((step, self.steps)) or 0.15)
    settings = {"masking__rate_schedule": "linear", "masking__rate": 0.4, "masking__final_rate": 0.1}
    pretrain(configured(**settings, train__steps=None, train__minutes=0.001), tokens=tokens)
    timed = [step for step, steps in asked if steps == 1000]
    assert len(timed) >= 5
    assert min(timed) < 300 < 600 < max(timed)


def test_a_scheduled_rate_is_logged_as_it_was_used(configured, tokens):
    settings = {"masking__rate_schedule": "linear", "masking__rate": 0.4, "masking__final_rate": 0.1}
    result = pretrain(configured(run__name="logged", train__log_every=1, **settings), tokens=tokens)
    logged = rates(result)
    steps = len(logged)
    assert logged == pytest.approx([0.4 + (0.1 - 0.4) * step / (steps - 1) for step in range(steps)])


def test_the_masks_that_order_rows_by_their_loss_belong_to_a_run(configured, tokens):
    reference = pretrain(configured(run__name="reference", train__steps=2), tokens=tokens)
    settings = {"curriculum__kind": "loss", "curriculum__reference": str(reference.checkpoint), "train__steps": 4}
    settings["run__name"] = "ordered"
    pretrain(configured(**settings), tokens=tokens)
    with pytest.raises(ConfigError, match="mask_seed"):
        pretrain(configured(run__resume="auto", evaluation__mask_seed=9, **settings), tokens=tokens)
    pretrain(configured(run__name="plain", train__steps=4), tokens=tokens)
    again = configured(run__name="plain", run__resume="auto", evaluation__mask_seed=9, train__steps=4)
    assert pretrain(again, tokens=tokens).step == 4


def test_a_list_of_words_that_has_changed_is_another_one(configured, tokens, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("ba\nke\nlo\nmi\n")
    settings = {"masking__kind": "pattern", "masking__word_list": str(words), "run__name": "listed"}
    assert pretrain(configured(**settings), tokens=tokens, report=Stop(5)).step == 5
    words.write_text("mi\nke\n\nba\nlo\n")
    assert pretrain(configured(**settings, run__resume="auto"), tokens=tokens, report=Stop(7)).step == 7
    words.write_text("ba\nke\n")
    with pytest.raises(DataError, match=r"masking\.word_list.*has changed"):
        pretrain(configured(**settings, run__resume="auto"), tokens=tokens)


def test_settings_that_change_what_is_learned_are_told_apart_by_their_hash(configured):
    def hashed(**settings):
        return learning_sha256(configured(**settings))

    assert hashed(train__evaluate_every=3) == hashed()
    assert hashed(**{**ADAPTIVE, "train__evaluate_every": 3}) != hashed(**ADAPTIVE)
    loss = {"curriculum__kind": "loss", "curriculum__reference": "given"}
    assert hashed(**loss, evaluation__mask_seed=9) != hashed(**loss)


def test_a_reference_that_trains_on_is_another_one(configured, tokens):
    reference = pretrain(configured(run__name="reference", train__steps=8), tokens=tokens)
    settings = {"curriculum__kind": "loss", "curriculum__reference": str(reference.checkpoint), "train__steps": 12}
    first = pretrain(configured(run__name="ordered", **settings), tokens=tokens, report=Stop(5))
    assert first.step == 5
    settings["curriculum__reference"] = "reference"
    with pytest.raises(ConfigError, match=r"curriculum\.reference"):
        pretrain(configured(run__name="ordered", run__resume="auto", **settings), tokens=tokens)

    named = {**settings, "run__name": "by-name"}
    pretrain(configured(**named), tokens=tokens, report=Stop(5))
    pretrain(configured(run__name="more", run__start="reference", train__steps=3), tokens=tokens)
    weights = reference.checkpoint
    other = reference.run.parent / "more" / "checkpoints" / "checkpoint-3"
    other.rename(weights.parent / "checkpoint-9")
    for pointer in (reference.run / "latest",):
        pointer.write_text("checkpoint-9\n")
    with pytest.raises(DataError, match=r"curriculum\.reference.*another reference"):
        pretrain(configured(**named, run__resume="auto"), tokens=tokens)
