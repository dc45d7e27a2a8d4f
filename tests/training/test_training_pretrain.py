"""The loop: exact resume (R1, R2), non-finite steps (R13), signals (R20), one trainer a run (R22), bad settings."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from mini_bert.data.tokens import open_tokens
from mini_bert.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteError,
    RunInUseError,
    StorageError,
)
from mini_bert.training import checkpoint as checkpoint_module
from mini_bert.training import loop
from mini_bert.training.checkpoint import load_checkpoint
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.parallel import ShardPool
from mini_bert.training.phases import LEARNING_FREQUENCIES
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report

STOPS_FAST = (1, 4, 11, 21, 22, 23, 31, 39)
"""First step, end of the warm-up, middle of an epoch, before its last batch, at it, after it, another epoch, the last.

An epoch has 177 rows, a batch 8: the 23rd batch holds the epoch's last row and the next one's first."""


class Stop(Report):
    """Sends a signal to this process when a step is done."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def ticked(self, result):
        if result.step == self.step:
            os.kill(os.getpid(), self.number)


class Notes(Report):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warnings: list[str] = []
        self.info = self.result = None

    def started(self, info):
        self.info = info
        self.told.append("started")

    def ticked(self, result):
        self.told.append(f"ticked {result.step}")

    def stepped(self, record):
        self.told.append(f"stepped {record['step']}")

    def evaluated(self, record):
        self.told.append(f"evaluated {record['step']}")

    def saved(self, checkpoint):
        self.told.append(f"saved {checkpoint.name}")

    def warned(self, message):
        self.warnings.append(message)

    def finished(self, result):
        self.result = result
        self.told.append("finished")


def losses(run):
    return [
        {name: record[name] for name in ("step", "epoch", "loss", "accuracy", "grad_norm", "lr", "tokens", "phase")}
        for record in read_metrics(run / "metrics.jsonl")
        if record["kind"] == "train"
    ]


# --- what a run leaves behind -----------------------------------------------------------------------------------------


def test_a_run_from_beginning_to_end(configured, tokens):
    scores = iter([9.0, 5.0, 3.0, np.float32(4.0)])
    notes = Notes()
    config = configured(train__save_every=20, train__evaluate_every=15, train__log_every=10)
    result = pretrain(config, tokens=tokens, evaluate=lambda model: {"loss": next(scores), "n": 7}, report=notes)

    assert [line for line in notes.told if not line.startswith("ticked")] == [
        "evaluated 0",
        "started",
        "stepped 10",
        "evaluated 15",
        "saved checkpoint-15",
        "stepped 20",
        "saved checkpoint-20",
        "stepped 30",
        "evaluated 30",
        "saved checkpoint-30",
        "stepped 40",
        "evaluated 40",
        "saved checkpoint-40",
        "finished",
    ]
    assert notes.info.first_step == 0
    assert notes.info.steps == result.step == result.steps == 40
    assert not result.interrupted
    assert result.evaluation == {"kind": "evaluation", "step": 40, "loss": 4.0, "n": 7}
    assert result.model.tokenizer is tokens.tokenizer
    assert result.checkpoint == result.run / "checkpoints" / "checkpoint-40"
    records = read_metrics(result.run / "metrics.jsonl")
    assert [record["kind"] for record in records].count("train") == 4
    assert result.train == [record for record in records if record["kind"] == "train"][-1]
    assert result.train["phase"] == LEARNING_FREQUENCIES
    assert result.train["tokens"] == 40 * 8 * 32
    assert result.train["seconds_left"] == 0
    assert not (result.run / "lock").exists()
    assert load_checkpoint(result.checkpoint).manifest["model_and_optimizer_sha256"] == result.sha256


