"""Which runs there are, what state they are in, what is wrong with them, and what may go."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from mini_bert.errors import DataError, InvalidInputError, RunInUseError
from mini_bert.training import ownership, run_manifest
from mini_bert.training.checkpoint_folders import checkpoints, newest_verified, step_of
from mini_bert.training.metrics_log import MetricsLog, read_metrics
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report
from mini_bert.training.run_folders import find_run, find_runs, prunable, prune, read_contents, summaries, summary
from mini_bert.training.run_integrity import verify_run


class StopAt(Report):
    def __init__(self, step):
        self.step = step

    def ticked(self, result):
        if result.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def made(corpus, tokens, tmp_path_factory):
    """A finished run with the checkpoints 10 to 40, of which 20 is the best, and one that was stopped at 17."""
    from mini_bert.config.load import load_config

    folder = tmp_path_factory.mktemp("made")
    settings = {
        "data.corpus": [f"{corpus}/*.txt"],
        "run.directory": str(folder),
        "model.vocab_size": 96,
        "train.steps": 40,
        "train.save_every": 10,
        "train.evaluate_every": 10,
        "train.keep_checkpoints": 10,
        "run.threads": 1,
    }
    losses = iter([9.0, 4.0, 3.0, 3.5, 3.25, 9.0, 4.0, 5.0])
    for name, report in (("finished", Report()), ("stopped", StopAt(17))):
        config = load_config(["training/debugging"], {**settings, "run.name": name})
        pretrain(config, tokens=tokens, evaluate=lambda model: {"loss": next(losses)}, report=report)
    return folder


@pytest.fixture
def runs(made, tmp_path):
    """A copy that can be broken."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def problems(run):
    return {finding.subject: finding.problem for finding in verify_run(run) if finding.problem}


def names(paths):
    return [path.name for path in paths]


def own(run, **changes):
    """Let another process hold the run's lock."""
    owner = {**ownership.this_process()._asdict(), "pid": 1, "started": ownership._start_time(1), **changes}
    (run / "lock").write_text(json.dumps(owner))


def flip(path, byte=100):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def test_what_the_runs_say(runs):
    by_name = {run.name: run for run in summaries(runs)}
    finished, stopped = by_name["finished"], by_name["stopped"]
    assert (finished.state, finished.step, finished.steps, finished.checkpoints) == ("finished", 40, 40, 4)
    assert (finished.loss, finished.best_loss, finished.best_step) == (3.25, 3.0, 20)
    assert (stopped.state, stopped.step, stopped.steps, stopped.owner) == ("stopped", 17, 40, None)
    assert (stopped.loss, stopped.best_step) == (4.0, 10)
    files = [path for path in (runs / "finished").rglob("*") if path.is_file()]
    assert finished.bytes == sum(path.stat().st_size for path in files)
    assert finished.changed == max(path.stat().st_mtime for path in files)


def test_running_is_told_by_the_lock(runs):
    run = runs / "stopped"
    own(run)
    assert summary(read_contents(run)).owner == f"1@{socket.gethostname()}"
    own(run, host="elsewhere")
    assert (summary(read_contents(run)).state, summary(read_contents(run)).owner) == ("running", "1@elsewhere")
    for stale in ({"pid": 2**22 + 1, "started": 5}, {"started": 12345}):
        own(run, **stale)
        assert summary(read_contents(run)).state == "stopped"
    (run / "lock").write_text("{")
    assert summary(read_contents(run)).state == "stopped"


def test_a_run_that_an_error_ended_has_failed_until_it_goes_on(runs):
    run = runs / "stopped"
    run_manifest.end(run, step=17, sha256=None, seconds=1, ended="failed: StorageError: disk full")
    assert summary(read_contents(run)).state == "failed"
    run_manifest.end(run, step=17, sha256=None, seconds=1, ended="early stop")
    assert summary(read_contents(run)).state == "finished"
    run_manifest.begin(run, summary_config(run), {}, first_step=17, threads=1)
    with MetricsLog(run / "run.log") as log:
        log.write({"time": "2025", "level": "error", "event": "ended by an error", "message": "NaN"})
    assert summary(read_contents(run)).state == "failed"
    with MetricsLog(run / "run.log") as log:
        log.write({"time": "2025", "level": "info", "event": "started"})
    assert summary(read_contents(run)).state == "stopped"


def summary_config(run):
    from mini_bert.config.load import load_config

    return load_config([run / "config.yaml"])


