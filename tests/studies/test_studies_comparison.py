"""Differences, intervals and verdicts of made-up trials, by hand; the result's file."""

from __future__ import annotations

import math

import pytest

from mini_bert.errors import DataError
from mini_bert.reports.study import study_block, study_tables
from mini_bert.studies.comparison import compare
from mini_bert.studies.keys import key_of_piece
from mini_bert.studies.pieces import pieces_of
from mini_bert.studies.result import Clock, Clocked, StudyResult, Trial

T1 = 12.706204736174694
"""Student's t for one degree of freedom."""


def trial(piece, seed, loss, **more):
    fields = {"settings": {}, "begins": "nothing", "status": "done", "steps": 24, "step": 24, **more}
    return Trial(key=f"{piece}-{seed}", piece=piece, seed=seed, loss=loss, **fields)


def result_of(study, *trials, clock=None):
    return StudyResult(about=study.question, study=study.to_dict(), trials=list(trials), clock=clock)


def by_piece(result):
    return {entry["piece"]: entry for entry in compare(result)}


def test_a_difference_paired_by_seed(study):
    found = by_piece(
        result_of(
            study(),
            trial("plain", 0, 5.0),
            trial("plain", 1, 6.0),
            trial("faster", 1, 5.4),  # in the order in which they ended, not of seeds
            trial("faster", 0, 4.6),
        )
    )
    entry = found["faster"]
    assert entry["difference"] == pytest.approx(-0.5)  # −0.4 and −0.6: standard error 0.1
    assert entry["interval"] == pytest.approx([-0.5 - T1 * 0.1, -0.5 + T1 * 0.1])
    assert (entry["seeds"], entry["verdict"], entry["against"]) == (2, "no difference seen", "plain")
    assert (found["plain"]["verdict"], found["plain"]["difference"], found["plain"]["value"]) == ("baseline", None, 5.5)
    assert (found["relu"]["verdict"], found["relu"]["problems"]) == ("not tried yet", {"missing": 2})


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [((4.5, 5.5), "helps"), ((5.5, 6.5), "hurts"), ((4.9, 6.4), "no difference seen")],
)
def test_verdicts(study, losses, verdict):
    plain = [trial("plain", 0, 5.0), trial("plain", 1, 6.0)]
    entry = by_piece(result_of(study(), *plain, *(trial("faster", s, loss) for s, loss in enumerate(losses))))["faster"]
    assert entry["verdict"] == verdict


def test_one_seed_is_no_verdict(study):
    entry = by_piece(result_of(study(), trial("plain", 0, 5.0), trial("plain", 1, 6.0), trial("faster", 0, 3.0)))[
        "faster"
    ]
    assert (entry["difference"], entry["interval"]) == (pytest.approx(-2.0), None)
    assert entry["verdict"] == "one seed: no verdict"


def test_many_pieces_show_how_far_chance_reaches(study):
    losses = {"plain": (5.0, 6.0), "faster": (4.5, 5.48), "relu": (4.99, 6.01)}
    trials = [trial(piece, seed, loss) for piece, own in losses.items() for seed, loss in enumerate(own)]
    entry = by_piece(result_of(study(), *trials))["faster"]
    # Residuals of the 3 × 2 table: ±0, ∓0.01, ±0.01, twice; σ² = 4e-4 / 2, t(2) = 4.3026527
    reach = 4.30265272974946 * math.sqrt(4e-4 / 2)
    assert entry["pooled_interval"] == pytest.approx([-0.51 - reach, -0.51 + reach])
    wide = {"plain": (5.0, 6.0), "faster": (4.6, 5.4), "relu": (5.0, 6.0)}
    trials = [trial(piece, seed, loss) for piece, own in wide.items() for seed, loss in enumerate(own)]
    entry = by_piece(result_of(study(), *trials))["faster"]
    assert entry["interval"][1] > 0 > entry["pooled_interval"][1]
    assert entry["verdict"] == "helps"


def test_three_seeds_are_narrower(study):
    made = study(seeds=[0, 1, 2])
    trials = [trial("plain", seed, 5.0) for seed in range(3)]
    trials += [trial("faster", seed, 4.5 + 0.1 * seed) for seed in range(3)]
    entry = by_piece(result_of(made, *trials))["faster"]
    reach = 4.30265272974946 * 0.1 / math.sqrt(3)
    assert entry["interval"] == pytest.approx([-0.4 - reach, -0.4 + reach])
    assert entry["verdict"] == "helps"