def test_records_are_means_over_all_masked_tokens(configured, tokens, monkeypatch):
    seen = []
    gradients = ShardPool.gradients

    def watched(self, model, batch, dropout=None, **options):
        sums = gradients(self, model, batch, dropout, **options)
        seen.append((sums.loss_sum, sums.n_masked, sums.n_correct))
        return sums

    class Begin(Report):
        def started(self, info):
            seen.clear()  # what was computed to time it

    monkeypatch.setattr(ShardPool, "gradients", watched)
    run = pretrain(configured(train__steps=8, train__log_every=3), tokens=tokens, report=Begin()).run
    records = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "train"]
    assert [record["step"] for record in records] == [3, 6, 8]
    for record, window in zip(records, (seen[0:3], seen[3:6], seen[6:8]), strict=True):
        loss_sum, masked, correct = (sum(column) for column in zip(*window, strict=True))
        assert record["loss"] == pytest.approx(loss_sum / masked, rel=1e-12)
        assert record["accuracy"] == pytest.approx(correct / masked, rel=1e-12)


def test_the_best_checkpoint_is_the_one_with_the_lowest_held_out_loss(configured, tokens):
    scores = iter([9.0, 5.0, 3.0, 4.0, 3.5])
    config = configured(train__save_every=10, train__evaluate_every=10)
    run = pretrain(config, tokens=tokens, evaluate=lambda model: {"loss": next(scores)}).run
    assert pointed_to(run, "best").name == "checkpoint-20"
    assert [path.name for path in checkpoints(run)] == ["checkpoint-40", "checkpoint-30", "checkpoint-20"]


def test_minutes_become_steps_before_step_one_and_leave_no_trace(configured, tokens):
    config = configured(train__steps=None, train__minutes=0.004, run__name="timed", model__hidden_dropout_prob=0.1)
    timed = pretrain(config, tokens=tokens)
    assert timed.step == timed.steps >= 1
    resolved = (timed.run / "config.yaml").read_text()
    assert f"steps: {timed.steps}\n" in resolved
    assert "minutes: null" in resolved
    counted = pretrain(
        configured(train__steps=timed.steps, run__name="counted", model__hidden_dropout_prob=0.1), tokens=tokens
    )
    assert counted.sha256 == timed.sha256


def test_the_same_run_twice_and_on_more_threads(configured, tokens):
    first, again, wide = (
        pretrain(
            configured(run__name=name, run__threads=threads, train__steps=6, model__hidden_dropout_prob=0.1),
            tokens=tokens,
        )
        for name, threads in (("first", 1), ("again", 1), ("wide", 3))
    )
    assert first.sha256 == again.sha256 == wide.sha256
    assert losses(first.run) == losses(again.run) == losses(wide.run)


# --- resume -----------------------------------------------------------------------------------------------------------

RESUME = """
import json, os, sys
from mini_bert.config.load import load_config
from mini_bert.training.pretrain import pretrain
for name in sys.argv[2:]:
    config = load_config([sys.argv[1]], {"run.name": name, "run.resume": "auto"})
    print(json.dumps([name, pretrain(config).sha256]), flush=True)
"""


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("stops", [STOPS_FAST, pytest.param(tuple(range(1, 40)), marks=pytest.mark.slow)])
def test_a_run_stopped_anywhere_and_resumed_in_a_new_process_is_the_same_run(
    configured, tokens, corpus, tmp_path, monkeypatch, dropout, stops
):
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    settings = {"model__hidden_dropout_prob": dropout, "model__attention_probs_dropout_prob": dropout}
    whole = pretrain(configured(run__name="whole", **settings), tokens=tokens)
    epochs = [record["epoch"] for record in losses(whole.run)]
    assert epochs == [0] * 7 + [1] * 7
    for stop in stops:
        part = pretrain(configured(run__name=f"stop-{stop}", **settings), tokens=tokens, report=Stop(stop))
        assert (part.step, part.signal) == (stop, signal.SIGTERM)

    names = [f"stop-{stop}" for stop in stops]
    command = [sys.executable, "-c", RESUME, str(whole.run / "config.yaml"), *names]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [json.loads(line) for line in answer.splitlines()] == [[name, whole.sha256] for name in names]
    for name in names:
        assert losses(tmp_path / "runs" / name) == losses(whole.run)


