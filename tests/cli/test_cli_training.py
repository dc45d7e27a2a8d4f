"""pretrain, evaluate and what they refuse, on a small text and the debug model."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mini_bert
from mini_bert.cli import main
from mini_bert.cli.training_display import LiveDisplay, PlainDisplay, clock_time, heading, progress_line
from mini_bert.config.load import load_config
from mini_bert.training.forecast import Forecast
from mini_bert.training.phases import PLATEAU, References
from mini_bert.training.report import RunInfo

NOUNS = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee", "ant", "elk"]
SMALL = ["--config", "training/debugging", "--model.vocab-size", "120"]


def _text(sentences: int) -> str:
    lines = [
        f"The {NOUNS[i % 10]} number {i % 37} sat on the {NOUNS[i * 7 % 10]}, and then it ran away from the house."
        for i in range(sentences)
    ]
    return "\n\n".join(lines)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path, monkeypatch, cache):
    """An empty folder to work in, with a text in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    monkeypatch.setenv("MINI_BERT_DATA", str(tmp_path / "data"))
    (tmp_path / "text.txt").write_text(_text(600))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A folder with a trained run `first`, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(_text(600))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MINI_BERT_CACHE", str(cache))
        out, err = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = main(["pretrain", *SMALL, "--corpus", "text.txt", "--run", "first"])
    return folder, code, out.getvalue(), err.getvalue()


def test_pretrain_prints_tables_masks_and_what_to_do_next(trained):
    _, code, out, _ = trained
    assert code == 0
    for part in ("Mini-BERT", "unigram", "bigram", "100,000 steps beside the budgets", "time of 100,000 steps"):
        assert part in out
    assert re.search(r"\[MASK\].*\n +hidden: \w+ +model: ", out)
    assert "runs/first/checkpoints/checkpoint-40" in out
    assert "mini-bert fill-mask first" in out


def test_progress_goes_to_standard_error_a_line_a_record(trained):
    _, _, out, err = trained
    lines = [line for line in err.splitlines() if re.match(r"Step +\d+ \| Loss", line)]
    assert len(lines) == 40
    for line in lines:
        assert re.fullmatch(
            r"Step +\d+ \| Loss \d+\.\d{4} \| Acc +\d+\.\d% \| Grad \d+\.\d{3} \| \[[a-z ]+\] "
            r"\| lr \d\.\d\de-\d\d \| [\d,]+ tokens/s \| \d+:\d\d left",
            line,
        )
    assert "held-out loss" in err
    assert "tokenising" in err
    assert "Step" not in out


def test_the_commands_under_what_to_try_next_work(trained, monkeypatch, cache, capsys):
    folder, _, out, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    assert main(["fill-mask", "first", "the [MASK] ran."]) == 0
    assert main(["tokenizer", "explain", "first", "unbelievable"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "first", "--quick", "--only", "masked_lm", "--json"]) == 0
    result = _masked_lm(capsys.readouterr().out)
    losses = {line["name"]: line["loss"] for line in result["table"]}
    shown = re.search(r"Mini-BERT +(\d\.\d{2}) ±", out)
    assert losses["model"] == pytest.approx(float(shown[1]), abs=6e-3)
    assert len({(line["n_masked"], line["n_rows"]) for line in result["table"]}) == 1
    assert main(["evaluate", "first", "--only", "masked_lm"]) == 0
    shown = capsys.readouterr().out
    assert "What first has learnt" in shown
    assert "left and right neighbour" in shown


def _masked_lm(out):
    (part,) = json.loads(out)["parts"]
    return part["result"]


