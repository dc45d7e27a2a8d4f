"""A setting that changes nothing beside the others is named; one that does is not."""

from __future__ import annotations

import pytest

from mini_bert.cli import main
from mini_bert.config import no_effect
from mini_bert.config.load import load_config
from mini_bert.config.no_effect import without_effect
from mini_bert.config.presets import preset_names
from mini_bert.config.schema import Config
from mini_bert.studies.pieces import config_of, pieces_of
from mini_bert.studies.reading import read_study, study_names

IN_VAIN = [
    ({"optimizer.momentum": 0.5}, "optimizer.momentum 0.5 has no effect beside optimizer.name adamw"),
    ({"optimizer.name": "sgd", "optimizer.beta1": 0.8}, "optimizer.beta1 0.8"),
    ({"model.rope_theta": 500.0}, "it is for rotary"),
    ({"train.power": 3}, "it is for polynomial"),
    ({"train.schedule": "constant", "train.min_lr_ratio": 0.1}, "beside train.schedule constant"),
    ({"train.clipping": "adaptive", "train.max_grad_norm": 5}, "it is for global, layer"),
    ({"masking.patterns": ["a", "b"]}, "masking.patterns a, b has no effect beside masking.kind token"),
    ({"masking.adaptive_range": [0.2, 0.3]}, "masking.adaptive_range 0.2, 0.3"),
    ({"masking.rate_schedule": "adaptive", "masking.final_rate": 0.3}, "it is for linear, cosine"),
    ({"curriculum.until": 0.9}, "beside curriculum.kind none"),
    ({"tasks.shuffle_share": 0.3}, "without tasks.token_order"),
    ({"optimizer.lookahead_alpha": 0.8}, "without optimizer.lookahead"),
    ({"health.lr_cut": 0.1}, "without health.lr_cut_after_skips or health.lr_cut_after_evaluations"),
    ({"tasks.masked_lm": 0, "tasks.token_order": 1, "masking.rate": 0.3}, "beside tasks.masked_lm 0"),
    ({"train.steps": 20, "train.warmup_steps": 20}, "train.warmup_steps 20 of 20"),
    ({"train.steps": 1, "train.warmup_steps": 50}, "train.warmup_steps 50 of 1"),
    ({"train.steps": 5, "optimizer.lookahead": 6}, "optimizer.lookahead 6 has no effect within 5 steps"),
    ({"masking.rate_schedule": "adaptive", "train.steps": 20, "train.evaluate_every": 20}, "at step 20"),
]
USEFUL = [
    {"optimizer.name": "muon", "optimizer.momentum": 0.5, "optimizer.eps": 1e-7},
    {"model.position_embedding_type": "rotary", "model.rope_theta": 500.0},
    {"masking.kind": "pmi", "masking.span_max": 4},
    {"masking.rate_schedule": "adaptive", "train.steps": 21, "train.evaluate_every": 20},
    {"health.lr_cut": 0.1, "health.lr_cut_after_evaluations": 3},
    {"optimizer.lookahead": 5, "optimizer.lookahead_alpha": 0.8},
    {"train.steps": 20, "train.warmup_steps": 19},
    {"train.steps": 1, "train.warmup_steps": 1},
]


@pytest.mark.parametrize(("settings", "said"), IN_VAIN, ids=lambda value: "" if isinstance(value, str) else str(value))
def test_a_setting_in_vain_is_named(settings, said):
    (sentence,) = without_effect(load_config([], settings))
    assert said in sentence


@pytest.mark.parametrize("settings", USEFUL, ids=str)
def test_a_setting_that_is_read_is_not(settings):
    assert without_effect(load_config([], settings)) == []


def test_no_preset_and_no_piece_of_a_study_sets_anything_in_vain():
    for name in preset_names():
        assert without_effect(load_config([name])) == [], name
    for name in study_names():
        study = read_study(name)
        for label, piece in pieces_of(study).items():
            config = config_of(study, piece.settings, train__evaluate_every=250)
            assert without_effect(config) == [], (name, label)


def test_the_tables_name_settings_and_values_that_exist():
    values = Config().to_dict()
    for setting, (other, allowed) in no_effect._READ_BESIDE.items():
        section, name = other.split(".")
        kind = Config.model_fields[section].annotation.model_fields[name].annotation
        assert set(allowed) <= set(kind.__args__), setting
    others = [name for names in no_effect._READ_WITH.values() for name in names]
    for setting in (*no_effect._READ_BESIDE, *no_effect._READ_WITH, *others):
        section, name = setting.split(".")
        assert name in values[section], setting


def test_validate_and_show_say_so(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {power: 3}\nenvironments: {big: {optimizer: {momentum: 0.5}}}")
    assert main(["config", "validate", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("OK")
    assert [line.split()[:2] for line in lines[1:]] == [["Note:", "train.power"], ["Note:", "optimizer.momentum"]]
    assert main(["config", "show", "--config", str(file)]) == 0
    assert "Note: train.power 3.0 has no effect" in capsys.readouterr().err