@pytest.mark.parametrize("resumes", [3, 10])
def test_many_resumes_see_every_row_once_an_epoch(configured, tokens, monkeypatch, resumes):
    from mini_bert.data.batches import BatchStream

    seen: list[int] = []
    step = loop.training_step
    stream = BatchStream(tokens.train, configured(), tokens.tokenizer)

    def watched(state, batch, *rest):
        rows = stream.row_numbers(state.step)
        expected = stream.batch(state.step)
        assert all(np.array_equal(mine, other) for mine, other in zip(batch, expected, strict=True))
        seen.extend(rows.tolist())
        return step(state, batch, *rest)

    monkeypatch.setattr(loop, "training_step", watched)
    whole = pretrain(configured(run__name="whole"), tokens=tokens)
    rows, seen[:] = list(seen), []
    rows_per_epoch = stream.rows_per_epoch
    assert sorted(rows[:rows_per_epoch]) == list(range(rows_per_epoch))
    for stop in range(1, resumes + 1):
        part = pretrain(configured(run__resume="auto"), tokens=tokens, report=Stop(stop))
        assert part.interrupted
    result = pretrain(configured(run__resume="auto"), tokens=tokens)
    assert seen == rows
    assert result.sha256 == whole.sha256
    assert losses(result.run) == losses(whole.run)


def test_auto_falls_back_to_the_checkpoint_before_and_says_why(configured, tokens):
    whole = pretrain(configured(run__name="whole", train__save_every=10), tokens=tokens)
    pretrain(configured(train__save_every=10), tokens=tokens, report=Stop(27))
    run = whole.run.parent / "small"
    os.truncate(run / "checkpoints" / "checkpoint-27" / "model.safetensors", 99)
    notes = Notes()
    result = pretrain(configured(run__resume="auto", train__save_every=10), tokens=tokens, report=notes)
    assert notes.info.first_step == 20
    assert "checkpoint-27/model.safetensors: got 99 bytes" in notes.warnings[0]
    assert "checkpoint-20" in notes.warnings[0]
    assert result.sha256 == whole.sha256
    assert losses(run) == losses(whole.run)


def test_where_no_checkpoint_holds_nothing_is_begun_anew(configured, tokens):
    run = pretrain(configured(train__steps=3), tokens=tokens).run
    (run / "checkpoints" / "checkpoint-3" / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint that holds.*vocab\.txt"):
        pretrain(configured(train__steps=3, run__resume="auto"), tokens=tokens)


def test_auto_without_a_checkpoint_begins(configured, tokens):
    result = pretrain(configured(train__steps=2, run__resume="auto"), tokens=tokens)
    assert result.step == 2
    again = pretrain(configured(train__steps=None, run__resume="auto"), tokens=tokens)
    assert (again.step, again.steps, again.sha256) == (2, 2, result.sha256)


def test_auto_says_that_there_is_nothing_to_go_on_from(configured, tokens):
    notes = Notes()
    run = pretrain(configured(train__steps=2, run__resume="auto"), tokens=tokens, report=notes).run
    assert notes.warnings == [f"{run} has no checkpoint to go on from. Beginning at step 0."]


def test_a_run_is_no_checkpoint_and_its_newest_is_named(configured, tokens):
    run = pretrain(configured(train__steps=2), tokens=tokens).run
    with pytest.raises(CheckpointError, match=r"which is no checkpoint.*checkpoint-2\."):
        pretrain(configured(run__name="other", run__resume=str(run)), tokens=tokens)


def test_resume_by_path_and_branching_off(configured, tokens):
    whole = pretrain(configured(train__save_every=10, train__keep_checkpoints=4), tokens=tokens)
    folder = whole.run / "checkpoints"
    with pytest.raises(ConfigError, match=r"checkpoint-20.*while .*checkpoint-40"):
        pretrain(configured(run__resume=str(folder / "checkpoint-20")), tokens=tokens)
    branch = pretrain(configured(run__name="branch", run__resume=str(folder / "checkpoint-20")), tokens=tokens)
    assert branch.run.name == "branch"
    assert branch.sha256 == whole.sha256
    assert losses(branch.run) == losses(whole.run)
    assert load_checkpoint(branch.checkpoint).manifest["parent"] == str(whole.run)
    with pytest.raises(ConfigError, match=r"while .*branch has checkpoint-40"):
        pretrain(configured(run__name="branch", run__resume=str(folder / "checkpoint-20")), tokens=tokens)
    unnamed = configured(run__name=None, run__resume=str(folder / "checkpoint-40"))
    assert pretrain(unnamed, tokens=tokens).run == whole.run
    with pytest.raises(CheckpointError, match=r"checkpoint-21, which is no checkpoint.*checkpoint-40\."):
        pretrain(configured(run__name="other", run__resume=str(folder / "checkpoint-21")), tokens=tokens)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train__lr", 2e-3),
        ("train__steps", 41),
        ("train__shards", 2),
        ("model__hidden_size", 48),
        ("run__seed", 1),
        ("masking__rate", 0.2),
        ("data__layout", "sentences"),
    ],
)
def test_a_resume_with_another_setting_names_it(configured, tokens, name, value):
    pretrain(configured(), tokens=tokens, report=Stop(2))
    with pytest.raises(ConfigError, match=rf"{name.replace('__', '.')}: got .*{value}"):
        pretrain(configured(run__resume="auto", **{name: value}), tokens=tokens)


