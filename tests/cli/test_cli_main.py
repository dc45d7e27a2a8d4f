from __future__ import annotations

import ast
import errno
import io
import os
import subprocess
import sys
from importlib import import_module

import pytest

import mini_bert
from mini_bert.cli import VERBS, main


def test_without_a_verb_it_lists_them_all(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for verb in VERBS:
        assert f"  {verb} " in out


def test_a_family_of_verbs_lists_its_own(capsys):
    assert main(["tokenizer", "--help"]) == 0
    out = capsys.readouterr().out
    assert "tokenizer explain" in out
    assert "pretrain" not in out.replace("mini-bert pretrain", "")
    assert main(["tokenizer"]) == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["pretrian"], "'pretrain'"), (["tokenizer", "explane"], "'tokenizer explain'"), (["fill_mask"], "'fill-mask'")],
)
def test_a_mistyped_verb_is_answered_with_the_nearest(capsys, words, hint):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert hint in err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(capsys, verb):
    assert main([*verb.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: mini-bert {verb}" in out
    assert f"  mini-bert {verb}" in out.partition("Examples:")[2]


@pytest.mark.parametrize(("verb", "rate", "dropout"), [("pretrain", "0.001", "0.0"), ("finetune", "0.0003", "0.1")])
def test_help_shows_the_values_that_a_verb_begins_from(capsys, verb, rate, dropout):
    main([verb, "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"peak learning rate (default: {rate})" in shown
    assert f"dropout on attention weights (default: {dropout})" in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_in_the_examples_of_the_help_exists(capsys, verb):
    main([*verb.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    examples = [line.partition("#")[0] for line in lines if line.startswith(f"  mini-bert {verb} ")]
    options = "\n".join(line for line in lines if not line.startswith("  mini-bert "))
    for example in examples:
        for word in example.split():
            if word.startswith("--"):
                assert f" {word} " in options, example


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["config", "show", "--train.batchsize", "3"], "--train.batch-size"),
        (["config", "show", "--modle.hidden-size", "3"], "--model.hidden-size"),
        (["config", "show", "--corpu", "x"], "--corpus"),
        (["fill-mask", "x", "y", "--topk", "3"], "--top-k"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(capsys, words, hint):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert hint in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words", [["config", "show", "--train.lr", "fast"], ["config", "show", "--train.lr"], ["convert"]]
)
def test_a_wrong_or_missing_value_is_bad_input(capsys, words):
    assert main(words) == 2
    assert capsys.readouterr().out == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mini-bert {mini_bert.__version__}\n"


def test_ctrl_c_exits_130_and_a_full_pipe_quietly(capsys, monkeypatch):
    config = import_module("mini_bert.cli.config")

    def interrupted() -> int:
        """Stop."""
        raise KeyboardInterrupt

    monkeypatch.setattr(config, "presets", interrupted)
    assert main(["config", "presets"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m mini_bert config show | {sys.executable} -c 'pass'"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def _modules_after(code: str) -> set[str]:
    code = f"{code}\nimport sys; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_importing_the_package_and_listing_verbs_load_nothing_heavy():
    loaded = _modules_after("import mini_bert, mini_bert.cli; mini_bert.cli.main([])")
    assert not loaded & {"numpy", "pydantic", "rich", "tyro", "yaml", "pooch", "threadpoolctl", "requests"}


def test_verbs_run_blas_with_one_thread_unless_told_before():
    code = (
        "import os, mini_bert.cli; mini_bert.cli.main(['config', 'presets']);"
        "import numpy, threadpoolctl; print({p['num_threads'] for p in threadpoolctl.threadpool_info()})"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=free)
    assert done.stdout.splitlines()[-1] == "{1}"


class _FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (_FullDisk(), "standard output: got No space left on device"),
        (io.TextIOWrapper(io.BytesIO(), encoding="ascii"), "the encoding ascii, which has no 'é'"),
    ],
)
def test_output_that_cannot_be_written_is_one_line(capsys, monkeypatch, output, reason):
    def presets() -> int:
        """Say something."""
        print("é")
        return 0

    monkeypatch.setattr(import_module("mini_bert.cli.config"), "presets", presets)
    monkeypatch.setattr("sys.stdout", output)
    assert main(["config", "presets"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert reason in err


def test_a_buffered_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m mini_bert config presets | true"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")


def test_too_little_memory_is_bad_input(capsys, monkeypatch):
    def too_large() -> int:
        """Ask for too much."""
        raise MemoryError("Unable to allocate 745. GiB")

    monkeypatch.setattr(import_module("mini_bert.cli.config"), "presets", too_large)
    assert main(["config", "presets"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "745. GiB" in err
    assert "--train.batch-size" in err
