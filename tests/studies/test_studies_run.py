"""Whole studies with real processes: shared out, killed, interrupted, gone on with, searched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mini_bert.cli import main
from mini_bert.config.load import load_config
from mini_bert.data.batches import held_out_batches
from mini_bert.data.tokens import open_tokens
from mini_bert.errors import DataError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.model.bert import MiniBERT
from mini_bert.studies.pieces import config_of
from mini_bert.studies.plan import plan_trial
from mini_bert.studies.reading import read_study
from mini_bert.studies.result import StudyResult
from mini_bert.studies.run import run_study
from mini_bert.studies.trial import train_trial
from mini_bert.studies.worker import job_of
from mini_bert.training.pretrain import pretrain
from mini_bert.verification.reliability.subject import write_corpus

pytestmark = pytest.mark.reference  # optuna


@pytest.fixture
def run(tmp_path):
    """Run a study in this process; trials are processes of their own."""

    def go(study, **options):
        told = []
        file = tmp_path / "studies" / f"{study.name}.json"
        options = {"workers": 2, "threads": 1, "report": told.append, **options}
        outcome = run_study(study, directory=tmp_path / "work", result_file=file, **options)
        assert outcome.signal is None
        assert StudyResult.read(file) == outcome.result
        return outcome.result, told

    return go


def undisturbed(study, trial, folder):
    """The trial's training in this process, without a study around it."""
    settings = study.pieces[trial.piece].settings
    config = plan_trial(study, trial.piece, settings, trial.seed, trial.steps, None).config
    config = load_config([], {**{f"{k}": v for k, v in config.to_dict().items()}, "run": {"seed": trial.seed}})
    run = config.run.model_copy(update={"directory": str(folder), "name": "alone", "threads": 1})
    config = config.model_copy(update={"run": run})
    tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
    batches = held_out_batches(tokens.held_out, config_of(study, {}), tokens.tokenizer)
    return pretrain(config, tokens=tokens, evaluate=lambda model: evaluate_masked_lm(model, batches).to_dict())


@pytest.mark.slow
def test_two_workers_share_a_study_and_a_second_run_has_nothing_to_do(study, run, tmp_path):
    made = study()
    result, told = run(made)
    assert sorted((t.piece, t.seed, t.status, t.step) for t in result.trials) == sorted(
        (piece, seed, "done", 24) for piece in made.pieces for seed in (0, 1)
    )
    assert [status.done for status in told if status.finished] == [1, 2, 3, 4, 5, 6]
    trial = next(t for t in result.trials if (t.piece, t.seed) == ("relu", 1))
    alone = undisturbed(made, trial, tmp_path)
    assert (trial.sha256, trial.loss) == (alone.sha256, alone.evaluation["loss"])
    assert trial.loss_interval == tuple(alone.evaluation["loss_interval"])
    assert trial.held_out_losses[-1] == (24, trial.loss)
    assert trial.train_losses[-1][0] == 24
    assert len(trial.held_out_losses) == 1 + made.evaluations
    assert trial.peak_bytes > 10_000_000
    assert not list((tmp_path / "work").rglob("checkpoint-*"))
    again, told = run(made)
    assert again.trials == result.trials
    assert [status.done for status in told] == [6]


@pytest.mark.slow
def test_a_longer_study_trains_what_is_missing(study, run):
    short, _ = run(study(seeds=[0]))
    longer, _ = run(study(seeds=[0, 2], question="Still?"))
    assert longer.trials[:3] == short.trials
    assert [(t.seed, t.status) for t in longer.trials[3:]] == [(2, "done")] * 3
    assert longer.about == "Still?"
    other, _ = run(study(seeds=[0], budget={"steps": 12}))
    assert [t.steps for t in other.trials] == [12, 12, 12]


def test_a_study_that_is_changed_loses_nothing(study, run, tmp_path):
    """Trials of another budget leave the result and not the disk; with the budget of before they are there again."""
    pieces = {"plain": {"why": "As it is."}}
    short = study(pieces=pieces, seeds=[0], budget={"steps": 6})
    first, _ = run(short)
    (tmp_path / "work" / "small" / "trials" / f"{first.trials[0].key}.json").unlink()  # another checkout
    told = []
    longer, _ = run(study(pieces=pieces, seeds=[0], budget={"steps": 7}), say=told.append)
    assert [trial.steps for trial in longer.trials] == [7]
    assert any("1 trials" in line and "are kept in" in line for line in told)
    again, seen = run(short)
    assert again.trials == first.trials
    assert [status.done for status in seen] == [1]


