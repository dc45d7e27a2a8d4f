"""manifest.json of a run: all that it takes to repeat it, no secrets, and never in the way."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess

import numpy as np
import pytest

from mini_bert.config.schema import Config
from mini_bert.errors import DataError
from mini_bert.training import run_manifest
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.pretrain import pretrain

FACTS = {"run": "r", "parent": None, "data_sha256": "d" * 64, "config_sha256": "c" * 64, "environment": {"blas": "b"}}
CONFIG = Config()


def begin(run, **changes):
    return run_manifest.begin(run, CONFIG, FACTS, **{"first_step": 0, "threads": 2, "ranks": 1, **changes})


def test_a_start_and_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/mini-bert", "pretrain", "--run", "r"])
    assert begin(tmp_path) == []
    manifest = run_manifest.read(tmp_path)
    assert manifest is not None
    assert manifest["config"] == CONFIG.to_dict()
    assert (manifest["run"], manifest["data_sha256"], manifest["config_sha256"]) == ("r", "d" * 64, "c" * 64)
    (start,) = manifest["starts"]
    assert start["command"] == ["mini-bert", "pretrain", "--run", "r"]
    assert (start["first_step"], start["threads"], start["ranks"], start["end"]) == (0, 2, 1, None)
    assert (start["host"], start["pid"], start["environment"]) == (socket.gethostname(), os.getpid(), {"blas": "b"})
    assert start["packages"]["numpy"] == np.__version__
    assert start["platform"] == platform.platform()

    assert run_manifest.end(tmp_path, step=40, sha256="e" * 64, seconds=1.23456, ended="finished") == []
    manifest = run_manifest.read(tmp_path)
    assert manifest is not None
    end = manifest["starts"][0]["end"]
    assert (end["step"], end["sha256"], end["seconds"], end["ended"]) == (40, "e" * 64, 1.235, "finished")


def test_each_start_is_an_entry_and_the_end_belongs_to_the_newest(tmp_path):
    for first in (0, 10, 20):
        assert begin(tmp_path, first_step=first, ranks=1 + first // 10) == []
    run_manifest.end(tmp_path, step=25, sha256="e", seconds=1, ended="SIGTERM")
    manifest = run_manifest.read(tmp_path)
    assert manifest is not None
    assert [(start["first_step"], start["ranks"]) for start in manifest["starts"]] == [(0, 1), (10, 2), (20, 3)]
    assert [start["end"] and start["end"]["ended"] for start in manifest["starts"]] == [None, None, "SIGTERM"]


def test_only_variables_that_set_up_the_computation_are_recorded(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MINI_BERT__TRAIN__LR", "0.1")
    begin(tmp_path)
    text = (tmp_path / "manifest.json").read_text()
    assert "s3cret" not in text
    variables = json.loads(text)["starts"][0]["variables"]
    assert (variables["OMP_NUM_THREADS"], variables["MINI_BERT__TRAIN__LR"]) == ("3", "0.1")
    assert all(name.startswith(run_manifest._VARIABLES) for name in variables)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"name": "another program"}', b"\xff", b'{"format_version": 1, "config": {}, "starts": [3]}'],
)
def test_a_damaged_or_foreign_manifest_is_set_aside(tmp_path, content):
    for number in (1, 2):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(DataError, match="the manifest of a run"):
            run_manifest.read(tmp_path)
        (warning,) = run_manifest.end(tmp_path, step=1, sha256=None, seconds=1, ended="finished")
        assert "something else" in warning
        assert (tmp_path / "manifest.json").read_bytes() == content
        (warning,) = begin(tmp_path)
        assert f"set aside as manifest.damaged-{number}.json" in warning
        assert (tmp_path / f"manifest.damaged-{number}.json").read_bytes() == content
        assert run_manifest.read(tmp_path) is not None


def test_one_of_a_newer_version_is_set_aside_too(tmp_path):
    begin(tmp_path)
    newer = {**json.loads((tmp_path / "manifest.json").read_bytes()), "format_version": 99}
    (tmp_path / "manifest.json").write_text(json.dumps(newer))
    (warning,) = begin(tmp_path)
    assert "upgrade" in warning
    assert json.loads((tmp_path / "manifest.damaged-1.json").read_bytes()) == newer


def test_what_cannot_be_written_is_said_and_stops_nothing(tmp_path, monkeypatch):
    assert "gone" in run_manifest.end(tmp_path, step=1, sha256=None, seconds=1, ended="finished")[0]
    begin(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in begin(tmp_path)[0]
    assert "No space left" in run_manifest.end(tmp_path, step=1, sha256=None, seconds=1, ended="finished")[0]
    assert (tmp_path / "manifest.json").read_bytes() == before


def git(folder, *words):
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


STATUS = """#!/bin/sh
cat <<END
# branch.oid {oid}
# branch.head {head}
{lines}
END
"""


@pytest.mark.parametrize(
    ("oid", "head", "lines", "expected"),
    [
        ("(initial)", "main", "", {"commit": None, "branch": "main", "dirty": False}),
        (
            "a1",
            "(detached)",
            "1 .M N... 100644 100644 100644 b1 b1 a.txt",
            {"commit": "a1", "branch": None, "dirty": True},
        ),
        ("a1", "main", "# branch.ab +1 -0", {"commit": "a1", "branch": "main", "dirty": False}),
    ],
)
def test_what_git_says(tmp_path, monkeypatch, oid, head, lines, expected):
    program = tmp_path / "git"
    program.write_text(STATUS.format(oid=oid, head=head, lines=lines))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run_manifest.git_state(tmp_path) == expected


@pytest.mark.reference
def test_the_state_of_a_repository(tmp_path):
    assert run_manifest.git_state(tmp_path) is None
    assert run_manifest.git_state(tmp_path / "none") is None
    git(tmp_path, "init", "-q", "-b", "main")
    assert run_manifest.git_state(tmp_path) == {"commit": None, "branch": "main", "dirty": False}
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    (tmp_path / "untracked.txt").write_text("a")
    expected = {"commit": commit.stdout.strip(), "branch": "main", "dirty": False}
    assert run_manifest.git_state(tmp_path) == expected
    (tmp_path / "a.txt").write_text("b")
    git(tmp_path, "checkout", "-q", "--detach")
    assert run_manifest.git_state(tmp_path) == {**expected, "branch": None, "dirty": True}


def test_without_git_there_is_no_state(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_manifest.git_state(tmp_path) is None


def test_a_training_leaves_its_manifest(configured, tokens):
    result = pretrain(configured(), tokens=tokens)
    manifest = run_manifest.read(result.run)
    assert manifest is not None
    (start,) = manifest["starts"]
    assert start["end"] is not None
    assert (start["end"]["sha256"], start["end"]["step"], start["end"]["ended"]) == (result.sha256, 40, "finished")
    assert manifest["config"]["train"]["steps"] == 40
    facts = next(record for record in read_metrics(result.run / "metrics.jsonl") if record["kind"] == "start")
    for name in ("data_sha256", "tokenizer_sha256", "config_sha256"):
        assert manifest[name] == facts[name]
    assert start["environment"] == facts["environment"]