def test_settings_without_effect_may_change(configured, tokens):
    whole = pretrain(configured(run__name="whole"), tokens=tokens)
    pretrain(configured(), tokens=tokens, report=Stop(2))
    changed = {"train__save_every": 7, "train__log_every": 1, "run__threads": 2, "train__in_flight": 1}
    resumed = pretrain(configured(run__resume="auto", train__steps=None, train__minutes=5, **changed), tokens=tokens)
    assert resumed.sha256 == whole.sha256


def test_other_texts_or_another_vocabulary_are_noticed(configured, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    pretrain(configured(), tokens=tokens, report=Stop(2))
    changed = tokens._replace(provenance={**tokens.provenance, "train": {"documents": 1, "tokens": 2}})
    with pytest.raises(DataError, match="data_sha256"):
        pretrain(configured(run__resume="auto"), tokens=changed)
    config = configured()
    smaller = open_tokens(config.data, config.tokenizer, 64, workers=1)
    with pytest.raises(DataError, match="tokenizer_sha256"):
        pretrain(configured(run__resume="auto"), tokens=smaller)


def test_another_machine_is_mentioned(configured, tokens, monkeypatch):
    pretrain(configured(), tokens=tokens, report=Stop(2))
    monkeypatch.setattr(checkpoint_module, "blas_kernel", lambda: "openblas 9.9 Abacus")
    notes = Notes()
    pretrain(configured(run__resume="auto"), tokens=tokens, report=notes)
    assert any("Abacus" in message for message in notes.warnings)


# --- bad settings -----------------------------------------------------------------------------------------------------


def test_names_and_budgets(configured, tokens, tmp_path):
    with pytest.raises(ConfigError, match="neither steps nor minutes"):
        pretrain(configured(train__steps=None), tokens=tokens)
    with pytest.raises(ConfigError, match="neither steps nor minutes"):
        pretrain(configured(train__steps=None, run__resume="auto"), tokens=tokens)
    with pytest.raises(ConfigError, match="--run NAME"):
        pretrain(configured(run__name=None, run__resume="auto"), tokens=tokens)
    for name in ("..", "a/b", ""):
        with pytest.raises(ConfigError, match=r"run\.name"):
            pretrain(configured(run__name=name), tokens=tokens)
    assert not list((tmp_path / "runs").glob("*"))
    run = pretrain(configured(train__steps=1), tokens=tokens).run
    with pytest.raises(ConfigError, match="--resume auto"):
        pretrain(configured(train__steps=1), tokens=tokens)
    assert [path.name for path in checkpoints(run)] == ["checkpoint-1"]
    unnamed = [pretrain(configured(run__name=None, train__steps=1), tokens=tokens).run for _ in range(2)]
    assert unnamed[0] != unnamed[1]


def test_a_second_trainer_is_refused(configured, tokens):
    class Second(Report):
        def ticked(self, result):
            if result.step == 2:
                with pytest.raises(RunInUseError, match=f"process {os.getpid()}"):
                    pretrain(configured(run__resume="auto"), tokens=tokens)

    assert pretrain(configured(train__steps=3), tokens=tokens, report=Second()).step == 3


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["step", "log", "evaluation", "save"])
def test_a_signal_saves_and_stops_within_a_step(configured, tokens, monkeypatch, number, moment):
    step_at_signal = []

    def send(step):
        if not step_at_signal and step >= 4:
            step_at_signal.append(step)
            os.kill(os.getpid(), number)

    class Sender(Report):
        step = 0

        def ticked(self, result):
            self.step = result.step
            if moment == "step":
                send(self.step)

        def stepped(self, record):
            if moment == "log":
                send(self.step)

    sender, fsync = Sender(), os.fsync

    def evaluate(model):
        if moment == "evaluation":
            send(sender.step)
        return {"loss": 1.0}

    def slow_fsync(descriptor):
        if moment == "save":
            send(sender.step)
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    before = signal.getsignal(number)
    config = configured(train__log_every=4, train__save_every=5, train__evaluate_every=5)
    result = pretrain(config, tokens=tokens, evaluate=evaluate, report=sender)
    assert result.signal == number
    assert result.interrupted
    assert result.step - step_at_signal[0] == 0
    assert load_checkpoint(result.checkpoint).state.step == result.step
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait(configured, tokens, tmp_path, monkeypatch):
    fsync = os.fsync

    def interrupted(descriptor):
        os.kill(os.getpid(), signal.SIGINT)
        return fsync(descriptor)

    class Twice(Report):
        def ticked(self, result):
            if result.step == 3:
                monkeypatch.setattr(os, "fsync", interrupted)

    with pytest.raises(KeyboardInterrupt):
        pretrain(configured(train__save_every=3), tokens=tokens, report=Twice())
    monkeypatch.setattr(os, "fsync", fsync)
    assert not list((tmp_path / "runs").rglob(".tmp-*"))
    assert pretrain(configured(run__resume="auto"), tokens=tokens).step == 40


