"""Overlays, variables, and which of all sources wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_bert.config.layers import Origin
from mini_bert.config.load import dump_config, load_config, resolve
from mini_bert.errors import ConfigError

MINE = """
extends: house.yaml
train: {lr: 3e-4, batch_size: 16}
environments:
  laptop:
    train: {batch-size: 8}
  server:
    train: {batch_size: 256}
    run: {threads: 16}
  bare:
"""
HOUSE = """
train: {lr: 5e-4, save_every: 100, log_every: 7}
environments:
  server:
    train: {lr: 9e-4, save_every: 500}
"""


@pytest.fixture
def mine(tmp_path) -> Path:
    (tmp_path / "house.yaml").write_text(HOUSE)
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def test_an_environment_lies_over_its_own_file_and_beneath_what_extends_that(mine):
    plain, server = load_config([mine]), load_config([mine], environment="server")
    assert (plain.train.batch_size, plain.run.threads, plain.train.save_every) == (16, None, 100)
    assert (server.train.batch_size, server.run.threads, server.train.save_every) == (256, 16, 500)
    assert server.train.lr == 3e-4  # the file that extends says so, after the overlay of the file beneath
    assert load_config([mine], environment="bare") == plain
    assert load_config([mine.parent / "house.yaml"], environment="server").train.lr == 9e-4


def test_each_source_wins_over_those_before_it(mine):
    """Defaults < preset < file < its overlay < later file < variable < override."""
    later = mine.with_name("later.yaml")
    later.write_text("train: {warmup_ratio: 0.4, evaluate_every: 44}")
    mine.write_text(
        "train: {max_grad_norm: 2, keep_checkpoints: 22, warmup_ratio: 0.2, evaluate_every: 22, log_every: 22}\n"
        "environments: {x: {train: {keep_checkpoints: 33, warmup_ratio: 0.3, evaluate_every: 33, log_every: 33}}}"
    )
    variables = {"MINI_BERT__TRAIN__EVALUATE_EVERY": "55", "MINI_BERT__TRAIN__LOG_EVERY": "55"}
    config, origins = resolve(
        ["training/debugging", mine, later], {"train.log_every": 66}, environment="x", variables=variables
    )
    names = ("verify_ranks_every", "save_every", "max_grad_norm", "keep_checkpoints", "warmup_ratio")
    names = (*names, "evaluate_every", "log_every")
    assert [getattr(config.train, name) for name in names] == [100, 10, 2, 33, 0.4, 55, 66]
    assert [str(origins.get(f"train.{name}", "default")) for name in names] == [
        "default",
        "preset training/debugging",
        f"{mine}, line 1",
        f"{mine}, line 2 (environment x)",
        f"{later}, line 1",
        "MINI_BERT__TRAIN__EVALUATE_EVERY",
        "option",
    ]
    assert str(origins["model.hidden_size"]) == "preset model/debug"


def test_the_origin_of_what_an_alternative_has_dropped_is_gone():
    config, origins = resolve(["training/pretraining"], {"train.steps": 7})
    assert config.train.minutes is None
    assert "train.minutes" not in origins
    assert origins["train.steps"] == Origin()


def test_the_listing_with_origins_is_a_configuration_file_too(mine, tmp_path):
    config, origins = resolve([mine], environment="server")
    (tmp_path / "again.yaml").write_text(dump_config(config, origins=origins))
    assert load_config([tmp_path / "again.yaml"]) == config


@pytest.mark.parametrize(
    ("environment", "variables", "reasons"),
    [
        ("sever", None, ["environment: got 'sever'", "Did you mean 'server'?"]),
        ("moon", None, ["Choices: bare, laptop, server."]),
        ("", None, ["environment: got ''"]),
        (None, {"MINI_BERT_ENVIRONMENT": "lapotp"}, ["MINI_BERT_ENVIRONMENT: got 'lapotp'", "'laptop'"]),
    ],
)
def test_an_environment_that_no_source_knows_is_refused(mine, environment, variables, reasons):
    with pytest.raises(ConfigError) as refused:
        load_config([mine], environment=environment, variables=variables)
    for reason in reasons:
        assert reason in str(refused.value)


def test_where_nothing_has_overlays_the_option_is_refused_and_the_variable_waits():
    with pytest.raises(ConfigError, match="None of the sources has any"):
        load_config(["model/tiny"], environment="server")
    assert load_config(["model/tiny"], variables={"MINI_BERT_ENVIRONMENT": "server"}) == load_config(["model/tiny"])


def test_the_variable_chooses_and_the_option_wins_over_it(mine):
    variables = {"MINI_BERT_ENVIRONMENT": "server"}
    assert load_config([mine], variables=variables).run.threads == 16
    assert load_config([mine], variables=variables, environment="laptop").train.batch_size == 8
    assert load_config([mine], variables={"MINI_BERT_ENVIRONMENT": ""}) == load_config([mine])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("environments: [a]", r"environments in .*line 1: got \['a'\]"),
        ("environments: {1: {train: {lr: 1}}}", "environments in .*got 1; expected a name"),
        ('environments: {"a\\e[2J": {}}', r"got 'a\\x1b\[2J'; expected a name"),
        ("environments: {a: 3}", r"environments\.a in .*got 3; expected sections"),
        ("environments:\n  other:\n    train: {lrr: 3}", "train.lrr in .*line 3: got an unknown setting.*'lr'"),
        ("environments: {a: {extends: model/tiny}}", "extends in .*unknown section"),
        ("enviroments: {a: {}}", "Did you mean 'environments'"),
    ],
)
def test_overlays_that_make_no_sense_are_refused_chosen_or_not(tmp_path, text, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load_config([path])


def test_no_variable_is_read_unless_asked_for(monkeypatch, mine):
    monkeypatch.setenv("MINI_BERT__TRAIN__LR", "7")
    monkeypatch.setenv("MINI_BERT_ENVIRONMENT", "server")
    assert load_config([mine]) == load_config([mine], variables={})
    assert load_config([mine]).train.lr == 3e-4


@pytest.mark.parametrize(
    ("variable", "text", "section", "setting", "value"),
    [
        ("TRAIN__LR", "2e-3", "train", "lr", 2e-3),
        ("train__lr", " 2e-3 ", "train", "lr", 2e-3),
        ("Train__Batch_Size", "128", "train", "batch_size", 128),
        ("TRAIN__STEPS", "null", "train", "steps", None),
        ("TRAIN__IN_FLIGHT", "auto", "train", "in_flight", "auto"),
        ("TRAIN__IN_FLIGHT", "2", "train", "in_flight", 2),
        ("TOKENIZER__LOWERCASE", "false", "tokenizer", "lowercase", False),
        ("TOKENIZER__STRIP_ACCENTS", "null", "tokenizer", "strip_accents", None),
        ("RUN__NAME", "007", "run", "name", "007"),
        ("DATA__CORPUS", "brown", "data", "corpus", ("brown",)),
        ("DATA__CORPUS", "brown=2, my/*.txt", "data", "corpus", ("brown=2", "my/*.txt")),
        ("DATA__CORPUS", '["a, b.txt", brown]', "data", "corpus", ("a, b.txt", "brown")),
        ("MODEL__HEADS", "[]", "model", "heads", ()),
        ("RUN__TRACKERS", "tensorboard,wandb", "run", "trackers", ("tensorboard", "wandb")),
    ],
)
def test_each_variable_reaches_its_setting(variable, text, section, setting, value):
    config = load_config(variables={f"MINI_BERT__{variable}": text})
    assert getattr(getattr(config, section), setting) == value


def test_variables_with_a_single_underscore_and_those_of_others_are_no_settings():
    others = {
        "MINI_BERT_DATA": "/x",
        "MINI_BERT_CACHE": "/y",
        "MINI_BERT_SERVICE_HOST": "z",
        "HOME": "/",
        "TRAIN__LR": "1",
    }
    assert load_config(variables=others) == load_config()


@pytest.mark.parametrize(
    ("variables", "reasons"),
    [
        ({"MINI_BERT__TRAIN__LRR": "1"}, ["train.lrr in MINI_BERT__TRAIN__LRR", "unknown setting", "'lr'"]),
        ({"MINI_BERT__TRIAN__LR": "1"}, ["trian in MINI_BERT__TRIAN__LR", "unknown section", "'train'"]),
        ({"MINI_BERT__LR": "1"}, ["MINI_BERT__LR", "names no setting", "MINI_BERT__TRAIN__LR"]),
        ({"MINI_BERT__": "1"}, ["names no setting"]),
        ({"MINI_BERT__\x1b[2J": "1"}, ["\\x1b[2J", "names no setting"]),
        ({"MINI_BERT__A__\udce9": "1"}, ["unknown section"]),
        ({"mini_bert__train__lr": "fast"}, ["train.lr in mini_bert__train__lr: got 'fast'; expected a valid number"]),
        ({"MINI_BERT__TRAIN__LR": ""}, ["MINI_BERT__TRAIN__LR", "an empty value"]),
        ({"MINI_BERT__TRAIN__LR": "null"}, ["train.lr", "got None"]),
        ({"MINI_BERT__TRAIN__LR": "nan"}, ["train.lr", "finite"]),
        ({"MINI_BERT__TRAIN__LR": "1", "MINI_BERT__train__lr": "2"}, ["as well", "one of the two"]),
        ({"MINI_BERT__TRAIN__BATCH-SIZE": "8", "MINI_BERT__TRAIN__BATCH_SIZE": "9"}, ["as well"]),
        ({"MINI_BERT__TRAIN__STEPS": "1", "MINI_BERT__TRAIN__MINUTES": "2"}, ["train.steps", "one of the two"]),
        ({"MINI_BERT__MODEL__HEADS": "[mlm"}, ["MINI_BERT__MODEL__HEADS", "line 1"]),
        ({"MINI_BERT__MODEL__HEADS": "[!!python/name:os.system x]"}, ["the tag"]),
        ({"MINI_BERT__MODEL__HEADS": "[a]: b"}, ["MINI_BERT__MODEL__HEADS"]),
        ({"MINI_BERT__MODEL__HEADS": "nps"}, ["model.heads in MINI_BERT__MODEL__HEADS", "'nsp'"]),
        ({"MINI_BERT__MODEL__HEADS": "[\udce9]"}, ["MINI_BERT__MODEL__HEADS", "UTF-8"]),
    ],
)  # fmt: skip
def test_variables_that_make_no_sense_are_refused_by_name(variables, reasons):
    with pytest.raises(ConfigError) as refused:
        load_config(variables=variables)
    for reason in reasons:
        assert reason in str(refused.value)


def test_files_that_extend_one_another_without_end_are_refused(tmp_path):
    """Twenty files of which each extends the next one twice would be a million."""
    for number in range(20):
        (tmp_path / f"{number}.yaml").write_text(f"extends: [{number + 1}.yaml, {number + 1}.yaml]")
    (tmp_path / "20.yaml").write_text("train: {lr: 1}")
    with pytest.raises(ConfigError, match=r"extends in .*more than 50 files"):
        load_config([tmp_path / "0.yaml"])
    (tmp_path / "many.yaml").write_text(f"extends: [{', '.join(['model/tiny'] * 2500)}]")
    with pytest.raises(ConfigError, match="more than 50 files"):
        load_config([tmp_path / "many.yaml"])
