from __future__ import annotations

import json

import pytest

from mini_bert.cli import main
from mini_bert.cli.options import ConfigOptions
from mini_bert.cli.pretrain import _resumed_config
from mini_bert.config.load import load_config
from mini_bert.config.presets import preset_names


def shown(capsys, *words) -> dict:
    assert main(["config", "show", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_only_the_given_options_override_what_presets_set(capsys):
    config = shown(capsys, "--config", "model/tiny", "--config", "training/finetuning", "--train.batch-size", "12")
    expected = load_config(["model/tiny", "training/finetuning"]).to_dict()
    expected["train"]["batch_size"] = 12
    assert config == expected


@pytest.mark.parametrize(
    ("words", "section", "setting", "value"),
    [
        (["--train.lr", "1e-3"], "train", "lr", 0.001),
        (["--train.steps", "7"], "train", "steps", 7),
        (["--train.in-flight", "auto"], "train", "in_flight", "auto"),
        (["--train.in-flight", "2"], "train", "in_flight", 2),
        (["--model.heads", "mlm", "nsp"], "model", "heads", ["mlm", "nsp"]),
        (["--masking.kind", "whole_word"], "masking", "kind", "whole_word"),
        (["--tokenizer.no-lowercase"], "tokenizer", "lowercase", False),
        (["--corpus", "a.txt", "b.txt", "--corpus", "novels=2"], "data", "corpus", ["a.txt", "b.txt", "novels=2"]),
        (["--data.corpus", "brown"], "data", "corpus", ["brown"]),
        (["--run", "mine"], "run", "name", "mine"),
        (["--seed", "5"], "run", "seed", 5),
        (["--threads", "1"], "run", "threads", 1),
        (["--config", "training/pretraining", "--train.steps", "9"], "train", "minutes", None),
    ],
)
def test_each_option_reaches_its_setting(capsys, words, section, setting, value):
    assert shown(capsys, *words)[section][setting] == value


def test_the_plain_listing_is_a_configuration_file(capsys, tmp_path):
    assert main(["config", "show", "--plain", "--config", "training/debugging"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert load_config([tmp_path / "mine.yaml"]) == load_config(["training/debugging"])
    assert main(["config", "show", "--config", "training/debugging"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert load_config([tmp_path / "mine.yaml"]) == load_config(["training/debugging"])


def test_presets_are_listed(capsys):
    assert main(["config", "presets"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == preset_names()


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (["--model.hidden-size", "190"], ["model.hidden_size", "got 190", "multiple of num_attention_heads, 4"]),
        (["--config", "model/tyni"], ["'model/tyni'", "Did you mean 'model/tiny'?"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["--train.steps", "0"], ["train.steps", "got 0", "at least 1"]),
        (["--config", "BAD"], ["model.hiden_size in ", "Did you mean 'hidden_size'?"]),
    ],
)
def test_bad_configurations_end_in_one_line_and_exit_code_2(capsys, tmp_path, words, reasons):
    bad = tmp_path / "bad.yaml"
    bad.write_text("model: {hiden-size: 3}")
    assert main(["config", "show", *(str(bad) if word == "BAD" else word for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for reason in reasons:
        assert reason in err


FILE = """extends: model/tiny
train: {batch_size: 16}
environments:
  server: {train: {batch_size: 256}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(FILE)
    for name, rate in (("first", 1e-3), ("second", 2e-3)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"train: {{lr: {rate}}}\nrun: {{name: {name}}}")
    return tmp_path


def test_options_win_over_variables_and_variables_over_environments(capsys, here, monkeypatch):
    words = ["--config", "mine.yaml"]
    assert shown(capsys, *words)["train"]["batch_size"] == 16
    assert shown(capsys, *words, "--environment", "server")["train"]["batch_size"] == 256
    monkeypatch.setenv("MINI_BERT_ENVIRONMENT", "server")
    assert shown(capsys, *words)["train"]["batch_size"] == 256
    monkeypatch.setenv("MINI_BERT__TRAIN__BATCH_SIZE", "64")
    assert shown(capsys, *words)["train"]["batch_size"] == 64
    assert shown(capsys, *words, "--train.batch-size", "32")["train"]["batch_size"] == 32


def test_the_origin_of_every_value_is_shown(capsys, here, monkeypatch):
    monkeypatch.setenv("MINI_BERT__TRAIN__LR", "2e-3")
    words = ["config", "show", "--origins", "--config", "mine.yaml", "--environment", "server", "--seed", "3"]
    assert main(words) == 0
    lines = [line.split("#") for line in capsys.readouterr().out.splitlines() if "#" in line]
    origins = {value.strip(): origin.strip() for value, origin in lines}
    assert origins["hidden_size: 96"] == "preset model/tiny"
    assert origins["batch_size: 256"] == "mine.yaml, line 4 (environment server)"
    assert origins["lr: 0.002"] == "MINI_BERT__TRAIN__LR"
    assert origins["seed: 3"] == "option"
    assert origins["shards: 4"] == "default"
    assert len(lines) == sum(map(len, load_config().to_dict().values()))
    config = shown(capsys, *words[2:])
    assert config["train"]["lr"] == {"value": 0.002, "origin": "MINI_BERT__TRAIN__LR"}
    assert config["train"]["shards"] == {"value": 4, "origin": "default"}


def test_diff_ends_like_diff_and_names_both_sides(capsys, here):
    assert main(["config", "diff", "first", "runs/first/config.yaml"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["config", "diff", "first", "runs/second"]) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[3] == [
        "train.lr",
        "0.001",
        "runs/first/config.yaml,",
        "line",
        "1",
        "0.002",
        "runs/second/config.yaml,",
        "line",
        "1",
    ]
    assert [row[0] for row in rows[3:]] == ["train.lr", "run.name"]
    assert main(["config", "diff", "model/tiny", "mine.yaml", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["setting"] == "train.batch_size"
    assert found["values"] == [64, 16]
    assert found["origins"] == ["default", "mine.yaml, line 2"]
    assert main(["config", "diff", "model/tiny", "frist"]) == 2
    assert "'frist': got no such file or preset" in capsys.readouterr().err


def test_validate_goes_on_after_a_bad_file_and_lists_all(capsys, here):
    (here / "bad.yaml").write_text("train:\n  lr: fast\n  stepss: 3")
    assert main(["config", "validate", "mine.yaml", "model/tiny"]) == 0
    assert capsys.readouterr().out == "mine.yaml: OK\nmodel/tiny: OK\n"
    assert main(["config", "validate", "bad.yaml", "none.yaml", "mine.yaml"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "bad.yaml: 2 problems",
        "none.yaml: a problem",
        "mine.yaml: OK",
    ]
    assert any("train.lr in bad.yaml, line 2: got 'fast'" in line for line in lines)
    assert main(["config", "validate", "bad.yaml", "mine.yaml", "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)
    assert list(map(len, problems.values())) == [2, 0]
    assert main(["config", "validate"]) == 2
    assert "FILE: got none" in capsys.readouterr().err


def test_a_run_that_a_variable_names_goes_on_with_its_own_configuration(here, monkeypatch):
    monkeypatch.setenv("MINI_BERT__RUN__NAME", "first")
    assert _resumed_config(ConfigOptions(), "auto") == "runs/first/config.yaml"
    assert _resumed_config(ConfigOptions(run_name="second"), "auto") == "runs/second/config.yaml"
    assert _resumed_config(ConfigOptions(run_name="third"), "auto") is None


def test_a_single_setting_can_be_asked_for_before_all_are_known(monkeypatch):
    assert ConfigOptions().chosen("run", "name") is None
    monkeypatch.setenv("MINI_BERT__RUN__NAME", "first")
    assert ConfigOptions().chosen("run", "name") == "first"
    assert ConfigOptions(run_name="second").chosen("run", "name") == "second"
    assert ConfigOptions(settings={"run": {"directory": "/x"}}).chosen("run", "directory") == "/x"
