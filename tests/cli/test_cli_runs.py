"""runs list, show, verify and prune: what they print, what they refuse, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from mini_bert.cli import main
from mini_bert.training import ownership

NOUNS = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee", "ant", "elk"]
SMALL = ["--config", "training/debugging", "--model.vocab-size", "120", "--train.save-every", "10"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with `runs/first`, trained here for 40 steps, and `runs/old`, the same as an older version left it."""
    folder = tmp_path_factory.mktemp("made")
    lines = [
        f"The {NOUNS[i % 10]} number {i % 37} sat on the {NOUNS[i * 7 % 10]}, then it ran away." for i in range(600)
    ]
    (folder / "text.txt").write_text("\n\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MINI_BERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main(["pretrain", *SMALL, "--corpus", "text.txt", "--run", "first"]) == 0
    shutil.copytree(folder / "runs" / "first", folder / "runs" / "old")
    for name in ("manifest.json", "run.log"):
        (folder / "runs" / "old" / name).unlink()
    os.utime(folder / "runs" / "old" / "metrics.jsonl", (2e9, 2e9))
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures("here")
def test_list(capsys):
    assert main(["runs", "list"]) == 0
    heading, columns, _, *lines = capsys.readouterr().out.splitlines()
    assert heading == "2 runs in runs"
    assert columns.split()[:3] == ["run", "state", "step"]
    assert [line.split()[:5] for line in lines] == [
        ["old", "finished", "40", "of", "40"],
        ["first", "finished", "40", "of", "40"],
    ]
    assert main(["runs", "list", "--json"]) == 0
    listed = {run["name"]: run for run in json.loads(capsys.readouterr().out)}
    assert (listed["first"]["step"], listed["first"]["checkpoints"], listed["first"]["path"]) == (40, 2, "runs/first")
    assert listed["first"]["loss"] > 0


def test_list_where_there_is_nothing(here, capsys):
    assert main(["runs", "list", "--directory", "elsewhere"]) == 0
    assert "No runs in elsewhere" in capsys.readouterr().err
    (here / "empty").mkdir()
    assert main(["runs", "list", "--directory", "empty", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    (here / "file").write_text("x")
    assert main(["runs", "list", "--directory", "file"]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_show(here, capsys):
    assert main(["runs", "show", "first"]) == 0
    out = capsys.readouterr().out
    manifest = json.loads((here / "runs" / "first" / "manifest.json").read_text())
    for part in (
        "runs/first: finished, step 40 of 40, held-out loss ",
        "model.vocab_size ",
        "text.txt ",
        manifest["data_sha256"],
        manifest["tokenizer_sha256"],
        manifest["starts"][0]["end"]["sha256"],
        "numpy ",
        "checkpoint-40",
        "latest",
    ):
        assert part in out, part
    assert re.search(r"^loss [▁▂▃▄▅▆▇█]{20,}$", out, re.MULTILINE)
    assert "run.directory" not in out
    assert main(["runs", "show", str(here / "runs" / "first"), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["settings"]["model.vocab_size"] == {"value": 120, "default": 8192}
    assert [entry["step"] for entry in known["checkpoint_list"]] == [40, 30]
    assert len(known["train_losses"]) == 40
    assert known["sha256"] == manifest["starts"][0]["end"]["sha256"] == known["newest_sha256"]


def test_show_of_an_old_and_of_a_broken_run(here, capsys):
    assert main(["runs", "show", "old"]) == 0
    assert "newest sha256" in capsys.readouterr().out
    run = here / "runs" / "first"
    flip(run / "checkpoints" / "checkpoint-40" / "model.safetensors")
    for name in ("manifest.json", "config.yaml", "run.log"):
        (run / name).write_bytes(b"\xff{\n")
    (run / "incident-7.json").write_text('{"reason": "NaN in layer_1"}')
    (run / "incident-8.json").write_text("{")
    with (run / "metrics.jsonl").open("ab") as log:
        log.write(b"{\n[]\n")
    (run / "run.log").write_text(
        '{"time": "2025-11-21T10:00:00", "level": "warning", "event": "warning", "message": "slow disk"}\n'
    )
    assert main(["runs", "show", "first"]) == 0
    out = capsys.readouterr().out
    for part in (
        "checkpoint-40",
        "NO",
        "other bytes",
        "NaN in layer_1",
        "not readable",
        "2 damaged lines",
        "slow disk",
    ):
        assert part in out, part
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").write_bytes(b"")
    assert main(["runs", "show", "first"]) == 0


def test_verify(here, capsys):
    assert main(["runs", "verify"]) == 0
    out = capsys.readouterr().out
    assert "that of the tensors in checkpoint-40" in out
    assert "an older version" in out
    assert out.endswith("8 things compared in 2 runs, none wrong\n")
    flip(here / "runs" / "old" / "checkpoints" / "checkpoint-30" / "optimizer.safetensors")
    assert main(["runs", "verify", "first"]) == 0
    capsys.readouterr()
    assert main(["runs", "verify"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"checkpoint-30 +WRONG: .*optimizer\.safetensors: got other bytes", out)
    assert "1 wrong" in out
    assert main(["runs", "verify", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [entry["subject"] for entry in found["old"] if entry["problem"]] == ["checkpoint-30"]
    assert not any(entry["problem"] for entry in found["first"])


def test_prune(here, capsys):
    run = here / "runs" / "first"
    (run / "best").unlink(missing_ok=True)
    before = sorted(path for path in run.rglob("*"))
    assert main(["runs", "prune", "first", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would remove runs/first/checkpoints/checkpoint-30" in out
    assert re.search(r"0\.\d+ MB would be freed", out)
    assert sorted(path for path in run.rglob("*")) == before
    assert main(["runs", "prune", "first", "--json"]) == 0
    freed = json.loads(capsys.readouterr().out)["first"]
    assert freed["removed"] == ["runs/first/checkpoints/checkpoint-30"]
    assert freed["bytes"] > 100_000
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint-40"]
    assert main(["runs", "verify", "first"]) == 0


def test_prune_refuses_all_before_it_touches_any(here, capsys):
    owner = {**ownership.this_process()._asdict(), "pid": 1, "started": ownership._start_time(1)}
    (here / "runs" / "old" / "lock").write_text(json.dumps(owner))
    for words, said in (
        (["first", "old"], "process 1 on host"),
        ([], "Runs: first, old."),
        (["frist"], "Did you mean 'first'"),
        (["first", "--keep", "0"], "expected at least 1"),
    ):
        assert main(["runs", "prune", *words]) == 2
        assert said in capsys.readouterr().err
    assert len(list((here / "runs" / "first" / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("verb", ["show", "verify", "prune"])
@pytest.mark.usefixtures("here")
def test_a_name_that_is_no_run(verb, capsys):
    assert main(["runs", verb, "fist"]) == 2
    assert "Did you mean 'first'" in capsys.readouterr().err