def test_runs_of_older_versions_and_broken_ones_are_listed_and_foreign_folders_are_not(runs):
    (runs / "finished" / "manifest.json").unlink()
    (runs / "finished" / "run.log").unlink()
    assert summary(read_contents(runs / "finished")).state == "finished"
    for foreign in ("notes", "tensorboard/train", "other/checkpoints/best"):
        (runs / foreign).mkdir(parents=True)
    (runs / "notes" / "manifest.json").write_text('{"name": "a web page"}')
    (runs / "a file").write_text("x")
    empty, broken = runs / "begun", runs / "stopped"
    empty.mkdir()
    (empty / "metrics.jsonl").write_bytes(b"")
    for name in ("metrics.jsonl", "manifest.json", "config.yaml", "run.log", "latest", "lock"):
        (broken / name).write_bytes(b"\xff\x00{\n")
    assert names(find_runs(runs)) == ["begun", "finished", "stopped"]
    by_name = {run.name: run for run in summaries(runs)}
    assert by_name["begun"]._replace(bytes=0, changed=None)[2:10] == ("stopped", None, None, None, None, None, None, 0)
    assert (by_name["stopped"].step, by_name["stopped"].checkpoints) == (17, 2)
    assert problems(broken).keys() == {"metrics.jsonl", "manifest.json", "latest"}
    assert problems(empty) == {}


def test_a_run_is_found_by_name_or_path_and_near_names_are_suggested(runs, tmp_path):
    assert find_run("finished", runs) == runs / "finished"
    assert find_run(str(runs / "finished"), tmp_path / "elsewhere") == runs / "finished"
    with pytest.raises(DataError, match=r"got 'finishd'.*Did you mean 'finished'"):
        find_run("finishd", runs)
    for name in ("", ".", "..", "a\0b", "x" * 5000):
        with pytest.raises(DataError, match="expected a run in"):
            find_run(name, runs)
    with pytest.raises(DataError, match="There is none"):
        find_run("finished", tmp_path / "none")
    with pytest.raises(DataError, match="Not a directory"):
        find_runs(runs / "finished" / "latest")


def test_whole_runs_have_no_problem(runs):
    for name, digest_of in (("finished", 40), ("stopped", 17)):
        found = list(verify_run(runs / name))
        assert [finding.problem for finding in found] == [""] * len(found)
        (final,) = [finding for finding in found if finding.subject == "final sha256"]
        assert final.note.endswith(f"that of the tensors in checkpoint-{digest_of}")


