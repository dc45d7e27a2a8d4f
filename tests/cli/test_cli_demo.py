from __future__ import annotations

from importlib import import_module

import pytest

from mini_bert.cli import main
from mini_bert.config.load import load_config


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The configurations that would have been trained."""
    monkeypatch.chdir(tmp_path)
    configs = []
    monkeypatch.setattr(
        import_module("mini_bert.cli.pretrain"), "train_and_show", lambda config, *, json: configs.append(config()) or 0
    )
    return configs


def test_demo_is_the_default_model_on_python_docs_without_dropout_for_ten_minutes(asked):
    assert main(["demo"]) == 0
    expected = load_config(["training/pretraining"], {"run.name": "demo"})
    assert asked == [expected]
    assert (expected.train.minutes, expected.data.corpus) == (10, ("python-docs",))
    assert (expected.model.hidden_size, expected.model.hidden_dropout_prob) == (192, 0)


def test_demo_takes_minutes_and_a_name_that_is_free(asked, tmp_path):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo-2").mkdir()
    assert main(["demo", "--minutes", "0.5", "--threads", "2"]) == 0
    assert main(["demo", "--run", "mine"]) == 0
    assert [(config.run.name, config.train.minutes, config.run.threads) for config in asked] == [
        ("demo-3", 0.5, 2),
        ("mine", 10, None),
    ]


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_demo_refuses_no_time_at_all(asked, capsys, minutes):
    assert main(["demo", "--minutes", minutes]) == 2
    assert "train.minutes" in capsys.readouterr().err
    assert asked == []
