"""Trackers get the very records of metrics.jsonl; here with packages that only write down what they are told."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from mini_bert.config.schema import Config
from mini_bert.errors import ConfigError, MissingExtraError
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report
from mini_bert.training.trackers import TRACKERS, flat, open_trackers, scalars
from mini_bert.training.trackers.identity import keep, kept

CONFIG = Config()


def package(monkeypatch, name, **contents):
    """A package of this name that has these contents, and nothing else."""
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    made.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, made)


def start(step):
    return {"kind": "start", "step": step, "steps": 40}


def train(step, loss=1.0):
    return {"kind": "train", "step": step, "loss": loss, "phase": "words"}


@pytest.fixture
def tensorboard(monkeypatch):
    """What was written, a list of points for each event file, with `purge_step` first."""
    files = []

    class SummaryWriter:
        def __init__(self, folder, purge_step, filename_suffix):
            self.points = [purge_step]
            files.append(self.points)

        def add_text(self, name, text, step):
            assert name == "config"
            assert "\n  vocab_size: " in text

        def add_scalar(self, name, value, step):
            self.points.append((name, value, step))

        def flush(self):
            pass

        def close(self):
            self.points.append("closed")

    package(monkeypatch, "tensorboardX", SummaryWriter=SummaryWriter)
    return files


def test_numbers_of_a_record():
    record = {"kind": "evaluation", "step": 3, "loss": 5.5, "n": 2, "ok": True, "no": None, "nan": float("nan")}
    assert scalars({**record, "interval": [5, 6], "by": {"length": {"1": 2.5}}, "name": "x"}) == {
        "evaluation/loss": 5.5,
        "evaluation/n": 2.0,
        "evaluation/by/length/1": 2.5,
    }
    assert scalars({**start(0), "environment": {"threads": 2}}) == {}
    assert flat(CONFIG)["train.lr"] == CONFIG.train.lr


def test_unknown_trackers_and_missing_packages_are_named(tmp_path, monkeypatch):
    assert open_trackers((), tmp_path, CONFIG) == []
    with pytest.raises(ConfigError, match="Did you mean 'tensorboard'"):
        open_trackers(["tensorbord"], tmp_path, CONFIG)
    for name, needed in TRACKERS.items():
        monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
        with pytest.raises(MissingExtraError, match=rf"no package {needed}.*pip install 'mini-bert\[{name}\]'"):
            open_trackers([name], tmp_path, CONFIG)


def test_nothing_is_written_before_the_first_record(tmp_path, tensorboard):
    (tracker,) = open_trackers(["tensorboard", "tensorboard"], tmp_path, CONFIG)
    tracker.close()
    assert not tensorboard
    assert not list(tmp_path.iterdir())


def test_tensorboard_declares_void_what_comes_again(tmp_path, tensorboard):
    (first,) = open_trackers(["tensorboard"], tmp_path, CONFIG)
    for record in ({"kind": "evaluation", "step": 0, "loss": 9.0}, start(0), train(1), train(2)):
        first.log(record)
    (second,) = open_trackers(["tensorboard"], tmp_path, CONFIG)
    for record in (start(1), train(2), train(3), {"kind": "rollback", "step": 2, "from_step": 3}, train(3, 0.5)):
        second.log(record)
    second.close()
    loss = "train/loss"
    assert tensorboard == [
        [0, ("evaluation/loss", 9.0, 0), (loss, 1.0, 1), (loss, 1.0, 2)],
        [2, (loss, 1.0, 2), (loss, 1.0, 3), "closed"],
        [3, ("rollback/from_step", 3.0, 2), (loss, 0.5, 3), "closed"],
    ]


def test_wandb_keeps_one_run_for_a_run_that_goes_on(tmp_path, monkeypatch):
    begun, logged = [], []

    def init(**settings):
        begun.append(settings)
        return SimpleNamespace(log=logged.append, define_metric=lambda *names, **axes: None, finish=lambda: None)

    package(monkeypatch, "wandb", init=init, Settings=lambda **settings: settings)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for records in ([start(0), train(1)], [start(1), train(2)], [train(0)]):
        (tracker,) = open_trackers(["wandb"], tmp_path / "name", CONFIG)
        (tmp_path / "name").mkdir(exist_ok=True)
        for record in records:
            tracker.log(record)
        tracker.close()
    assert begun[0]["id"] == begun[1]["id"] != begun[2]["id"]
    for settings in begun:
        assert (settings["name"], settings["project"], settings["resume"]) == ("name", "mini-bert", "allow")
        assert settings["config"] == CONFIG.to_dict()
        assert settings["dir"] == str(tmp_path / "name")
    assert {"step": 2, "train/loss": 1.0} in logged


def test_what_is_remembered_of_a_tracker_survives_damage_of_its_file(tmp_path):
    assert kept(tmp_path, "wandb") == {}
    keep(tmp_path, "wandb", {"id": "1"})
    keep(tmp_path, "mlflow", {"run_id": "2"})
    assert (kept(tmp_path, "wandb"), kept(tmp_path, "mlflow")) == ({"id": "1"}, {"run_id": "2"})
    for content in (b"{", b"[]", b'{"wandb": 3}', b'{"wandb": {"id": 4}}'):
        (tmp_path / "trackers.json").write_bytes(content)
        assert kept(tmp_path, "wandb") == {}
    keep(tmp_path, "wandb", {"id": "5"})
    assert kept(tmp_path, "wandb") == {"id": "5"}


def test_a_training_tells_its_tracker_all_that_its_log_says(configured, tokens, tensorboard):
    result = pretrain(configured(run__trackers=["tensorboard"]), tokens=tokens, evaluate=lambda model: {"loss": 4.0})
    (points,) = tensorboard
    records = read_metrics(result.run / "metrics.jsonl")
    expected = [(name, value, record["step"]) for record in records for name, value in scalars(record).items()]
    assert points == [0, *expected, "closed"]
    assert len(expected) > 100


def test_a_tracker_that_fails_is_dropped_and_training_goes_on(configured, tokens, monkeypatch):
    warnings = []

    class Told(Report):
        def warned(self, message):
            warnings.append(message)

    def fail(*arguments, **options):
        raise RuntimeError("no connection")

    package(monkeypatch, "tensorboardX", SummaryWriter=fail)
    alone = pretrain(configured(run__name="alone"), tokens=tokens)
    result = pretrain(configured(run__trackers=["tensorboard"]), tokens=tokens, report=Told())
    assert result.sha256 == alone.sha256
    (warning,) = [message for message in warnings if "tracker" in message]
    assert "no connection" in warning
