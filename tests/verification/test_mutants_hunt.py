"""The hunt on a package of a few lines: what dies, of what, what survives, and that a second start goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.verification.mutants.mutant import Mutant, mutants_of
from mini_bert.verification.mutants.project import MINI_BERT, Project
from mini_bert.verification.mutants.records import Record, Records, key_of
from mini_bert.verification.mutants.sample import draw, shares

TOY = """\
STEP = 1
SHARE = 6 // STEP


def total(values):
    result = 0
    for value in values:
        result += value
    return result


def count(limit):
    i = 0
    while i < limit:
        i += 1
    return i


def fatal(x):
    return x > 9


def nobody_asks(x):
    return x + 7
"""
TESTS = """\
import os
import signal

from toy.sums import count, fatal, total


def test_total():
    assert total([2, 3]) == 5


def test_count():
    assert count(3) == 3


def test_fatal():
    if fatal(3):
        os.kill(os.getpid(), signal.SIGKILL)
"""
HUNT = """\
import json, sys
from pathlib import Path
from mini_bert.verification.mutants.hunt import hunt
from mini_bert.verification.mutants.project import Project
from mini_bert.verification.mutants.records import Records

root, state, again, lines = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "again", json.loads(sys.argv[4])
project = Project(root, "toy", {"sums.py": ("tests/test_*.py",)})
mutants = [m for m in project.mutants("sums.py") if not lines or m.after in lines]
tried = []
hunt(project, mutants, Records(state), workers=2, again=again, least_seconds=1.0,
     report=lambda what, done, total, record: record and tried.append(record._asdict()))