def test_a_trial_goes_by_what_it_is_and_not_by_its_label(study, run):
    plain, other = {"why": "As it is."}, {"settings": {"train.lr": 0.004}, "why": "To see."}
    begin = {"seeds": [0], "budget": {"steps": 3}}
    first, _ = run(study(pieces={"plain": plain, "rate": other}, **begin))
    changed = {"plain": plain, "rate": {"settings": {"train.lr": 0.002}, "why": "Lower."}, "higher": other}
    second, told = run(study(pieces=changed, **begin))
    assert [status.finished.piece for status in told if status.finished] == ["rate"]
    assert {t.piece: t.settings.get("train.lr") for t in second.trials} == {
        "plain": None,
        "rate": 0.002,
        "higher": 0.004,
    }
    losses = {t.settings.get("train.lr"): t.loss for t in [*first.trials, *second.trials]}
    assert {entry["piece"]: entry["value"] for entry in second.comparison} == {
        "plain": losses[None],
        "rate": losses[0.002],
        "higher": losses[0.004],
    }


def test_trials_on_another_text_are_not_compared(described, run, tmp_path):
    text = tmp_path / "text"
    write_corpus(text)
    file = tmp_path / "small.yaml"
    begin = {"pieces": {"plain": {"why": "As it is."}}, "budget": {"steps": 3}, "corpus": [f"{text}/*.txt"]}
    file.write_text(yaml.safe_dump(described(seeds=[0], **begin)))
    run(read_study(str(file)))
    (text / "00.txt").write_text("Quite another beginning of the text.")
    file.write_text(yaml.safe_dump(described(seeds=[0, 1], **begin)))
    with pytest.raises(DataError, match="on another text"):
        run(read_study(str(file)))
    file.write_text(yaml.safe_dump(described(seeds=[0], **begin | {"corpus": [f"{text}/[0-5]*.txt"]})))
    (tmp_path / "studies" / "small.json").unlink()  # what the trials' processes wrote is there still
    other, told = run(read_study(str(file)))  # a study of another corpus has trials of its own
    assert len(other.trials) == len([status for status in told if status.finished]) == 1


