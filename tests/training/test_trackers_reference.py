"""What TensorBoard, W&B and MLflow have kept, read back and compared with metrics.jsonl number by number."""

from __future__ import annotations

import json
import os
import struct
import warnings

import numpy as np
import pytest

from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report
from mini_bert.training.trackers import scalars

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Killed(BaseException):
    """What stands for kill -9: nothing of ours catches it, and nothing is closed in order."""


class Kill(Report):
    def __init__(self, step):
        self.step = step

    def ticked(self, result):
        if result.step == self.step:
            raise Killed


def killed_and_resumed(configured, tokens, tracker):
    """Records after step 20, up to step 27, come a second time; returns the run's folder."""
    changes = {"run__trackers": [tracker], "train__save_every": 10, "train__log_every": 1, "train__evaluate_every": 20}
    options = {"tokens": tokens, "evaluate": lambda model: {"loss": 1 / 3, "by": {"length": 2}}}
    with pytest.raises(Killed):
        pretrain(configured(**changes), report=Kill(28), **options)
    return pretrain(configured(run__resume="auto", **changes), **options).run


def expected(run):
    """Step → name → value, of all that metrics.jsonl has."""
    points: dict[str, dict[int, float]] = {}
    for record in read_metrics(run / "metrics.jsonl"):
        for name, value in scalars(record).items():
            points.setdefault(name, {})[record["step"]] = value
    assert list(points["train/loss"]) == list(range(1, 41))
    assert list(points["evaluation/by/length"]) == [0, 20, 40]
    return points


def events(path):
    """The events of a file in TensorFlow's record format: length, its checksum, bytes, their checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event()
        event.ParseFromString(content[at + 12 : at + 12 + length])
        yield event
        at += length + 16


def test_tensorboard(configured, tokens):
    run = killed_and_resumed(configured, tokens, "tensorboard")
    shown: dict[str, dict[int, float]] = {}
    seen = 0
    files = sorted((run / "tensorboard").iterdir())
    assert len(files) == 2
    for file in files:  # as TensorBoard reads them
        for event in events(file):
            if event.HasField("session_log"):
                shown = {name: {s: v for s, v in points.items() if s < event.step} for name, points in shown.items()}
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    seen += 1
                    assert event.step not in shown.setdefault(value.tag, {})
                    shown[value.tag][event.step] = value.simple_value
    points = expected(run)
    assert shown == {
        name: {step: float(np.float32(value)) for step, value in values.items()} for name, values in points.items()
    }
    assert seen > sum(map(len, points.values()))  # some came twice


def wandb_records(content):
    """What is in W&B's file: LevelDB's log format, a header of 7 bytes, then blocks of 32 KiB with parts of records."""
    assert content[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # too little of the block is left for a part
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole, or its last part
            yield whole
            whole = b""


def test_wandb(configured, tokens, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    from wandb.proto import wandb_internal_pb2

    run = killed_and_resumed(configured, tokens, "wandb")
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    assert len(files) == 2
    shown: dict[str, dict[int, float]] = {}
    identities = set()
    for file in files:
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                identities.add((record.run.run_id, record.run.display_name, record.run.project))
                config = {entry.key: json.loads(entry.value_json) for entry in record.run.config.update}
                assert config["train"]["steps"] == 40
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            values = {name: json.loads(value) for name, value in items.items() if not name.startswith("_")}
            step = values.pop("step", None)
            for name, value in values.items():
                shown.setdefault(name, {})[step] = value
    assert len(identities) == 1
    assert next(iter(identities))[1:] == ("small", "mini-bert")
    assert json.loads((run / "trackers.json").read_bytes())["wandb"]["id"] == next(iter(identities))[0]
    assert shown == expected(run)


@pytest.mark.parametrize("own_store", [False, True])
def test_mlflow(configured, tokens, monkeypatch, tmp_path, own_store):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
    store = tmp_path / "store"
    if own_store:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = killed_and_resumed(configured, tokens, "mlflow")
    assert ("MLFLOW_ALLOW_FILE_STORE" in os.environ) is own_store  # set for a moment only
    assert (run / "mlruns").exists() is not own_store
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((store if own_store else run / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("mini-bert")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("small", "FINISHED")
    assert (found.data.params["train.steps"], found.data.params["model.hidden_size"]) == ("40", "32")
    points = expected(run)
    assert found.data.metrics.keys() == points.keys()
    for name, values in points.items():
        history = [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)]
        assert [step for step, _ in history] == list(values), name
        if name in ("train/seconds", "train/seconds_left", "train/tokens_per_second"):  # as they were the first time
            history, values = history[28:], dict(list(values.items())[28:])
        assert history == list(values.items()), name
