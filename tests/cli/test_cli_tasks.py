"""Extra tasks on the command line: switched on by a weight, shown while they are learned, refused where they cannot."""

from __future__ import annotations

import re
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
    record |= {"seconds_left": 5.0, "token_order_loss": 0.31234, "token_order_accuracy": 0.91}
    display._record, display._losses = record, [5.0]
    display.info = type("Info", (), {"steps": 10})()
    console = Console(width=100)
    with console.capture() as shown:
        console.print(display._draw())
    assert re.search(r"token order +0\.3123 +91\.0%", shown.get())