def test_evaluate_refuses_a_shape_that_the_model_does_not_have(trained, monkeypatch, cache, capsys):
    folder, _, _, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    assert main(["evaluate", "first", "--quick", "--model.hidden-size", "64"]) == 2
    assert "--model.hidden-size: got 64; expected 32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", ""], "--only: got ''; expected some of masked_lm"),
        (["--only", "masked_lm", "--milestones", "--compare", "first"], "--compare: got it beside --milestones"),
        (["--task-file", "x.tsv", "--only", "masked_lm"], "--only: got it beside --task-file"),
        (["--overfit-one-batch", "--milestones"], "--milestones: got it beside --overfit-one-batch"),
        (["--only", "masked_lm", "--corpus", "nosuch"], "--corpus: got 'nosuch', an unknown corpus"),
        (["--only", "masked_lm", "--corpus", "text.txt=0"], "=0"),
        (["--only", "sst2", "--quick"], "nothing can be measured of sst2"),
        (["--only", "masked_lm", "--compare", "nobody"], "--compare: got 'nobody'"),
        (["--only", "masked_lm", "--json", "--latex"], "--json --latex: got several forms"),
        (["--only", "pos", "--corpus", "text.txt"], "--corpus: got it beside --only pos"),
    ],
)
def test_evaluate_answers_or_says_why_not(trained, monkeypatch, cache, capsys, words, said):
    folder, _, _, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    monkeypatch.setenv("MINI_BERT_DATA", str(folder / "no-data"))
    monkeypatch.setattr("pooch.retrieve", _no_network)
    assert main(["evaluate", "first", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert not shown.out


def _no_network(*arguments, **options):
    import requests

    raise requests.ConnectionError


def test_evaluate_can_score_another_corpus(trained, monkeypatch, cache, capsys):
    folder, _, _, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    (folder / "other.txt").write_text(_text(900)[::-1])
    words = ["evaluate", "first", "--quick", "--only", "masked_lm", "--json"]
    assert main(words) == 0
    own = _masked_lm(capsys.readouterr().out)
    assert main([*words, "--corpus", "other.txt"]) == 0
    other = _masked_lm(capsys.readouterr().out)
    assert (own["held_out"]["corpus"], other["held_out"]["corpus"]) == (["text.txt"], ["other.txt"])
    assert own["table"][0]["loss"] != other["table"][0]["loss"]


def test_evaluate_shows_how_a_run_has_learned(here, capsys):
    words = ["pretrain", *SMALL, "--corpus", "text.txt", "--run", "kept", "--train.steps", "20"]
    assert main([*words, "--train.milestones", "0", "10"]) == 0
    assert main([*words[:-4], "--run", "plain", "--train.steps", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "kept", "--milestones", "--quick", "--only", "masked_lm", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["steps"] == [0, 10, 20]
    losses = [one["parts"][0]["result"]["table"][0]["loss"] for one in shown["assessments"]]
    assert losses[0] == pytest.approx(math.log(120), abs=0.1)
    assert losses[0] > losses[1] > losses[2]
    assert main(["evaluate", "plain", "--milestones", "--quick"]) == 2
    assert "no model was kept on the way" in capsys.readouterr().err


def test_a_batch_that_is_not_learned_by_heart_is_a_failed_check(trained, monkeypatch, cache, capsys):
    folder, _, _, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINI_BERT_CACHE", str(cache))
    monkeypatch.setattr(import_module("mini_bert.cli.evaluate"), "_OVERFIT_STEPS", 3)
    assert main(["evaluate", "first", "--overfit-one-batch", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_json_holds_everything_that_is_printed(here, capsys):
    assert main(["pretrain", *SMALL, "--corpus", "text.txt", "--run", "j", "--train.steps", "4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [part["kind"] for part in result["results"]] == ["evaluation", "projection", "progression"]
    assert Path(result["checkpoint"]) == Path("runs/j/checkpoints/checkpoint-4")
    assert json.loads(Path("runs/j/result.json").read_text()) == result
    assert result["clozes"]
    for cloze in result["clozes"]:
        assert "[MASK]" in cloze["text"]
        assert len(cloze["hidden"]) >= 4


def test_a_run_is_resumed_with_its_own_settings_and_not_with_others(here, capsys):
    words = ["--corpus", "text.txt", "--run", "r"]
    assert main(["pretrain", *SMALL, *words, "--train.steps", "6", "--train.batch-size", "4"]) == 0
    assert main(["pretrain", *SMALL, *words]) == 2
    assert "--resume auto" in capsys.readouterr().err.splitlines()[-1]
    assert main(["pretrain", "--run", "r", "--resume", "auto", "--train.lr", "0.5"]) == 2
    assert "train.lr: got 0.5" in capsys.readouterr().err
    assert main(["pretrain", "--run", "r", "--resume", "auto"]) == 0
    assert "6 steps of 4 rows, from step 6" in capsys.readouterr().err


def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(here):
    words = [*SMALL, "--corpus", "text.txt", "--run", "c", "--train.steps", "100000", "--train.log-every", "10"]
    command = [sys.executable, "-m", "mini_bert", "pretrain", *words]
    found = {**os.environ, "PYTHONPATH": str(Path(mini_bert.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=found) as process:
        for line in process.stderr:
            if line.startswith("Step    20 | Loss"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait() == 130
        assert process.stdout.read() == ""
    assert "Traceback" not in rest
    (hint,) = [line for line in rest.splitlines() if line.startswith("Go on with: ")]
    assert hint.endswith("pretrain --run c --resume auto")
    checkpoint = re.search(r"after step (\d+) of 100,000; all is saved in (\S+)", rest)
    assert Path(checkpoint[2]) == Path(f"runs/c/checkpoints/checkpoint-{checkpoint[1]}")
    assert (here / checkpoint[2] / "manifest.json").is_file()


def test_ctrl_c_while_scoring_says_where_the_model_is(here, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mini_bert.evaluation.closing_report.evaluate_run", interrupted)
    assert main(["pretrain", *SMALL, "--corpus", "text.txt", "--run", "s", "--train.steps", "2"]) == 130
    err = capsys.readouterr().err
    assert "saved in runs/s/checkpoints/checkpoint-2" in err
    assert "evaluate runs/s" in err


@pytest.mark.parametrize("rate", ["1e5", "1e30"])
def test_a_training_that_diverges_ends_with_tables_or_one_line(here, capsys, rate):
    code = main(["pretrain", *SMALL, "--corpus", "text.txt", "--run", "d", "--train.steps", "3", "--train.lr", rate])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if code == 0:
        assert "perplexity beyond all floats" in err
        assert "Mini-BERT" in out
    else:
        assert code == 2
        (message,) = [line for line in err.splitlines() if line.startswith("mini-bert pretrain: ")]
        assert "--train.lr" in message


REFUSED = {
    "unknown corpus": (["--corpus", "novles"], ["novles", "'novels'"]),
    "no such file": (["--corpus", "nothing.txt"], ["nothing.txt", "no such file"]),
    "no such pattern": (["--corpus", "*.foo"], ["*.foo", "no file"]),
    "empty file": (["--corpus", "empty.txt"], ["empty.txt", "an empty file"]),
    "wrong encoding": (["--corpus", "latin.txt"], ["latin.txt", "0xe9", "UTF-8"]),
    "binary": (["--corpus", "binary.txt"], ["binary.txt", "NUL", "binary"]),
    "too small for the vocabulary": (["--corpus", "text.txt", "--model.vocab-size", "8192"], ["8192", "vocabulary of"]),
    "shorter than one row": (
        ["--corpus", "text.txt", "--model.vocab-size", "100", "--model.max-position-embeddings", "4096"],
        ["no text of 4096 tokens"],
    ),
    "unknown key": (["--config", "bad.yaml"], ["model.hiden_size in bad.yaml", "'hidden_size'"]),
    "heads do not divide": (["--model.hidden-size", "33"], ["model.hidden_size", "got 33", "num_attention_heads, 2"]),
    "wrong sha256": (["--corpus", "brown"], ["brown.zip", "sha256"]),
    "a name that is a path": (["--corpus", "text.txt", "--run", "a/b"], ["run.name", "'a/b'"]),
    "auto without a run": (["--corpus", "text.txt", "--resume", "auto"], ["run.resume", "auto without a run"]),
    "no such checkpoint": (
        ["--corpus", "text.txt", "--run", "n", "--resume", "nowhere"],
        ["run.resume", "nowhere", "RUN/checkpoints/"],
    ),
    "no name at all": (["--corpus", ""], ["got ''"]),
    "a model that no memory holds": (
        ["--corpus", "text.txt", "--config", "big.yaml"],
        ["parameters", "hidden_size"],
    ),
    "a size beyond all bounds": (["--model.hidden-size", "1000000000"], ["model.hidden_size", "at most 65536"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line_with_exit_code_2(here, capsys, case):
    words, reasons = REFUSED[case]
    (here / "empty.txt").write_bytes(b"")
    (here / "latin.txt").write_bytes("caf\xe9 au lait\n".encode("latin-1"))
    (here / "binary.txt").write_bytes(b"\x00\x01\x02\n")
    (here / "bad.yaml").write_text("model: {hiden-size: 3}")
    sizes = "hidden-size: 65536, intermediate-size: 262144, num-hidden-layers: 1024"  # 211 TB: no address space has it
    (here / "big.yaml").write_text(f"model: {{{sizes}}}")
    (here / "data" / "brown").mkdir(parents=True)
    (here / "data" / "brown" / "brown.zip").write_bytes(b"not the Brown corpus")
    assert main(["pretrain", *SMALL, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (message,) = [line for line in err.splitlines() if line.startswith("mini-bert pretrain: ")]
    for reason in reasons:
        assert reason in message
    assert "Traceback" not in err
    assert not (here / "runs").exists() or not list((here / "runs").rglob("checkpoint-*"))


def test_a_run_folder_in_use_is_refused(here, capsys):
    from mini_bert.training.ownership import RunLock

    with RunLock(here / "runs" / "busy"):
        assert main(["pretrain", *SMALL, "--corpus", "text.txt", "--run", "busy"]) == 2
    assert "runs/busy" in capsys.readouterr().err


def test_a_full_disk_is_refused_and_the_earlier_checkpoint_stays(here, capsys, monkeypatch):
    words = ["--corpus", "text.txt", "--run", "full", "--train.save-every", "2", "--train.steps", "4"]
    monkeypatch.setattr("os.fsync", _full_after(here / "runs" / "full" / "latest"))
    assert main(["pretrain", *SMALL, *words]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "No space left" in err
    monkeypatch.undo()
    assert (here / "runs" / "full" / "checkpoints" / "checkpoint-2" / "manifest.json").is_file()


def _full_after(written: Path):
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if written.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    return full


INFO = RunInfo(
    run=Path("runs/x"), config=load_config(["training/pretraining"], {"train.steps": 200}), first_step=0, steps=200,
    parameters=2_966_144, threads=2, steps_per_epoch=50, train_tokens=1_000_000, references=References(6.2, 5.6),
    ranks=1, forecast=Forecast(
        parameters=2_966_144, step_seconds=0.12, first_step=0, steps=200, seconds=24.0, tokens=819_200, epochs=4.0,
        memory_bytes=250_000_000, memory_available=8_000_000_000, in_flight=2, checkpoint_bytes=36_000_000,
        disk_bytes=108_000_000, disk_free=50_000_000_000,
    ),
)  # fmt: skip
RECORD = {
    "step": 100, "epoch": 2, "loss": 5.4321, "accuracy": 0.213, "grad_norm": 0.8765, "lr": 5e-4, "tokens": 409_600,
    "tokens_per_second": 18_234.5, "seconds": 22.0, "seconds_left": 75.0, "skipped": 0, "phase": "attention wakes up",
}  # fmt: skip


def test_a_step_on_one_line():
    assert progress_line(7, 9.0142, 0.0, 0.5, PLATEAU) == (
        "Step     7 | Loss 9.0142 | Acc  0.0% | Grad 0.500 | [plateau near the unigram loss]"
    )


def test_the_live_display_shows_every_quantity(monkeypatch):
    from rich.console import Console

    display = LiveDisplay()
    drawn = io.StringIO()
    display._console = Console(file=drawn, width=120, force_terminal=False, color_system=None)
    display.started(INFO)
    display.ticked(_Result(step=101))
    display.stepped(RECORD)
    display._console.print(display._draw())
    text = drawn.getvalue()
    for part in (
        "2,966,144 parameters", "step 101 of 200", "5.4321", "21.3%", "0.876", "5.00e-04", "18,23", "1:15 left",
        "attention wakes up", "6.20 knows how often",
    ):  # fmt: skip
        assert part in text, part


class _Result:
    def __init__(self, step: int) -> None:
        self.step = step


def test_the_untrained_score_comes_under_the_heading(capsys):
    display = PlainDisplay()
    display.evaluated({"step": 0, "loss": 9.01, "perplexity": 8184.5, "top1": 0.0})
    assert capsys.readouterr().err == ""
    display.started(INFO)
    display.stepped(RECORD)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == heading(INFO)
    assert lines[1].split() == ["parameters", "2,966,144"]
    assert lines[7] == "Step     0 | held-out loss 9.0100 | perplexity 8,184.5 | masked accuracy 0.0%"
    assert lines[8].startswith("Step   100 | Loss 5.4321 | Acc 21.3% | Grad 0.876 | [attention wakes up] | lr 5.00e-04")


def test_durations():
    assert [clock_time(seconds) for seconds in (0, 59.6, 3599, 3600, 100_000)] == [
        "0:00", "1:00", "59:59", "1:00:00", "27:46:40",
    ]  # fmt: skip
