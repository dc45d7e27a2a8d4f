"""Extra tasks on the command line: switched on by a weight, shown while they are learned, refused where they cannot."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from mini_bert.cli import main
from mini_bert.cli.training_display import LiveDisplay

NOUNS = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee", "ant", "elk"]
SMALL = ["--config", "training/debugging", "--model.vocab-size", "100", "--train.steps", "6", "--train.log-every", "3"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [f"The {NOUNS[i % 10]} number {i % 37} sat. Then the {NOUNS[i * 7 % 10]} ran." for i in range(600)]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(lines))
    return path


@pytest.fixture
def pretrain(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> tuple[int, str]:
        code = main(["pretrain", *SMALL, "--corpus", str(text), "--run", "tasks", *options])
        return code, capsys.readouterr().err

    return run


def test_tasks_stand_in_each_line(pretrain) -> None:
    code, said = pretrain("--tasks.sentence-order", "0.5", "--tasks.token-order", "1")
    assert code == 0
    lines = [line for line in said.splitlines() if re.match(r"Step +[36] ", line)]
    assert len(lines) >= 3
    for line in lines:
        assert re.search(r"\| token order 0\.\d{3} \(\d+\.\d%\)", line), line
        assert re.search(r"\| sentence order 0\.\d{3} \(\d+\.\d%\)", line), line


def test_without_masked_lm_the_total_is_shown(pretrain) -> None:
    code, said = pretrain("--tasks.masked-lm", "0", "--tasks.replaced-token", "1")
    assert code == 0
    assert re.search(r"Step +6 \| held-out loss 0\.\d{4} \| replaced token 0\.\d{3} \(\d+\.\d%\)", said)
    assert "is guessing" not in said  # of which piece: nothing is masked


def test_what_a_run_ends_with(text: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Tasks beside the more frequent answer, where no masks were learned, and who opens the folder."""
    monkeypatch.chdir(tmp_path)
    words = ["pretrain", *SMALL, "--corpus", str(text), "--tasks.token-order", "1"]
    assert main([*words, "--tasks.masked-lm", "0", "--run", "other"]) == 0
    shown = capsys.readouterr().out
    assert "Masked language modelling was not trained" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("token order ")]
    assert re.fullmatch(r"token order +0\.\d{4} +\d+\.\d % +(89|9\d)\.\d % +[\d,]+", line)
    assert "transformers opens its encoder" in shown
    rates = ["--masking.rate-schedule", "linear", "--masking.final-rate", "0.4"]
    assert main([*words, *rates, "--model.position-embedding-type", "alibi", "--run", "variant"]) == 0
    shown = capsys.readouterr()
    assert "transformers has no such variant" in shown.out
    assert "not trained" not in shown.out
    assert re.search(r"Step +6 \| Loss .* \| masked 40\.0% \|", shown.err)
    assert main(["evaluate", "variant", "--only", "masked_lm", "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)["parts"][0]["result"]
    assert [task["task"] for task in evaluation["tasks"]] == ["token_order"]


def test_a_model_that_fills_no_masks_ends_with_its_tasks(text: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.yaml").write_text("model:\n  heads: []\n")
    words = ["pretrain", *SMALL, "--config", "bare.yaml", "--corpus", str(text)]
    words += ["--tasks.masked-lm", "0", "--tasks.token-order", "1"]
    assert main([*words, "--run", "bare"]) == 0
    assert re.search(r"^token order accuracy +0\.\d{4}$", capsys.readouterr().out, re.MULTILINE)
    assert main([*words, "--run", "json", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["step"] == 6
    assert 0 < shown["evaluation"]["token_order_loss"] < 2
    monkeypatch.setattr(import_module("mini_bert.cli.evaluate"), "_OVERFIT_STEPS", 3)
    assert main(["evaluate", "bare", "--overfit-one-batch"]) == 1
    assert "Not learned by heart in 3 updates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tasks.masked-lm", "0"], "masked_lm"),
        (["--tasks.masked-lm", "0", "--tasks.replaced-token", "1", "--tasks.replacements", "model"], "replacements"),
        (["--tasks.next-sentence", "1", "--data.layout", "sentences"], "data.layout"),
        (["--tasks.next-sentence", "1", "--model.type-vocab-size", "1"], "type_vocab_size"),
        (["--tasks.next-sentence", "-1"], "next_sentence"),
    ],
)
def test_what_cannot_be_is_refused_by_name(pretrain, options: list[str], named: str) -> None:
    code, said = pretrain(*options)
    assert code == 2
    assert named in said.replace("-", "_")


def test_the_live_display_has_a_line_a_task() -> None:
    from rich.console import Console

    display = LiveDisplay()
    record = {"loss": 5.0, "accuracy": 0.1, "grad_norm": 1.0, "lr": 1e-3, "tokens_per_second": 9.0, "phase": "refining"}
    record |= {"masking_rate": 0.214, "seconds_left": 5.0, "token_order_loss": 0.31234, "token_order_accuracy": 0.91}
    display._record, display._losses = record, [5.0]
    display.info = type("Info", (), {"steps": 10})()
    console = Console(width=100)
    with console.capture() as shown:
        console.print(display._draw())
    assert re.search(r"token order +0\.3123 +91\.0%", shown.get())
    assert re.search(r"masked accuracy .* masking rate .*\n.*21\.4%", shown.get())
