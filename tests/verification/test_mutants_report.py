"""The score counts what the records say, survivors come with their reason, and no reason outlives its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mini_bert.errors import DataError
from mini_bert.verification.mutants import report
from mini_bert.verification.mutants.__main__ import main
from mini_bert.verification.mutants.project import MINI_BERT
from mini_bert.verification.mutants.reasons import FILE, read_reasons, reason_of
from mini_bert.verification.mutants.records import Record

WITH_REASON = read_reasons(FILE.read_text(encoding="utf-8"))[0]


def record(path: str, operator: str, how: str, before: str = "a", after: str = "b") -> Record:
    return Record(
        f"{path}{operator}{how}", "name", path, 3, operator, before, after, how == "passed", how, "test_x", 1.5
    )


RECORDS = [
    record("ops/erf.py", "sign", "test"),
    record("ops/erf.py", "sign", "timeout"),
    record("ops/erf.py", "axis", "passed"),
    record(WITH_REASON.path, "constant", "passed", WITH_REASON.before, WITH_REASON.after[0]),
]


@pytest.fixture
def result() -> dict[str, Any]:
    return report.result_of(RECORDS, {"ops/erf.py": 30, WITH_REASON.path: 12, "ops/relu.py": 9}, seed=0, minutes=2.0)


def test_the_score_counts_every_survivor(result: dict[str, Any]) -> None:
    assert (result["possible"], result["tried"], result["killed"], result["score"]) == (51, 4, 2, 0.5)
    assert result["killed_by"] == {"test": 1, "timeout": 1}
    assert result["files"]["ops/erf.py"] == {"possible": 30, "tried": 3, "killed": 2}
    assert "ops/relu.py" not in result["files"]
    assert result["operators"] == {
        "constant": {"tried": 1, "killed": 0},
        "sign": {"tried": 2, "killed": 2},
        "axis": {"tried": 1, "killed": 0},
    }
    assert result["processor_seconds"] == {"all": 6, "mean": 1.5}
    assert len(result["kills"]) == 2


def test_survivors_come_with_their_reason_or_want_a_test(result: dict[str, Any]) -> None:
    assert [(survivor["kind"], survivor["reason"]) for survivor in result["survivors"]] == [
        ("open", ""),
        (WITH_REASON.kind, WITH_REASON.why),
    ]
    page = report.page(result)
    assert "**2 of 4 mutants are killed: 50.0 %.**" in page
    assert "**Wants a test.**" in page
    assert f"-{WITH_REASON.before}\n+{WITH_REASON.after[0]}\n" in page
    assert "| ops/erf.py | 30 | 3 | 1 | 66.7 % |" in page
    assert "1 by a test that fails, 1 by never ending" in page


def test_the_zoo_stands_beside_the_mutants(result: dict[str, Any], tmp_path: Path) -> None:
    assert report.zoo_of(tmp_path) is None
    (tmp_path / "results").mkdir()
    bugs = {"one": {"caught": True}, "two": {"caught": False}, "three": {"caught": True}}
    (tmp_path / "results" / "bug-zoo.json").write_text(json.dumps({"bugs": bugs}))
    zoo = report.zoo_of(tmp_path)
    assert zoo == {"bugs": 3, "caught": 2}
    assert "(2 of 3 are caught)" in report.page({**result, "zoo": zoo})
    assert "are caught" not in report.page(result)


def test_result_and_page_are_written(result: dict[str, Any], tmp_path: Path) -> None:
    report.write(result, tmp_path)
    written = json.loads((tmp_path / "results" / "mutants.json").read_text(encoding="utf-8"))
    assert written == {**result, "other_samples": []}
    assert (tmp_path / "mutants.md").read_text(encoding="utf-8") == report.page(result)


def test_samples_of_other_seeds_stand_beside_the_published_one(result: dict[str, Any], tmp_path: Path) -> None:
    report.add_sample({**result, "seed": 1}, tmp_path)
    assert not list(tmp_path.iterdir()), "there is nothing to stand beside"
    report.write(result, tmp_path)
    report.add_sample({**result, "seed": 2, "killed": 1}, tmp_path)
    report.add_sample({**result, "seed": 1, "killed": 1}, tmp_path)
    report.add_sample({**result, "seed": 1, "killed": 3, "date": "2026-01-02"}, tmp_path)
    report.write(result, tmp_path)
    page = " ".join((tmp_path / "mutants.md").read_text(encoding="utf-8").split())
    assert "**2 of 4 mutants are killed" in page
    assert "; with seed 1, 3 of 4 are killed (75.0 %, 2026-01-02); with seed 2, 1 of 4 are killed (25.0 %, " in page


def test_the_page_is_that_of_the_published_result(tmp_path: Path) -> None:
    docs = MINI_BERT.root / "docs"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mutants.json").write_bytes((docs / "results" / "mutants.json").read_bytes())
    assert main(["--page", "--docs", str(tmp_path)]) == 0
    written = (tmp_path / "mutants.md").read_text(encoding="utf-8")
    assert (docs / "mutants.md").read_text(encoding="utf-8") == written, (
        "python -m mini_bert.verification.mutants --page"
    )
    assert main(["--page", "--docs", str(tmp_path / "none")]) == 2


def test_every_reason_is_about_a_mutant_that_exists() -> None:
    reasons = read_reasons(FILE.read_text(encoding="utf-8"))
    told = [(reason.path, reason.before, after) for reason in reasons for after in reason.after]
    assert len(set(told)) == len(told)
    made = {
        (mutant.path, mutant.before, mutant.after)
        for path in {r.path for r in reasons}
        for mutant in MINI_BERT.mutants(path)
    }
    assert [mutant for mutant in told if mutant not in made] == []
    assert reason_of(*told[0]) == reasons[0]
    assert reason_of("ops/erf.py", "a", "b") is None


@pytest.mark.parametrize(
    "text",
    [
        "ops/erf.py: why\n- a\n+ b",
        "ops/erf.py, dull: why\n- a\n+ b",
        "ops/erf.py, harmless: why\n- a",
        "ops/erf.py, harmless: why\n+ b\n- a",
        "ops/erf.py, harmless: why\n- a\n+ b\n\n- a",
    ],
)
def test_a_reason_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="got"):
        read_reasons(text)


def test_what_is_asked_for_wrongly_ends_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--file", "ops/erv.py", "--state", str(tmp_path / "none")]) == 2
    assert "Did you mean 'ops/erf.py'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--sample", "0"])
    assert ended.value.code == 2
