"""What the loop does when a run does not go well, or has had enough: remedies, early stops, memory, forecasts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from mini_bert.training import journal as journal_module
from mini_bert.training import loop
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to
from mini_bert.training.health import PASSED_OVER
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report


class Notes(Report):
    """Remembers warnings, and sends SIGTERM after a step."""

    def __init__(self, stop: int | None = None) -> None:
        self.warnings: list[str] = []
        self.info = None
        self.stop = stop

    def started(self, info):
        self.info = info

    def warned(self, message):
        self.warnings.append(message)

    def ticked(self, result):
        if result.step == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)


def scores(losses: dict[int, float]):
    """An evaluation that gives the loss of the step it is made at."""
    return lambda model: {"loss": losses[model_steps[-1]]}


model_steps: list[int] = [0]


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Let `model_steps` end with the number of steps done."""
    step = loop.training_step
    model_steps[:] = [0]

    def counting(state, *rest):
        result = step(state, *rest)
        model_steps.append(state.step)
        return result

    monkeypatch.setattr(loop, "training_step", counting)


def kinds(run: Path, kind: str) -> list[dict]:
    return [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == kind]


FALLING_THEN_NOT = {0: 6.0, 5: 5.0, 10: 4.0, 15: 4.5, 20: 4.2, 25: 4.1, 30: 4.3, 35: 4.4, 40: 4.0}


def test_a_run_that_no_longer_gets_better_ends_and_keeps_its_best(configured, tokens):
    settings = {"train__evaluate_every": 5, "health__stop_after_evaluations": 3, "train__save_every": 100}
    notes = Notes()
    result = pretrain(configured(**settings), tokens=tokens, evaluate=scores(FALLING_THEN_NOT), report=notes)
    assert (result.step, result.steps, result.interrupted) == (25, 40, False)
    assert "3 evaluations up to step 25" in result.stopped
    assert any(message.startswith("Stopping early") for message in notes.warnings)
    assert pointed_to(result.run, "best").name == "checkpoint-10"
    assert checkpoints(result.run)[0].name == "checkpoint-25"
    assert json.loads((result.run / "manifest.json").read_text())["starts"][-1]["end"]["ended"] == "early stop"

    again = pretrain(configured(run__resume="auto", **settings), tokens=tokens, evaluate=scores(FALLING_THEN_NOT))
    assert (again.step, again.sha256, again.stopped) == (25, result.sha256, result.stopped)


@pytest.mark.parametrize("stop", [7, 15, 20, 21])
def test_a_stop_does_not_change_when_the_rate_is_cut_or_the_run_ends(configured, tokens, stop):
    settings = {
        "train__evaluate_every": 5,
        "health__lr_cut_after_evaluations": 2,
        "health__stop_after_evaluations": 5,
        "train__log_every": 1,
    }
    evaluate = scores(FALLING_THEN_NOT)
    whole = pretrain(configured(run__name="whole", **settings), tokens=tokens, evaluate=evaluate)
    rates = [record["lr"] for record in kinds(whole.run, "train")]
    assert [record["step"] for record in kinds(whole.run, "remedy") if record["remedy"] == "cut"] == [20, 30]
    assert rates[20] / rates[19] == pytest.approx(0.5 * (40 - 20) / (40 - 19), rel=1e-12)  # linear, and halved
    pretrain(configured(**settings), tokens=tokens, evaluate=evaluate, report=Notes(stop))
    rest = pretrain(configured(run__resume="auto", **settings), tokens=tokens, evaluate=evaluate)
    assert rest.sha256 == whole.sha256
    assert [record["lr"] for record in kinds(rest.run, "train")] == rates
    assert kinds(rest.run, "remedy") == kinds(whole.run, "remedy")


def test_a_best_loss_is_saved_at_once(configured, tokens):
    result = pretrain(
        configured(train__evaluate_every=5, train__save_every=100), tokens=tokens, evaluate=scores(FALLING_THEN_NOT)
    )
    assert [path.name for path in checkpoints(result.run)] == ["checkpoint-40", "checkpoint-10"]
    assert pointed_to(result.run, "best").name == "checkpoint-10"


def test_the_forecast_is_told_and_recorded(configured, tokens):
    notes = Notes()
    result = pretrain(configured(), tokens=tokens, report=notes)
    told = notes.info.forecast
    assert (told.steps, told.first_step, told.parameters) == (40, 0, result.model.parameters.buffer.size)
    assert told.tokens == 40 * 8 * 32
    recorded = kinds(result.run, "start")[0]["forecast"]
    assert recorded["step_seconds"] == told.step_seconds > 0