def test_what_diverged_is_a_result(study):
    bad = {"loss": None, "status": "diverged", "message": "NaN"}
    result = result_of(
        study(),
        trial("plain", 0, 5.0),
        trial("plain", 1, 6.0),
        trial("faster", 0, **bad),
        trial("faster", 1, 5.0),
        trial("relu", 0, **bad),
        trial("relu", 1, **{**bad, "status": "failed", "message": "ConfigError: no"}),
    )
    found = by_piece(result)
    assert found["faster"]["verdict"] == "diverged with 1 of 2 seeds; else one seed: no verdict"
    assert (found["faster"]["difference"], found["faster"]["interval"]) == (-1.0, None)
    assert (found["relu"]["verdict"], found["relu"]["problems"]) == ("diverged", {"diverged": 1, "failed": 1})
    assert found["relu"]["message"] == "NaN"


def clock_of(study, **ratios):
    settings = {label: piece.settings for label, piece in pieces_of(study).items()}
    return Clock(
        key=key_of_piece(study, {}),
        threads=2,
        baseline_seconds=0.1,
        pieces=[
            Clocked(
                piece=label,
                key=key_of_piece(study, settings[label]),
                seconds=[ratio, 9.0],
                baseline_seconds=[1.0, 9.0 / ratio],
                peak_bytes=150,
                baseline_peak_bytes=100,
            )
            for label, ratio in ratios.items()
        ],
        machine={"cores": 2, "blas": "some", "date": "2000-01-01"},
    )


def test_time_until_the_plateau_is_left(study):
    made = study(measure={"first_below": 0.3}, budget={"minutes": 1})
    relu = {"settings": {"model.hidden_act": "relu"}}
    result = result_of(
        made,
        *(trial("plain", seed, None, first_below=100) for seed in (0, 1)),
        *(trial("relu", seed, None, first_below=100, **relu) for seed in (0, 1)),
        *(trial("faster", seed, 5.0, first_below=None, settings={"train.lr": 0.01}) for seed in (0, 1)),
        clock=clock_of(made, relu=0.5),
    )
    found = by_piece(result)
    assert (found["plain"]["value"], found["relu"]["value"]) == (pytest.approx(10.0), pytest.approx(5.0))
    assert found["relu"]["difference"] == pytest.approx(-5.0)
    assert (found["relu"]["time_ratio"], found["relu"]["memory_ratio"]) == (pytest.approx(0.5), 1.5)
    assert found["faster"]["verdict"] == "not within the budget"
    assert "time until 0.3 nats below the attention-free loss, s" in study_tables(written(result))[0].columns


def written(result):
    return result.model_copy(update={"comparison": compare(result)}).model_dump(mode="json")


def test_pieces_from_nothing_are_compared_with_the_baseline_from_nothing(study):
    made = study(start={"steps": 5})
    result = result_of(
        made,
        *(trial("plain", seed, 4.0, begins="start") for seed in (0, 1)),
        *(trial("plain, from nothing", seed, 6.0) for seed in (0, 1)),
        *(trial("relu", seed, 5.9) for seed in (0, 1)),
    )
    entry = by_piece(result)["relu"]
    assert (entry["against"], entry["difference"]) == ("plain, from nothing", pytest.approx(-0.1))
    text = study_block(written(result))
    assert "as these weights do not fit: relu." in text
    assert "5 steps of the baseline with another seed" in text


def test_the_table(study):
    made = study(budget={"minutes": 2})
    trials = [trial("plain", 0, 5.0), trial("plain", 1, 6.0), trial("faster", 0, 4.5), trial("faster", 1, 5.5)]
    table = study_tables(written(result_of(made, *trials, clock=clock_of(made, relu=1.25))))[0]
    assert table.title == "small: 2.0 min a trial, 2 seeds"
    assert table.rows[0][:3] == ("plain", "5.500", "—")
    assert table.rows[1] == ("faster", "5.000", "−0.500", "−0.500 … −0.500", "—", "1.00", "1.00", "24", "2", "helps")
    assert table.rows[2][0] == "relu"
    assert any("12.7 standard errors" in note for note in table.notes)


def test_the_file_goes_and_comes(study, tmp_path):
    result = result_of(study(), trial("plain", 0, 5.0, loss_interval=(4.9, 5.1), train_losses=[(1, 6.0), (2, None)]))
    result.write(tmp_path / "new" / "small.json")
    assert StudyResult.read(tmp_path / "new" / "small.json") == result
    assert result.as_study() == study()
    for content in ("{", '{"format": 2}', "[]"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match="result of a study"):
            StudyResult.read(tmp_path / "bad.json")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        StudyResult.read(tmp_path / "nowhere.json")
