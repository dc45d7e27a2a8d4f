"""A run that takes turns (skips, rollbacks, branches) takes the same ones wherever it is stopped, and loses nothing."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mini_bert.data.batches import BatchStream
from mini_bert.errors import NonFiniteError, StorageError
from mini_bert.training import loop
from mini_bert.training.checkpoint import load_checkpoint
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to
from mini_bert.training.metrics_log import MetricsLog, read_metrics
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report


@dataclass
class Faults:
    """Which batches, by number, give a loss that is a spike, and which an update that is skipped."""

    spikes: set[int] = field(default_factory=set)
    skips: set[int] = field(default_factory=set)


@pytest.fixture
def faults(monkeypatch) -> Faults:
    found, number = Faults(), [0]
    batch, step = BatchStream.batch, loop.training_step

    def numbered(self, step, *rate):
        number[0] = step
        return batch(self, step, *rate)

    def faulty(state, *rest):
        if number[0] in found.skips:
            state.step += 1
            nothing = math.nan
            return loop.StepResult(state.step, nothing, nothing, nothing, 1e-3, 256, 0, True)
        result = step(state, *rest)
        return result._replace(loss=1000.0) if number[0] in found.spikes else result

    monkeypatch.setattr(BatchStream, "batch", numbered)
    monkeypatch.setattr(loop, "training_step", faulty)
    return found


class Stop(Report):
    def __init__(self, *steps: int) -> None:
        self.steps = set(steps)

    def ticked(self, result):
        if result.step in self.steps:
            os.kill(os.getpid(), signal.SIGTERM)


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoints(run)]


def falling(model):
    """The best loss at every evaluation."""
    falling.loss -= 0.01
    return {"loss": falling.loss}


@pytest.mark.parametrize("stops", [(13, 26, 39), (36,), (21, 24, 30)])
def test_a_course_that_was_left_is_not_gone_on_with(configured, tokens, faults, stops):
    faults.spikes = {37}
    falling.loss = 9.0
    settings = {"train__save_every": 20, "train__evaluate_every": 6, "health__spike": "roll-back"}
    whole = pretrain(configured(run__name="whole", **settings), tokens=tokens, evaluate=falling)
    assert [r["from_step"] for r in read_metrics(whole.run / "metrics.jsonl") if r["kind"] == "rollback"] == [38]
    falling.loss = 9.0
    for _ in range(8):
        part = pretrain(
            configured(run__resume="auto", **settings), tokens=tokens, evaluate=falling, report=Stop(*stops)
        )
        stops = tuple(step for step in stops if step > part.step)
        if not part.interrupted:
            break
    assert (part.step, part.sha256) == (40, whole.sha256)


@pytest.mark.parametrize("stop", [None, 30, 33])
def test_a_postponed_checkpoint_is_what_a_rollback_leads_to(configured, tokens, faults, stop):
    """Step 30 is skipped, so its checkpoint is saved after step 31; the spike of step 38 leads back to it."""
    faults.skips, faults.spikes = {29}, {37}
    settings = {"train__save_every": 10, "health__spike": "roll-back"}
    whole = pretrain(configured(run__name="whole", **settings), tokens=tokens)
    if stop is not None:
        pretrain(configured(**settings), tokens=tokens, report=Stop(stop))
    result = pretrain(configured(run__resume="auto", **settings), tokens=tokens)
    assert result.sha256 == whole.sha256
    rollbacks = [r for r in read_metrics(result.run / "metrics.jsonl") if r["kind"] == "rollback"]
    assert [(r["step"], r["from_step"]) for r in rollbacks] == [(31, 38)]


def test_a_branch_has_a_checkpoint_of_its_own_at_once(configured, tokens, faults):
    origin = pretrain(configured(run__name="origin"), tokens=tokens, report=Stop(25)).run
    faults.spikes = {27}
    settings = {"run__name": "branch", "train__save_every": 10, "health__spike": "roll-back"}
    branch = pretrain(
        configured(run__resume=str(origin / "checkpoints" / "checkpoint-25"), **settings),
        tokens=tokens,
        report=Stop(26),
    )
    assert names(branch.run) == ["checkpoint-26", "checkpoint-25"]
    result = pretrain(configured(run__resume="auto", **settings), tokens=tokens)
    (rollback,) = [r for r in read_metrics(result.run / "metrics.jsonl") if r["kind"] == "rollback"]
    assert (rollback["step"], rollback["from_step"]) == (25, 28)


@pytest.mark.parametrize("stop", [None, 16, 18])
def test_giving_up_leads_to_before_the_first_skip_wherever_the_run_was_stopped(configured, tokens, faults, stop):
    faults.skips = set(range(14, 40))
    if stop is not None:
        pretrain(configured(), tokens=tokens, report=Stop(stop))
    with pytest.raises(NonFiniteError, match="steps 15 to 19"):
        pretrain(configured(run__resume="auto"), tokens=tokens)
    run = Path(configured().run.directory) / "small"
    assert names(run) == ["checkpoint-14"]
    saved = load_checkpoint(run / "checkpoints" / "checkpoint-14").progress
    assert (saved["progress"]["skipped"], saved["health"]["skipped_in_a_row"], saved["health"]["lr_scale"]) == (0, 0, 1)
    faults.skips = set()
    whole = pretrain(configured(run__name="whole"), tokens=tokens)
    assert pretrain(configured(run__resume="auto"), tokens=tokens).sha256 == whole.sha256


def test_whoever_watches_may_go_away(configured, tokens):
    class Pipe(Report):
        told = 0

        def stepped(self, record):
            self.told += 1
            raise BrokenPipeError("nobody reads this")

    pipe = Pipe()
    result = pretrain(configured(), tokens=tokens, report=pipe)
    assert (result.step, pipe.told) == (40, 1)
    assert "reports are dropped" in (result.run / "run.log").read_text()


def test_an_evaluation_that_fails_costs_no_step(configured, tokens):
    def evaluate(model, calls=[]):  # noqa: B006  (counts)
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return {"loss": 5.0}

    with pytest.raises(ZeroDivisionError):
        pretrain(configured(train__evaluate_every=13), tokens=tokens, evaluate=evaluate)
    run = Path(configured().run.directory) / "small"
    assert names(run)[0] == "checkpoint-26"
    assert pretrain(configured(run__resume="auto"), tokens=tokens).step == 40


def test_a_loss_that_is_no_number_is_no_best(configured, tokens):
    scores = iter([9.0, math.nan, math.inf, 5.0, 6.0])
    config = configured(train__evaluate_every=10)
    run = pretrain(config, tokens=tokens, evaluate=lambda model: {"loss": next(scores)}).run
    assert pointed_to(run, "best").name == "checkpoint-30"


def test_a_run_that_stopped_early_goes_on_with_more_patience(configured, tokens):
    def rising(model, calls=[]):  # noqa: B006  (counts)
        calls.append(1)
        return {"loss": 4.0 + len(calls)}

    settings = {"train__evaluate_every": 5, "train__log_every": 10}
    stopped = pretrain(configured(health__stop_after_evaluations=2, **settings), tokens=tokens, evaluate=rising)
    assert (stopped.step, stopped.train["step"]) == (15, 15)
    (stopped.run / "metrics.jsonl").unlink()  # a log that is gone does not stop it either
    patient = configured(run__resume="auto", health__stop_after_evaluations=2, **settings)
    assert pretrain(patient, tokens=tokens, evaluate=rising).sha256 == stopped.sha256
    again = configured(run__resume="auto", health__stop_after_evaluations=20, **settings)
    assert pretrain(again, tokens=tokens, evaluate=rising).step == 40


def test_records_wait_for_a_disk_with_room(configured, tokens, monkeypatch):
    whole = pretrain(configured(run__name="whole", train__log_every=1), tokens=tokens)
    write, refused = MetricsLog.write, []

    def full_for_a_while(self, record):
        if record.get("kind") == "train" and 10 <= record["step"] < 20 and len(refused) < 6:
            refused.append(record["step"])
            raise StorageError("metrics.jsonl", got="No space left on device", expected="space")
        write(self, record)

    monkeypatch.setattr(MetricsLog, "write", full_for_a_while)
    config = configured(train__log_every=1, train__on_save_error="go-on")
    run = pretrain(config, tokens=tokens).run
    losses = [
        [r["loss"] for r in read_metrics(each / "metrics.jsonl") if r["kind"] == "train"] for each in (run, whole.run)
    ]
    assert refused
    assert losses[0] == losses[1]
    refused.clear()
    with pytest.raises(StorageError):
        pretrain(configured(run__name="stops", train__log_every=1), tokens=tokens)


def test_the_state_of_a_checkpoint_says_whether_it_was_saved_in_its_turn(configured, tokens):
    falling.loss = 9.0
    config = configured(train__save_every=20, train__evaluate_every=15, train__keep_checkpoints=9)
    run = pretrain(config, tokens=tokens, evaluate=falling).run
    turns = {
        path.name: json.loads((path / "training_state.json").read_text())["progress"]["in_turn"]
        for path in checkpoints(run)
    }
    assert turns == {"checkpoint-15": False, "checkpoint-20": True, "checkpoint-30": False, "checkpoint-40": False}