@pytest.mark.slow
def test_a_search_is_gone_on_with_and_never_compared_across_budgets(study, run):
    ranges = {"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}}
    begin = {"pieces": {"plain": {"why": "As it is."}}, "search": ranges, "seeds": [0]}
    first, _ = run(study(trials=2, budget={"steps": 6}, **begin))
    more, _ = run(study(trials=3, budget={"steps": 6}, question="More?", **begin))
    assert more.trials[: len(first.trials)] == first.trials
    assert len(more.trials) == 4
    longer, _ = run(study(trials=1, budget={"steps": 9}, **begin))
    assert [trial.steps for trial in longer.trials] == [9, 9]


@pytest.mark.slow
def test_given_weights_are_known_by_their_numbers(study, run, tmp_path):
    begun = []
    for seed in (1, 2):
        given, pieces = str(tmp_path / "given"), {"plain": {"why": "As it is."}}
        MiniBERT(config_of(study(), {}).model, seed=seed).save_pretrained(given)
        result, _ = run(study(pieces=pieces, seeds=[0], start={"model": given}))
        begun += [trial.sha256 for trial in result.trials]
    assert len(set(begun)) == len(begun) == 2


@pytest.mark.slow
def test_divergence_and_failure_are_results(study, run, monkeypatch):
    pieces = {
        "plain": {"why": "As it is."},
        "wild": {"settings": {"train.lr": 1e30, "train.warmup_ratio": 0}, "why": "It cannot."},
        "lost": {"settings": {"curriculum.kind": "loss", "curriculum.reference": "nowhere"}, "why": "No reference."},
    }
    result, _ = run(study(pieces=pieces, seeds=[0]))
    status = {t.piece: (t.status, t.loss is None) for t in result.trials}
    assert status == {"plain": ("done", False), "wild": ("diverged", True), "lost": ("failed", True)}
    message = {t.piece: t.message for t in result.trials}
    assert "no finite loss" in message["wild"]
    assert "nowhere" in message["lost"]
    assert {entry["piece"]: entry["verdict"] for entry in result.comparison} == {
        "plain": "baseline",
        "wild": "diverged",
        "lost": "failed",
    }
    again, told = run(study(pieces=pieces, seeds=[0]))  # what an error ended is tried again, what diverged is not
    assert [s.finished.piece for s in told if s.finished] == ["lost"]
    assert len(again.trials) == 3


@pytest.mark.slow
def test_from_given_weights(study, run):
    made = study(start={"steps": 10}, seeds=[0])
    result, _ = run(made)
    by_piece = {t.piece: t for t in result.trials}
    assert {name: t.begins for name, t in by_piece.items()} == {
        "start": "nothing",
        "plain": "start",
        "faster": "start",
        "relu": "nothing",
        "plain, from nothing": "nothing",
    }
    begun = [dict(by_piece[name].held_out_losses)[0] for name in ("plain", "faster")]
    assert begun == [by_piece["start"].loss] * 2
    assert dict(by_piece["plain, from nothing"].held_out_losses)[0] > begun[0]
    again, _ = run(made)
    assert again.trials == result.trials


@pytest.mark.slow
def test_until_the_loss_is_below(study, run):
    made = study(seeds=[0], measure={"first_below": 1e-3, "reference": "unigram"}, budget={"steps": 400})
    result, _ = run(made)
    for trial in result.trials:
        assert trial.status == "done"
        assert trial.first_below == trial.step < 400
        *before, last = dict(trial.train_losses).values()
        assert last < trial.level <= min(before)


def test_a_loss_of_other_tasks_is_not_waited_for(study, tmp_path):
    """Two answers are told apart at 0.7 nats, which is below what frequencies reach in a whole vocabulary."""
    made = study(seeds=[0], measure={"first_below": 1e-3, "reference": "unigram"}, budget={"steps": 3})
    settings = {"tasks.masked_lm": 0.0, "tasks.token_order": 1.0, "train.log_every": 1}
    planned = plan_trial(made, "plain", settings, 0, 3, None)
    trial = train_trial(job_of(planned, config_of(made, {}).to_dict(), made), directory=tmp_path, threads=1)
    assert (trial.status, trial.step, trial.first_below, trial.level) == ("done", 3, None, None)


@pytest.mark.slow
def test_equal_time(study, run):
    made = study(seeds=[0], budget={"minutes": 0.003})
    result, _ = run(made)
    steps = {t.piece: t.steps for t in result.trials}
    clock = result.clock
    assert steps["plain"] == steps["faster"] == round(0.18 / clock.baseline_seconds)
    assert [entry.piece for entry in clock.pieces] == ["relu"]  # another rate computes the same
    ratio = {entry["piece"]: entry["time_ratio"] for entry in result.comparison}
    assert steps["relu"] == round(0.18 / (clock.baseline_seconds * ratio["relu"]))
    assert ratio["plain"] == ratio["faster"] == 1.0
    again, told = run(made)
    assert again.clock == clock
    assert len(told) == 1


@pytest.mark.slow
def test_a_search(study, run):
    ranges = {"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "train.batch_size": {"choices": [4, 8]}}
    made = study(pieces={"plain": {"why": "As it is."}}, search=ranges, trials=5, seeds=[0])
    result, _ = run(made)
    searched = [t for t in result.trials if t.piece != "plain"]
    assert len(searched) == 5
    assert all(t.status in ("done", "pruned") for t in searched)
    assert len({t.settings["train.lr"] for t in searched}) == 5
    assert all(1e-4 <= t.settings["train.lr"] <= 1e-1 and t.settings["train.batch_size"] in (4, 8) for t in searched)
    values = [entry["value"] for entry in result.comparison if entry["why"] == "" and entry["value"] is not None]
    assert values == sorted(values)
    again, _ = run(made)
    assert len(again.trials) == 6


def started(file, folder, *options):
    words = [sys.executable, "-m", "mini_bert", "study", "run", file, "--workers", "2", "--threads", "1", *options]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def trainer_with_a_checkpoint(process, folder):
    """The process that trains some trial, once that has saved something."""
    while process.poll() is None:
        for checkpoints in folder.glob("runs/studies/small/runs/*/checkpoints"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                if any(checkpoints.glob("checkpoint-*")):
                    return checkpoints.parent, json.loads((checkpoints.parent / "lock").read_text())["pid"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise AssertionError(process.communicate()[1])


def starts_of(run):
    return [start["first_step"] for start in json.loads((run / "manifest.json").read_text())["starts"]]


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_goes_on(study, study_file, tmp_path):
    changes = {"budget": {"steps": 400}, "seeds": [0]}
    file, made = study_file(**changes), study(**changes)
    process = started(file, tmp_path)
    killed, pid = trainer_with_a_checkpoint(process, tmp_path)
    os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = StudyResult.read(tmp_path / "studies" / "small.json")
    assert sorted(t.piece for t in result.trials if t.status == "done") == ["faster", "plain", "relu"]
    first, second = starts_of(killed)
    assert (first, second % 50) == (0, 0)
    assert second > 0
    trial = next(t for t in result.trials if killed.name.startswith(f"{t.piece}-{t.seed}-"))
    assert trial.sha256 == undisturbed(made, trial, tmp_path).sha256


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_stopped_goes_on(study, study_file, tmp_path, monkeypatch, how):
    file = study_file(budget={"steps": 400}, seeds=[0])
    process = started(file, tmp_path)
    stopped, pid = trainer_with_a_checkpoint(process, tmp_path)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how == signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    else:
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[how]
        assert "goes on" in errors
    monkeypatch.chdir(tmp_path)
    assert main(["study", "run", file, "--workers", "2", "--threads", "1"]) == 0
    result = StudyResult.read(tmp_path / "studies" / "small.json")
    assert sorted(t.piece for t in result.trials if t.status == "done") == ["faster", "plain", "relu"]
    assert starts_of(stopped)[-1] > 0


def test_a_process_that_cannot_start_is_told(study, tmp_path, monkeypatch):
    from mini_bert.studies import workers

    monkeypatch.setattr(workers.worker, "__name__", "mini_bert.studies.nothing_of_the_kind")
    with pytest.raises(DataError, match="nothing_of_the_kind"):
        run_study(study(), directory=tmp_path, result_file=tmp_path / "r.json", workers=1, threads=1)