# --- numbers that are none --------------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(monkeypatch):
    """Let the loss be NaN at some steps."""
    gradients = ShardPool.gradients

    def poison(steps):
        def poisoned_gradients(self, model, batch, dropout, **options):
            sums = gradients(self, model, batch, dropout, **options)
            return sums._replace(loss_sum=math.nan) if dropout.step in steps else sums

        monkeypatch.setattr(ShardPool, "gradients", poisoned_gradients)

    return poison


def test_a_step_without_a_finite_loss_is_skipped_and_counted(configured, tokens, poisoned):
    poisoned({5, 6, 7, 8, 12})

    class Watch(Report):
        def ticked(self, result):
            assert result.skipped == (result.step in {5, 6, 7, 8, 12})

    run = pretrain(configured(train__steps=13, train__log_every=1), tokens=tokens, report=Watch()).run
    records = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "train"]
    assert [record["step"] for record in records if record["skipped"]] == [5, 6, 7, 8, 12]
    assert [record["step"] for record in records if record["loss"] is None] == [5, 6, 7, 8, 12]


def test_five_in_a_row_stop_the_run_with_the_last_good_state_saved(configured, tokens, poisoned, tmp_path):
    good = pretrain(configured(run__name="good"), tokens=tokens, report=Stop(6))
    poisoned(set(range(7, 40)))
    for attempt in range(2):
        with pytest.raises(NonFiniteError, match=r"steps 7 to 11.*checkpoint-6.*incident-11"):
            pretrain(configured(run__resume="auto"), tokens=tokens)
        run = tmp_path / "runs" / "small"
        assert [path.name for path in checkpoints(run)] == ["checkpoint-6"], attempt
        saved = load_checkpoint(run / "checkpoints" / "checkpoint-6")
        assert saved.manifest["model_and_optimizer_sha256"] == good.sha256
        assert saved.progress["progress"]["skipped"] == 0
        assert saved.progress["progress"]["tokens"] == 6 * 8 * 32


# --- disks ------------------------------------------------------------------------------------------------------------


