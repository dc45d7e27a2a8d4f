from __future__ import annotations

import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from mini_bert import MiniBERT, ModelConfig
from mini_bert.cli import main
from mini_bert.cli.verification_display import LiveDisplay, PlainDisplay
from mini_bert.ops import tanh
from mini_bert.verification import certificate, torch_oracle
from mini_bert.verification.certificate import Certificate
from mini_bert.verification.evidence import Evidence


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch):
    monkeypatch.setattr(torch_oracle, "installed", lambda: False)


def row_of(number: int, **changes) -> Evidence:
    row = Evidence("default model", f"W_{number}", "complex step", "dropout", 1e-15, 1e-12, 21, "")
    return row._replace(**changes)


def test_an_operation_passes_and_its_tables_are_printed(capsys):
    assert main(["verify", "--op", "tanh"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("Operations: worst error over all cases")
    assert " ".join(lines[1].split()) == "operation complex step central differences slow loops PyTorch float32"
    assert lines[3].split()[0] == "tanh"
    assert "— under PyTorch: not installed." in out
    assert lines[-1].startswith("PASS: ")
    assert "operations, tanh: 5 checks, float32 " in err
    assert "identities: 4 checks" in err


def test_several_operations_in_either_way_of_writing(capsys):
    assert main(["verify", "--op", "tanh", "relu", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["verify", "--op", "tanh", "--op", "relu", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert first["command"] == second["command"] == "mini-bert verify --op tanh --op relu"
    assert {row["subject"] for row in first["evidence"] if row["part"] == "operations"} == {"tanh", "relu"}
    assert first["scope"] == "operations tanh, relu"
    assert first["evidence"] == second["evidence"]


def test_an_operation_that_does_not_exist_is_answered_with_the_nearest(capsys):
    assert main(["verify", "--op", "layernorm"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "mini-bert verify: --op: got 'layernorm'; expected an operation. Did you mean 'layer_norm'?\n"


def test_what_fails_is_named_and_is_exit_code_1(capsys, monkeypatch):
    monkeypatch.setattr(tanh, "backward", lambda dy, saved: (dy * (1.0 - saved.y),))
    assert main(["verify", "--op", "tanh"]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "FAIL: 3 of 8 checks"
    assert "\n✗ tanh, complex step (operations: x [3, 4]): " in out
    assert "x[" in out.partition("✗ tanh, complex step (operations")[2].splitlines()[0]
    assert main(["verify", "--op", "tanh", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_the_certificate_is_written_where_asked(capsys, tmp_path):
    assert main(["verify", "--op", "relu", "--out", str(tmp_path / "new" / "folder")]) == 0
    assert capsys.readouterr().err.count("written: ") == 2
    made = Certificate.from_json((tmp_path / "new" / "folder" / "certificate.json").read_bytes())
    assert made.passed
    assert made.command == f"mini-bert verify --op relu --out {tmp_path / 'new' / 'folder'}"
    assert (tmp_path / "new" / "folder" / "certificate.md").read_text(encoding="utf-8").startswith("# Certificate")


def test_a_folder_that_cannot_be_is_found_before_anything_is_checked(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(certificate, "_checks", lambda *_: (pytest.fail("checked") for _ in [0]))
    assert main(["verify", "--out", str(tmp_path / "file")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(tmp_path / "file") in err


def test_a_model_of_ones_own(capsys, tmp_path):
    config = ModelConfig(
        vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=2, intermediate_size=5,
        max_position_embeddings=9, heads=("classifier",),
    )  # fmt: skip
    MiniBERT(config, seed=1).save_pretrained(tmp_path / "mine")
    assert main(["verify", "--model", str(tmp_path / "mine"), "--quick", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["models"]["your model"].startswith("L=1 H=6 A=2 I=5 T=9 V=13, gelu, heads classifier, ")
    assert result["command"] == f"mini-bert verify --model {tmp_path / 'mine'} --quick"
    tensors = {row["subject"] for row in result["evidence"] if row["part"] == "your model"}
    assert tensors >= {"token_embeddings", "W_Q_0", "W_pooler", "W_classifier", "b_classifier"}
    assert {row["oracle"] for row in result["evidence"] if row["error"] is None} == {"PyTorch"}


def test_a_model_that_does_not_exist(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--model", "nobody"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "nobody" in err


def test_everything_is_asked_for_by_default(capsys, monkeypatch):
    asked = {}

    def certify(**options):
        asked.update(options)
        return iter([row_of(0)])

    monkeypatch.setattr(certificate, "certify", certify)
    assert main(["verify", "--quick"]) == 0
    assert asked == {"ops": None, "model": None, "quick": True}
    assert main(["verify"]) == 0
    assert asked["quick"] is False
    assert capsys.readouterr().out.splitlines()[-1] == "PASS: 1 checks, 21 numbers compared"


def test_plain_lines_are_one_a_group(capsys):
    display = PlainDisplay()
    for row in (
        *(row_of(number) for number in range(3)),
        row_of(0, oracle="PyTorch", error=None, detail="not installed"),
        row_of(0, part="conditions", subject="dropout"),
        row_of(0, part="zeros", oracle="zero", error=math.nan),
        row_of(1, part="zeros", oracle="zero", error=0.0),
    ):
        display(row)
    display.finish()
    display.finish()
    lines = [line.partition(" s  ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "default model, complex step: 3 checks, complex step 1.0e-15 of 1e-12",
        "default model, PyTorch: 1 checks, not installed",
        "conditions, dropout: 1 checks, complex step 1.0e-15 of 1e-12",
        "zeros: 2 checks, zero nan ✗ of 1e-12",
    ]


def test_the_live_table_shows_the_newest_rows_and_leaves_finished_ones():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, height=20, force_terminal=False)
    display = LiveDisplay(console, keep=True)

    def drawn() -> str:
        with console.capture() as capture:
            console.print(display.draw())
        return capture.get()

    assert "0 checks" in drawn()
    for number in range(40):
        display(row_of(number))
    assert len(drawn().splitlines()) <= 20
    assert "W_39" in drawn()
    assert "W_10 " not in drawn()
    assert "40 checks" in drawn()
    for number in range(3):
        display(row_of(number, oracle="central differences"))
    assert "W_2 " in drawn()
    assert console.file.getvalue() == ""
    display(row_of(0, part="zeros", oracle="zero", detail="nothing reads it; 0"))
    assert "W_10 " in console.file.getvalue()
    assert "The default model: worst error of every" in console.file.getvalue()
    display.finish()
    assert "nothing reads it" in console.file.getvalue()

    silent = LiveDisplay(Console(file=io.StringIO(), width=100, height=20), keep=False)
    silent(row_of(0))
    silent.finish()
    assert silent._console.file.getvalue() == ""


@pytest.mark.slow
def test_on_a_terminal_tables_are_drawn_and_the_verdict_is_last(tmp_path):
    """A pseudo-terminal, as `script` gives it."""
    import pty

    shown = []

    def read(descriptor: int) -> bytes:
        import os

        data = os.read(descriptor, 65536)
        shown.append(data)
        return data

    code = "from mini_bert.cli import main; import sys; sys.exit(main(['verify', '--op', 'relu']))"
    status = pty.spawn([sys.executable, "-c", code], read)
    text = b"".join(shown).decode(errors="replace")
    assert status == 0
    assert "Operations: worst error" in text
    assert text.rstrip().splitlines()[-1].startswith("\x1b[1;32mPASS: ")


def test_asking_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys; from mini_bert.verification import torch_oracle; torch_oracle.installed = lambda: False;"
        "from mini_bert.cli import main; main(['verify', '--op', 'relu', '--json']);"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads(done.stdout)["seconds"])