print(json.dumps(tried))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    (root / "toy").mkdir()
    (root / "tests").mkdir()
    (root / "toy" / "__init__.py").touch()
    (root / "toy" / "sums.py").write_text(TOY)
    (root / "tests" / "test_sums.py").write_text(TESTS)
    (root / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\nmarkers =\n  slow: x\n")
    return root


def hunted(root: Path, state: Path, *lines: str, again: bool = False) -> list[dict[str, Any]]:
    arguments = [str(root), str(state), "again" if again else "all", json.dumps(lines)]
    ran = subprocess.run([sys.executable, "-c", HUNT, *arguments], check=True, capture_output=True, text=True)
    tried: list[dict[str, Any]] = json.loads(ran.stdout)
    return tried


FATES = {
    "result -= value": ("test", "tests/test_sums.py::test_total"),
    "return x + 8": ("passed", ""),
    "while i <= limit:": ("test", "tests/test_sums.py::test_count"),
    "return x <= 9": ("crash", "SIGKILL"),
    "STEP = 0": ("import", "tests/test_sums.py"),
}


def test_every_mutant_meets_its_fate(toy: Path, tmp_path: Path) -> None:
    tried = hunted(toy, tmp_path / "results.jsonl", *FATES)
    assert {record["after"]: (record["how"], record["by"]) for record in tried} == FATES
    assert [record["after"] for record in tried if record["survived"]] == ["return x + 8"]
    assert (toy / "toy" / "sums.py").read_text() == TOY


@pytest.mark.slow
def test_what_never_ends_is_killed_by_that(toy: Path, tmp_path: Path) -> None:
    tried = hunted(toy, tmp_path / "results.jsonl", "pass")
    assert {record["before"]: (record["survived"], record["how"]) for record in tried} == {
        "result += value": (False, "test"),
        "i += 1": (False, "timeout"),
    }


@pytest.mark.slow
def test_a_second_start_goes_on(toy: Path, tmp_path: Path) -> None:
    state = tmp_path / "results.jsonl"
    survivor, killed = "return x + 8", "result -= value"
    assert {record["after"] for record in hunted(toy, state, survivor, killed)} == {survivor, killed}
    assert hunted(toy, state, survivor, killed) == []
    assert [record["after"] for record in hunted(toy, state, survivor, killed, "STEP = 0")] == ["STEP = 0"]
    more = "\n\ndef test_more():\n    from toy.sums import nobody_asks\n    assert nobody_asks(1) == 8\n"
    (toy / "tests" / "test_sums.py").write_text(TESTS + more)
    try:
        tried = hunted(toy, state, survivor, killed, "STEP = 0", again=True)
    finally:
        (toy / "tests" / "test_sums.py").write_text(TESTS)
    assert {record["after"]: record["how"] for record in tried} == {survivor: "test"}


def test_tests_that_fail_by_themselves_prove_nothing(toy: Path, tmp_path: Path) -> None:
    (toy / "tests" / "test_broken.py").write_text("def test_broken():\n    assert False\n")
    try:
        with pytest.raises(subprocess.CalledProcessError) as error:
            hunted(toy, tmp_path / "results.jsonl", "STEP = 2")
    finally:
        (toy / "tests" / "test_broken.py").unlink()
    assert (
        "tests of sums.py: got test: tests/test_broken.py::test_broken; expected tests that pass" in error.value.stderr
    )


def record_of(mutant: Mutant, survived: bool = True) -> Record:
    return Record(mutant.name, mutant.name, *mutant[:5], survived, "passed" if survived else "test", "", 0.5)


def test_records_come_back_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    first, second, third = (record_of(mutant) for mutant in mutants_of("y = a < b\nz = -c", "toy.py"))
    records = Records(path)
    records.add(first)
    records.add(second)
    with path.open("a") as file:
        file.write('{"key": "to')
    assert Records(path).by_key == {first.key: first, second.key: second}
    path.write_text(path.read_text().rpartition("{")[0])
    Records(path).add(third._replace(name=first.name))
    assert Records(path).latest[first.name].after == third.after


def test_the_key_knows_the_mutant_and_its_tests(toy: Path) -> None:
    project = Project(toy, "toy", {"sums.py": ("tests/test_sums.py",)})
    one, other, *_ = project.mutants("sums.py")
    keys = {key_of(project, one), key_of(project, other)}
    (toy / "tests" / "conftest.py").write_text("")
    keys |= {key_of(project, one)}
    (toy / "tests" / "conftest.py").unlink()
    assert len(keys) == 3
    assert key_of(project, one) in keys


def test_the_table_names_tests_for_every_file() -> None:
    assert {"ops/attention.py", "model/bert.py", "optim/adamw.py", "data/masking.py"} <= set(MINI_BERT.files)
    assert not any(path.startswith(("verification", "cli")) for path in MINI_BERT.files)
    for path in MINI_BERT.files:
        tests = MINI_BERT.tests_of(path)
        assert tests
        assert all((MINI_BERT.root / test).is_file() for test in tests)
    assert MINI_BERT.tests_of("ops/softmax.py")[0] == "tests/ops/test_op_softmax.py"
    for patterns in MINI_BERT.tests.values():
        assert all("{" in pattern or list(MINI_BERT.root.glob(pattern)) for pattern in patterns)
    with pytest.raises(InvalidInputError, match=r"Did you mean 'ops/softmax\.py'"):
        MINI_BERT.mutants("ops/sofmax.py")


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ({"a": 100, "b": 300}, 40, {"a": 10, "b": 30}),
        ({"a": 2, "b": 300, "c": 98}, 40, {"a": 2, "b": 29, "c": 9}),
        ({"a": 3, "b": 4}, 40, {"a": 3, "b": 4}),
        ({"a": 30, "b": 10}, 4, {"a": 3, "b": 1}),
        ({"a": 0, "b": 10}, 4, {"a": 0, "b": 4}),
        ({}, 4, {}),
    ],
)
def test_shares(counts: dict[str, int], size: int, expected: dict[str, int]) -> None:
    assert shares(counts, size) == expected


def test_a_sample_is_the_same_again_and_another_seed_draws_another() -> None:
    mutants = {path: MINI_BERT.mutants(path) for path in ("ops/softmax.py", "ops/tanh.py", "optim/clipping.py")}
    one, again, other = (draw(mutants, 40, seed) for seed in (1, 1, 2))
    assert one == again
    assert len(set(one)) == 40
    assert 0 < len(set(one) & set(other)) < 40
    assert set(draw(mutants, 20, 1)) < set(one)
    assert Counter(mutant.path for mutant in one) == shares({path: len(m) for path, m in mutants.items()}, 40)


def test_an_edit_elsewhere_leaves_the_sample_as_it_is() -> None:
    source = "".join(f"y{i} = a{i} + b{i}\n" for i in range(40))
    before = draw({"toy.py": mutants_of(source, "toy.py")}, 20, 0)
    after = draw({"toy.py": mutants_of(f"import os\n\n{source}", "toy.py")}, 20, 0)
    assert [mutant.name for mutant in before] == [mutant.name for mutant in after]