def full_from(step):
    """A report that fills the disk after a step, and gives the space back when told to."""
    healthy = os.fsync

    class Full(Notes):
        def ticked(self, result):
            if result.step == step:
                os.fsync = self.fail

        def fail(self, descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def free(self):
            os.fsync = healthy

        def warned(self, message):
            super().warned(message)
            self.free()

    return Full()


def test_a_full_disk_stops_the_run_and_keeps_what_was_saved(configured, tokens):
    whole = pretrain(configured(run__name="whole"), tokens=tokens)
    report = full_from(15)
    try:
        with pytest.raises(StorageError, match=r"No space left on device.*MB free"):
            pretrain(configured(train__save_every=10), tokens=tokens, report=report)
    finally:
        report.free()
    run = whole.run.parent / "small"
    assert [path.name for path in checkpoints(run)] == ["checkpoint-10"]
    resumed = pretrain(configured(run__resume="auto"), tokens=tokens)
    assert not list(run.rglob(".tmp-*"))
    assert resumed.sha256 == whole.sha256
    assert losses(run) == losses(whole.run)


def test_or_training_goes_on_when_told_to(configured, tokens):
    report = full_from(15)
    try:
        result = pretrain(configured(train__save_every=10, train__on_save_error="go-on"), tokens=tokens, report=report)
    finally:
        report.free()
    assert any("No space left" in message for message in report.warnings)
    assert [path.name for path in checkpoints(result.run)] == ["checkpoint-40", "checkpoint-30"]


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import itertools, os, random, signal, sys, threading, time
from mini_bert.config.load import load_config
from mini_bert.data.tokens import open_tokens
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report

BASE, MODE, TRIALS = load_config([sys.argv[1]]), sys.argv[2], int(sys.argv[3])
TOKENS = open_tokens(BASE.data, BASE.tokenizer, BASE.model.vocab_size, workers=1)
CALLS = ("mkdir", "write", "fsync", "rename", "replace", "unlink", "rmdir")

class KillAtCall(Report):
    def __init__(self, number):
        self.left = itertools.count(-number)
    def ticked(self, result):
        if result.step == 3:
            for call in CALLS:
                setattr(os, call, self.counted(getattr(os, call)))
    def counted(self, healthy):
        def call(*arguments, **options):
            if next(self.left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return healthy(*arguments, **options)
        return call

class KillLater(Report):
    def __init__(self, seconds):
        self.seconds = seconds
    def started(self, info):
        def kill():
            time.sleep(self.seconds)
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=kill, daemon=True).start()

def run(name, report, resume=None):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            update = {"name": name, "resume": resume}
            config = BASE.model_copy(update={"run": BASE.run.model_copy(update=update)})
            result = pretrain(config, tokens=TOKENS, report=report)
            print(name, result.sha256, len([p for p in result.run.rglob(".tmp-*")]), flush=True)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

chance = random.Random(0)
for trial in range(TRIALS):
    name = f"{MODE}-{trial}"
    report = KillAtCall(trial * int(sys.argv[4])) if MODE == "call" else KillLater(0.1 * chance.random())
    if run(name, report) == -signal.SIGKILL:
        assert run(name, Report(), "auto") == 0
"""


@pytest.mark.parametrize(
    ("mode", "trials", "stride"),
    [
        ("call", 8, 21),
        ("time", 4, 0),
        pytest.param("call", 170, 1, marks=pytest.mark.slow),
        pytest.param("time", 200, 0, marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_moment_costs_nothing_but_time(configured, tokens, tmp_path, monkeypatch, mode, trials, stride):
    """Saving at each step: killed at the n-th call to the disk from step 3 on, or after up to 0.1 s; then resumed."""
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    whole = pretrain(configured(run__name="whole", train__steps=6, train__save_every=1), tokens=tokens)
    command = [sys.executable, "-c", KILLED, str(whole.run / "config.yaml"), mode, str(trials), str(stride)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert set(answer) == {f"{mode}-{trial} {whole.sha256} 0" for trial in range(trials)}
    for trial in range(trials):
        assert losses(tmp_path / "runs" / f"{mode}-{trial}") == losses(whole.run)
