from __future__ import annotations

import pytest

from mini_bert.config import load
from mini_bert.verification.reliability import configuration
from mini_bert.verification.reliability.promise import Scale

QUICK = Scale(quick=True)


@pytest.mark.parametrize("experiment", configuration.EXPERIMENTS, ids=lambda experiment: experiment.run.__name__)
def test_the_promise_holds(experiment, tmp_path):
    outcome = experiment.run(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


def test_every_setting_has_values_that_are_not_all_alike():
    settings = configuration.settings()
    assert len(settings) == sum(map(len, load.Config().to_dict().values()))
    for setting in settings:
        assert len(setting.values) == len(configuration.SOURCES), setting.full_name
        assert len(set(map(str, setting.values))) > 1, setting.full_name


def test_a_wrong_order_is_noticed(tmp_path, monkeypatch):
    right = load.layer_of_variables
    monkeypatch.setattr(load, "layer_of_variables", lambda variables: right({}))
    assert configuration.precedence(QUICK, tmp_path).failures


def test_a_setting_that_is_passed_over_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration, "load_config", lambda *_, **__: None)
    assert configuration.wrong_settings(QUICK, tmp_path).failures


def test_a_value_that_is_written_wrong_is_noticed(tmp_path, monkeypatch):
    right = load.one_line
    monkeypatch.setattr(load, "one_line", lambda value: "7" if value == 6 else right(value))
    assert configuration.written_and_read(QUICK, tmp_path).failures
