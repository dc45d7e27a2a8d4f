"""A study's file is validated whole; trials are known by what they are; a quick study is a small one."""

from __future__ import annotations

import pytest

from mini_bert.errors import ConfigError
from mini_bert.studies.keys import key_of_piece
from mini_bert.studies.pieces import config_of, pieces_of
from mini_bert.studies.plan import all_pieces, begins_from, plan_start, plan_trial
from mini_bert.studies.reading import made_quick, read_study, study_names


def piece(**settings):
    return {"plain": {"why": "As it is."}, "other": {"settings": settings, "why": "To see."}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pieces": piece(**{"train.lrr": 1})}, ["pieces.other", "train.lrr", "train.lr"]),
        ({"pieces": piece(train={"lr": -1})}, ["pieces.other", "train.lr", "more than 0"]),
        ({"pieces": piece(**{"optimiser.name": "lion"})}, ["pieces.other", "optimizer"]),
        ({"pieces": piece(**{"train.steps": 7})}, ["pieces.other.train.steps", "budget"]),
        ({"pieces": piece(**{"run.seed": 7})}, ["pieces.other.run.seed"]),
        ({"pieces": piece(**{"model.vocab_size": 512})}, ["pieces.other: model.vocab_size", "same held-out masks"]),
        ({"pieces": piece(**{"data.held_out_rows": 7})}, ["data.held_out_rows", "same held-out masks"]),
        ({"pieces": {"plain": {"settings": {}}}}, ["plain.why", "got nothing; expected a value"]),
        ({"pieces": {"plain": 3}}, ["plain", "settings beneath it"]),
        ({"pieces": {"plain": {"why": "x", "setings": {}}}}, ["plain.setings", "unknown", "settings"]),
        ({"pieces": {}}, ["pieces", "none"]),
        ({"baseline": "plan"}, ["baseline", "Did you mean 'plain'?"]),
        ({"settings": {"modl.vocab_size": 7}}, ["modl", "model"]),
        ({"extends": ["training/nothing"]}, ["training/nothing"]),
        ({"budget": {"steps": 3, "minutes": 1}}, ["budget", "one of the two"]),
        ({"budget": {}}, ["budget", "one of the two"]),
        ({"budget": 5}, ["budget", "got 5; expected a mapping"]),
        ({"seeds": [1, 1]}, ["seeds"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [True]}, ["seeds", "a number"]),
        ({"seeds": [2**64]}, ["seeds", "less than"]),
        ({"pieces": piece()}, ["pieces.other", "the same settings as plain"]),
        (
            {"pieces": piece(**{"train.lr": 1e-3}) | {"third": {"settings": {"train": {"lr": 0.001}}, "why": "x"}}},
            ["as "],
        ),
        ({"pieces": piece(**{"train.lr": 1}) | {"start": {"why": "x"}}}, ["pieces.start", "label"]),
        ({"pieces": piece(**{"train.lr": 1}) | {"plain, from nothing": {"why": "x"}}}, ["from nothing", "label"]),
        ({"grid": {"train.lr": list(range(1, 40)), "train.power": list(range(1, 40))}}, ["grid", "1,521 combinations"]),
        ({"grid": {"train.lr": 3}}, ["grid", "a list"]),
        ({"pieces": None}, ["pieces", "a mapping"]),
        ({"start": {"steps": 3, "model": "x"}}, ["start", "one of the two"]),
        ({"grid": {"train.lr": []}}, ["grid", "values"]),
        ({"grid": {"train.lr": [0.1, 0.2, 0.1]}}, ["grid.train.lr", "each value once"]),
        ({"settings": {"run.seed": 3}}, ["settings.run.seed", "budget and seeds"]),
        ({"settings": {"train": {"steps": 3}}}, ["settings.train.steps", "budget and seeds"]),
        ({"pieces": piece(**{"train.lr": 1}) | {" ": {"settings": {"train.lr": 2}, "why": "x"}}}, ["pieces", "' '"]),
        ({"grid": {"train.lr": [0.1, "much"]}}, ["lr much", "train.lr"]),
        ({"search": {"train.lr": {"low": 1}}}, ["train.lr.low", "one of the two"]),
        ({"search": {"train.lr": {"low": 2, "high": 1}}}, ["train.lr.low", "less than high"]),
        ({"search": {"train.lr": {"low": 0, "high": 1, "log": True}}}, ["train.lr.low", "more than 0"]),
        ({"search": {"train.warmup_ratio": {"low": 0, "high": 1}}}, ["search.train.warmup_ratio", "less than 1"]),
        ({"search": {"train.lr": {"low": 0.1, "high": 1}}, "budget": {"minutes": 1}}, ["budget.minutes", "search"]),
        ({"name": "No/Name"}, ["name", "expected text that matches ^"]),
        ({"questoin": "?"}, ["questoin", "question"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(study_file, changes, said):
    with pytest.raises(ConfigError) as raised:
        read_study(study_file(**changes))
    assert [part for part in [*said, "small.yaml"] if part not in str(raised.value)] == []


def test_no_such_study():
    with pytest.raises(ConfigError, match="Did you mean 'schedules'"):
        read_study("schedule")


@pytest.mark.parametrize("name", study_names())
def test_the_studies_of_the_package(name):
    study = read_study(name)
    assert study.name == name
    pieces = pieces_of(study)
    keys = [plan_trial(study, label, pieces[label].settings, 0, 100, None).key for label in pieces]
    assert len(set(keys)) == len(keys)
    assert study.question.endswith("?")
    assert all(each.why.endswith((".", "?")) for each in pieces.values())
    quick = read_study(name, quick=True)
    assert quick.baseline in pieces_of(quick)
    assert config_of(quick, {}).model.hidden_size == 32


def test_the_screen_has_at_most_24_pieces():
    study = read_study("toolbox")
    assert len(study.pieces) - 1 <= 24
    assert (study.budget.minutes, study.seeds, study.corpus) == (2, (0, 1), ("enwiki-2018",))
    final = read_study("toolbox_final")
    assert (len(final.pieces) - 1, final.budget.minutes, final.seeds) == (6, 8, (0, 1, 2))


def test_a_grid_is_a_piece_for_each_point(study):
    made = study(
        grid={"train.lr": [0.1, 0.001], "train.batch-size": [8, 16]}, baseline="lr 0.001, batch_size 8", pieces={}
    )
    pieces = pieces_of(made)
    assert len(pieces) == 4
    assert config_of(made, pieces["lr 0.1, batch_size 16"].settings).train.batch_size == 16


def test_layers_of_settings(study):
    made = study(settings={"model": {"vocab-size": 96, "hidden_size": 16}, "train.lr": 0.5})
    config = config_of(made, {"model": {"hidden_size": 8}}, train__steps=3)
    assert (config.model.vocab_size, config.model.hidden_size, config.train.lr) == (96, 8, 0.5)
    assert (config.train.steps, config.train.minutes) == (3, None)


def test_a_key_is_what_a_trial_is(study):
    one = study()
    key = plan_trial(one, "plain", {}, 0, 24, None).key
    assert plan_trial(study(question="Another?", notes="More."), "renamed", {}, 0, 24, None).key == key
    others = [
        plan_trial(one, "plain", {}, 1, 24, None),
        plan_trial(one, "plain", {}, 0, 25, None),
        plan_trial(one, "plain", {"train.lr": 0.5}, 0, 24, None),
        plan_trial(study(start={"steps": 5}), "plain", {}, 0, 24, ("somewhere", "that")),
    ]
    others += [
        plan_trial(study(measure=measure), "plain", {}, 0, 24, None)
        for measure in ({"first_below": 0.3}, {"first_below": 0.2}, {"first_below": 0.3, "reference": "unigram"})
    ]
    assert len({key, *(other.key for other in others)}) == 8
    others = others[:4]
    elsewhere = plan_trial(study(start={"steps": 5}), "plain", {}, 0, 24, ("elsewhere", "that"))
    assert elsewhere.key == others[-1].key
    assert elsewhere.config.run.start == "elsewhere"


def test_a_key_is_also_what_is_asked(study):
    """Pieces whose own settings stay the same are other trials where the baseline's rows or masks are others."""
    pieces = {"plain": {"why": "As it is."}, "fewer": {"settings": {"masking.rate": 0.1}, "why": "Fewer masks."}}
    other = {"settings": {"data.layout": "sentences"}, "why": "Rows of one sentence."}

    def key(**changes):
        made = study(**{"pieces": {**pieces, "sentences": other}, **changes})
        return plan_trial(made, "fewer", {"masking.rate": 0.1}, 0, 24, None).key

    assert key() == key(pieces=pieces)
    assert len({key(), key(baseline="fewer"), key(baseline="sentences")}) == 3


def test_time_depends_on_what_is_computed(study):
    made = study()
    same = key_of_piece(made, {})
    assert key_of_piece(made, {"train.lr": 0.5, "optimizer.beta2": 0.9, "model.initializer_range": 0.1}) == same
    for settings in ({"train.batch_size": 16}, {"optimizer.name": "lion"}, {"masking.rate": 0.3}):
        assert key_of_piece(made, settings) != same


def test_what_cannot_begin_from_the_given_weights_has_a_baseline_of_its_own(study):
    assert list(all_pieces(study())) == ["plain", "faster", "relu"]
    made = study(start={"steps": 5})
    assert list(all_pieces(made)) == ["plain", "faster", "relu", "plain, from nothing"]
    base = config_of(made, {})
    begins = {
        name: begins_from(made, config_of(made, settings), base)
        for name, settings in {
            "rate": {"train.lr": 0.5},
            "dropout": {"model.hidden_dropout_prob": 0.5},
            "act": {"model.hidden_act": "relu"},
            "first values": {"model.initializer_range": 0.5},
        }.items()
    }
    assert begins == {"rate": "start", "dropout": "start", "act": "nothing", "first values": "nothing"}
    planned = [plan_trial(made, label, each.settings, 0, 24, ("w", "w")) for label, each in all_pieces(made).items()]
    assert [(trial.begins, trial.config.run.start) for trial in planned] == [
        ("start", "w"),
        ("start", "w"),
        ("nothing", None),
        ("nothing", None),
    ]
    assert plan_start(made).seed not in made.seeds


def test_quick(study):
    made = made_quick(study(budget={"minutes": 600}, seeds=[4, 5, 6], start={"steps": 10_000}))
    assert (made.name, made.seeds, list(made.pieces)) == ("small-quick", (4, 5), ["plain", "faster", "relu"])
    assert made.budget.minutes < 0.1
    assert made.start.steps < 100