def test_every_damage_is_found(runs):
    run = runs / "finished"
    checkpoint = run / "checkpoints" / "checkpoint-30"
    for name in names(checkpoint.iterdir()):
        content = (checkpoint / name).read_bytes()
        flip(checkpoint / name, len(content) // 2)
        assert list(problems(run)) == ["checkpoint-30"], name
        (checkpoint / name).unlink()
        assert list(problems(run)) == ["checkpoint-30"], name
        (checkpoint / name).write_bytes(content)
    assert problems(run) == {}
    (run / "best").write_text("checkpoint-99\n")
    assert list(problems(run)) == ["best"]
    (run / "best").unlink()

    log = run / "metrics.jsonl"
    whole = log.read_bytes()
    last = [line for line in whole.splitlines(keepends=True) if b'"train"' in line][-1]
    log.write_bytes(whole + last)
    assert "step 40 stands behind step 40" in problems(run)["metrics.jsonl"]
    log.write_bytes(whole + b"{\n")
    assert "damaged" in problems(run)["metrics.jsonl"]
    log.write_bytes(whole + b'{"ki')
    assert problems(run) == {}  # what a kill leaves is no damage
    log.unlink()
    assert list(problems(run)) == ["metrics.jsonl"]
    log.write_bytes(whole)


def test_the_final_hash_is_that_of_the_tensors_and_not_what_a_manifest_says(runs):
    run = runs / "finished"
    text = (run / "manifest.json").read_text()
    digest = json.loads(text)["starts"][0]["end"]["sha256"]
    (run / "manifest.json").write_text(text.replace(digest, digest[::-1]))
    assert digest in problems(run)["final sha256"]
    (run / "manifest.json").write_text(text)
    last = run / "checkpoints" / "checkpoint-40"
    flip(last / "model.safetensors", -5)
    assert list(problems(run)) == ["checkpoint-40", "final sha256"]
    shutil.rmtree(last)
    assert problems(run).keys() == {"latest", "final sha256"}
    own(run)
    assert problems(run).keys() == {"latest"}  # it goes on: its end is yet to come


@pytest.mark.parametrize(
    ("keep", "keep_every", "gone"),
    [(1, None, [30, 10]), (2, None, [10]), (3, None, [10]), (4, None, []), (1, 10, []), (1, 30, [10]), (9, 7, [])],
)
def test_prune_leaves_the_newest_the_best_and_what_is_asked_for(runs, keep, keep_every, gone):
    run = runs / "finished"
    planned = prunable(run, keep, keep_every)
    assert [step_of(path) for path in planned.checkpoints] == gone
    assert len(checkpoints(run)) == 4
    removed = prune(run, keep, keep_every)
    assert removed == planned
    assert sorted(set(range(10, 50, 10)) - set(gone)) == [step_of(path) for path in checkpoints(run)[::-1]]
    assert problems(run) == {}
    assert not (run / "lock").exists()


def test_prune_counts_only_checkpoints_that_hold_and_takes_none_where_none_does(runs):
    run = runs / "finished"
    (run / "best").unlink()
    flip(run / "checkpoints" / "checkpoint-40" / "model.safetensors")
    assert [step_of(path) for path in prunable(run).checkpoints] == [20, 10]  # 30 is the newest that holds
    flip(run / "checkpoints" / "checkpoint-20" / "optimizer.safetensors")
    assert [step_of(path) for path in prunable(run, keep=2).checkpoints] == [20]
    for step in (10, 30):
        flip(run / "checkpoints" / f"checkpoint-{step}" / "config.json", 5)
    assert prune(run).checkpoints == []
    assert len(checkpoints(run)) == 4


def test_prune_leaves_a_run_that_can_go_on_its_regular_checkpoint(runs):
    run = runs / "stopped"
    (run / "best").unlink()
    assert [step_of(path) for path in checkpoints(run)] == [17, 10]
    assert prunable(run).checkpoints == []  # 10 is where it would go back to


def test_prune_removes_what_killed_writers_left_and_rescues_a_whole_checkpoint(runs):
    run = runs / "finished"
    gone = ownership.Owner(socket.gethostname(), 2**22 + 1, 5).token
    alive = ownership.Owner("elsewhere", 1, 5).token
    half, others = (run / "checkpoints" / f".tmp-50-{token}-abcd" for token in (gone, alive))
    for folder in (half, others):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x" * 1000)
    (run / ".tmp-latest-1-ab").write_bytes(b"x" * 50)
    planned = prunable(run, keep=9)
    assert names(planned.leavings) == [".tmp-latest-1-ab", half.name]
    assert planned.bytes == 1050
    assert prune(run, keep=9) == planned
    assert others.exists()
    assert not half.exists()
    whole = run / "checkpoints" / f".tmp-40-{gone}-abcd"
    (run / "checkpoints" / "checkpoint-40").rename(whole)
    prune(run)
    assert step_of(newest_verified(run).path or Path()) == 40


def test_prune_refuses_a_run_in_training_and_senseless_numbers(runs):
    run = runs / "finished"
    for keep, every in ((0, None), (-1, None), (1, 0)):
        with pytest.raises(InvalidInputError, match="expected at least 1"):
            prunable(run, keep, every)
    for host in (socket.gethostname(), "elsewhere"):
        own(run, host=host)
        for function in (prunable, prune):
            with pytest.raises(RunInUseError, match=f"process 1 on host {host}"):
                function(run)
    assert len(checkpoints(run)) == 4


def test_a_pruned_run_goes_on_to_the_same_end(runs, made, configured, tokens):
    prune(runs / "stopped")
    losses = iter([4.5, 5.0, 5.5])
    config = summary_config(runs / "stopped")
    config = config.model_copy(update={"run": config.run.model_copy(update={"directory": str(runs), "resume": "auto"})})
    result = pretrain(config, tokens=tokens, evaluate=lambda model: {"loss": next(losses)})
    finished = run_manifest.read(made / "finished")
    assert finished is not None
    assert result.sha256 == finished["starts"][-1]["end"]["sha256"]
    assert problems(result.run) == {}
    steps = [record["step"] for record in read_metrics(result.run / "metrics.jsonl") if record["kind"] == "evaluation"]
    assert steps == [0, 10, 20, 30, 40]