def test_memory_that_runs_out_costs_time_and_no_bit(configured, tokens, monkeypatch):
    from mini_bert.training import parallel

    whole = pretrain(configured(run__name="whole", run__threads=2, train__steps=9), tokens=tokens)
    shard, left = parallel._shard, [0]

    def starved(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError
        return shard(*arguments, **options)

    class Starve(Notes):
        def started(self, info):
            left[0] = 14

    monkeypatch.setattr(parallel, "_shard", starved)
    notes = Starve()
    result = pretrain(configured(run__threads=2, train__steps=9), tokens=tokens, report=notes)
    assert result.sha256 == whole.sha256
    assert [message for message in notes.warnings if "Memory ran out with 2 shards at once" in message]


def test_what_ended_a_run_stands_in_its_manifest_and_its_log(configured, tokens):
    class Bug(Report):
        def ticked(self, result):
            if result.step == 3:
                raise RuntimeError("a bug of somebody's")

    with pytest.raises(RuntimeError):
        pretrain(configured(), tokens=tokens, report=Bug())
    run = Path(configured().run.directory) / "small"
    ended = json.loads((run / "manifest.json").read_text())["starts"][-1]["end"]
    assert ended["ended"] == "failed: RuntimeError: a bug of somebody's"
    assert (ended["step"], ended["sha256"]) == (3, None)
    events = [json.loads(line) for line in (run / "run.log").read_text().splitlines()]
    assert events[-1]["level"] == "error"
    result = pretrain(configured(run__resume="auto"), tokens=tokens)
    ended = json.loads((run / "manifest.json").read_text())["starts"][-1]["end"]
    assert (ended["ended"], ended["step"], ended["sha256"]) == ("finished", 40, result.sha256)


def test_trackers_get_every_record_and_one_that_fails_is_dropped(configured, tokens, monkeypatch):
    class Good:
        def __init__(self) -> None:
            self.records, self.closed = [], 0

        def log(self, record):
            self.records.append(dict(record))

        def close(self):
            self.closed += 1

    class Broken(Good):
        def log(self, record):
            super().log(record)
            raise ConnectionError("no network")

    good, broken = Good(), Broken()
    monkeypatch.setattr(journal_module, "open_trackers", lambda names, run, config: [broken, good])
    notes = Notes()
    result = pretrain(configured(), tokens=tokens, report=notes)
    assert good.records == read_metrics(result.run / "metrics.jsonl")
    assert (good.closed, len(broken.records)) == (1, 1)
    assert [message for message in notes.warnings if "Broken failed and is dropped: ConnectionError" in message]


def test_settings_of_health_may_change_where_a_run_goes_on(configured, tokens):
    pretrain(configured(), tokens=tokens, report=Notes(stop=5))
    result = pretrain(configured(run__resume="auto", health__lr_cut_after_skips=2), tokens=tokens)
    assert result.step == 40


def test_a_spike_goes_back_and_meets_other_batches(configured, tokens, monkeypatch):
    """At step 30 the loss is far above the others: back to step 20, and on with the batches from 30 on."""
    met: list[int] = []
    step = loop.training_step

    def spiking(state, batch, *rest):
        result = step(state, batch, *rest)
        met.append(int(batch.input_ids.sum()))
        return result._replace(loss=50.0) if len(met) == 30 else result

    monkeypatch.setattr(loop, "training_step", spiking)
    config = configured(train__save_every=10, health__spike="roll-back")
    notes = Notes()
    result = pretrain(config, tokens=tokens, report=notes)
    assert result.step == 40
    from mini_bert.data.batches import BatchStream

    stream = BatchStream(tokens.train, config, tokens.tokenizer)
    numbers = [*range(30), *range(30 + PASSED_OVER, 50 + PASSED_OVER)]
    assert met == [int(np.sum(stream.batch(number).input_ids)) for number in numbers]
    (rollback,) = kinds(result.run, "rollback")
    assert (rollback["step"], rollback["from_step"], rollback["batch_offset"]) == (20, 30, 10 + PASSED_OVER)
    steps = [record["step"] for record in kinds(result.run, "train")]
    assert steps == sorted(set(steps))
    assert any("Went back from step 30 to step 20" in message for message in notes.warnings)
