from __future__ import annotations

import json

import pytest

from mini_bert.cli import main
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
        (["--masking.whole-word"], "masking", "whole_word", True),
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
