"""The search and the sensitivity, drawn: what is marked where, and what is left out."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mini_bert.analysis.learning_rate_sensitivity import analyze_learning_rate_sensitivity
from mini_bert.errors import InvalidInputError, MissingExtraError, StorageError
from mini_bert.optim.schedules import SCHEDULES
from mini_bert.reports import schedule_picture
from mini_bert.reports.learning_rate_curve import draw_text, to_dict, write
from mini_bert.reports.learning_rate_sensitivity import sensitivity_of, sensitivity_picture, sensitivity_table
from mini_bert.training.lr_finder import LearningRateCurve, Point, Proposal, propose, rate

ROOT = Path(__file__).resolve().parents[2]
RATES = [rate(i, 1e-5, 1.0, steps=101) for i in range(101)]


def curve(loss: Any = lambda x: 7 + (x + 2) ** 2 / 3) -> LearningRateCurve:
    points = [Point(lr, loss(math.log10(lr)), lr, loss(math.log10(lr))) for lr in RATES]
    return LearningRateCurve(points, "1 was reached", propose(points, 20))


def test_the_curve_stands_over_its_axis() -> None:
    """Each mark of the curve, read back from its row and column, is a point of the parabola."""
    lines = draw_text(curve()).splitlines()
    rows = [line for line in lines if "│" in line]
    axis = next(line for line in lines if "└" in line)
    ticks = [place for place, character in enumerate(axis) if character == "┴"]
    assert len(ticks) == 6  # 1e-5 to 1
    widths = [after - before for before, after in pairwise(ticks)]
    assert max(widths) - min(widths) <= 1
    heights = [float(row.partition("│")[0]) for row in rows]
    for row, height in zip(rows, heights, strict=True):
        for place, character in enumerate(row):
            if character == "•" and height < heights[0]:
                x = -5 + 5 * (place - ticks[0]) / (ticks[-1] - ticks[0])
                assert height == pytest.approx(7 + (x + 2) ** 2 / 3, abs=0.75 * (heights[0] - heights[1]))
    columns = {place for row in rows for place, character in enumerate(row) if character == "•"}
    assert columns == set(range(ticks[0], ticks[-1] + 1))


def test_marks_stand_under_their_rates() -> None:
    lines = draw_text(curve()).splitlines()
    axis = next(line for line in lines if "└" in line)
    ticks = [place for place, character in enumerate(axis) if character == "┴"]
    marks = {line.split()[1]: line.index("▲") for line in lines if "▲" in line}
    assert marks["lowest"] == ticks[3]  # 1e-2
    assert marks["proposed"] == ticks[2]  # 1e-3
    assert set(marks) == {"lowest", "proposed", "steepest"}


def test_a_loss_that_diverges_leaves_at_the_top() -> None:
    lines = draw_text(curve(lambda x: 7 - x if x < -1 else 10.0 ** (x + 3))).splitlines()
    assert float(lines[0].partition("│")[0]) < 13


def test_a_flat_curve_and_a_short_one() -> None:
    assert "•" in draw_text(curve(lambda x: 7.0))
    with pytest.raises(InvalidInputError):
        draw_text(LearningRateCurve([Point(1e-3, 7.0, 1e-3, 7.0)], "", Proposal(None, "")))


def test_json_has_all_of_it() -> None:
    found = json.loads(json.dumps(to_dict(curve())))
    assert found["kind"] == "learning_rate_curve"
    assert len(found["points"]) == 101
    assert found["proposal"]["turned"]
    assert found["stopped"] == "1 was reached"


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="plots"):
        write(curve(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.reference
def test_the_same_curve_draws_the_same_files(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b" / "c"]
    for folder in folders:
        assert [path.name for path in write(curve(), folder)] == ["learning_rate.json", "learning_rate.svg"]
    for name in ("learning_rate.json", "learning_rate.svg"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    drawn = (folders[0] / "learning_rate.svg").read_text(encoding="utf-8")
    for text in ("proposed: 0.001", "lowest: 0.01", "loss of each batch", "learning rate"):
        assert text in drawn


@pytest.mark.reference
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write(curve(), tmp_path / "file")


@pytest.mark.reference
def test_a_search_that_ended_at_once_has_no_picture(tmp_path: Path) -> None:
    short = LearningRateCurve(curve().points[:1], "not finite", Proposal(None, "too short"))
    assert [path.name for path in write(short, tmp_path)] == ["learning_rate.json"]


def study(grid: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3), seeds: int = 2, **settings: Any) -> dict[str, Any]:
    trials = [
        {
            "piece": f"lr {lr:g}",
            "seed": seed,
            "settings": {"train.lr": lr, **settings},
            "status": "done" if lr < 4e-3 else "diverged",
            "loss": 3 + abs(math.log(lr / 1e-3)) / 10 + seed / 100 if lr < 4e-3 else None,
        }
        for lr in grid
        for seed in range(seeds)
    ]
    return {"trials": trials}


def test_a_study_over_rates_has_a_table_of_them() -> None:
    found = sensitivity_of(study())
    assert found is not None
    table = sensitivity_table(found)
    assert [row[0] for row in table.rows] == ["0.0005", "0.001", "0.002", "0.004"]
    assert table.rows[1][1] == "3.005"
    assert [row[3] for row in table.rows] == ["+0.069", "+0.000", "+0.069", "—"]
    assert table.rows[3][4] == "2"
    assert table.strong == (1,)
    assert "span a factor of 2.7" in table.notes[0]  # exp(0.5) to either side


def test_other_studies_and_unfinished_ones_have_none() -> None:
    assert sensitivity_of(study(**{"train.batch_size": 8})) is None
    assert sensitivity_of({"trials": []}) is None
    assert sensitivity_of(study(grid=(1e-3, 2e-3))) is None
    unfinished = study()
    del unfinished["trials"][1]
    found = sensitivity_of(unfinished)
    assert found is not None
    assert [rate.lr for rate in found.rates] == [1e-3, 2e-3, 4e-3]


@pytest.mark.reference
def test_the_same_study_draws_the_same_picture(tmp_path: Path) -> None:
    found = sensitivity_of(study())
    assert found is not None
    one, other = (sensitivity_picture(found, tmp_path / name, "rates") for name in ("a.svg", "b.svg"))
    assert one.read_bytes() == other.read_bytes()
    drawn = one.read_text(encoding="utf-8")
    for text in ("optimum: 0.001", "within 0.05 nats: a factor of 2.7", "diverged", "peak learning rate"):
        assert text in drawn


def test_pictures_are_refused(tmp_path: Path) -> None:
    found = sensitivity_of(study())
    assert found is not None
    with pytest.raises(InvalidInputError, match="path"):
        sensitivity_picture(found, tmp_path / "a.jpg")
    lost = [{"lr": lr, "seed": 0, "loss": None, "diverged": True} for lr in (1.0, 2.0, 3.0)]
    with pytest.raises(InvalidInputError, match="trials"):
        sensitivity_picture(analyze_learning_rate_sensitivity(lost), tmp_path / "a.svg")


def test_every_schedule_is_in_the_picture() -> None:
    assert sorted(panel.schedule for panel in schedule_picture.PANELS) == sorted(SCHEDULES)


@pytest.mark.reference
def test_the_committed_picture_of_schedules_is_the_one_that_is_drawn(tmp_path: Path) -> None:
    drawn = schedule_picture.draw_schedules(tmp_path / "schedules.svg").read_text(encoding="utf-8")
    committed = (ROOT / "docs" / "results" / "schedules.svg").read_text(encoding="utf-8")
    assert _lines(drawn) == _lines(committed), "run: python -m mini_bert.reports.schedule_picture"


def _lines(svg: str) -> list[str]:
    """Every curve and every text, without what another release of matplotlib writes otherwise."""
    return [line.strip() for line in svg.splitlines() if line.lstrip().startswith(("L ", "<text")) or "<!--" in line]
