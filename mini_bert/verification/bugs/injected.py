"""pytest with a bug injected, before anything of the code under test is imported.

    python -m mini_bert.verification.bugs.injected mask-inverted -- tests/ops -q
    python -m mini_bert.verification.bugs.injected none --outcomes outcomes.jsonl -- tests/ops -q

With `--outcomes` each test that ends leaves a line of JSON there: its id, `passed` or `failed`, and what it said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.errors import InvalidInputError, MiniBertError
from mini_bert.verification.bugs.experiment import NONE, find
from mini_bert.verification.injection import PACKAGE, edited_sources, inject

DEFAULT_SUITE = ("-m", "not (reference or data or slow or nightly)")

REPOSITORY = PACKAGE.parent
"""Where the tests are, unless the package was installed without them; see `tests_are_here`."""

_KEPT = 4000
"""Characters of a failure that are kept: the last ones, where pytest says what was wrong."""


class Outcome(NamedTuple):
    """How tests ended."""

    failed: dict[str, str]
    """Id → what it said, of those that failed or could not be collected."""
    passed: int
    finished: bool
    """Whether all came to an end within the time."""


def tests_are_here() -> bool:
    """Whether this package lies in its repository, with its tests beside it."""
    return (REPOSITORY / "tests").is_dir() and (REPOSITORY / "pyproject.toml").is_file()


def run_tests(name: str | None, *arguments: str, seconds: float = 120.0) -> Outcome:
    """Run pytest on `arguments` in a process of its own, with a bug injected (None: with none).

    Raises:
        InvalidInputError: there is no such bug, or the tests are not here.
    """
    if not tests_are_here():
        raise InvalidInputError("tests", got=f"none beside {PACKAGE}", expected="the repository of Mini-BERT")
    injected = NONE if name is None else find(name).name
    with tempfile.TemporaryDirectory(prefix="mini-bert-tests-") as folder:
        outcomes = Path(folder) / "outcomes.jsonl"
        command = [sys.executable, "-m", "mini_bert.verification.bugs.injected", injected, "--outcomes", str(outcomes)]
        command += ["--", "-q", "-p", "no:cacheprovider", "--basetemp", str(Path(folder) / "base"), *arguments]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        finished = True
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            finished = False
        lines = outcomes.read_text(encoding="utf-8").splitlines() if outcomes.exists() else []
        if finished and done.returncode not in (0, 1, 2) and not lines:
            raise InvalidInputError(
                "tests", got=(done.stdout + done.stderr)[-_KEPT:], expected="tests that pytest finds"
            )
    records = [json.loads(line) for line in lines if line.endswith("}")]
    failed = {record["id"]: record["said"] for record in records if record["outcome"] == "failed"}
    passed = {record["id"] for record in records if record["outcome"] == "passed"} - failed.keys()
    return Outcome(failed, len(passed), finished)


def complaint(said: str) -> str:
    """What a failed test complains of, in one line: the first that pytest marks with an E, and the next if it is bare.

    >>> complaint("    assert_allclose(got, expected)\\nE   AssertionError: \\nE   Not equal to tolerance\\n")
    'AssertionError: Not equal to tolerance'
    """
    lines = [line[1:].strip() for line in said.splitlines() if line.startswith("E ") and line[1:].strip()]
    lines = lines or said.splitlines() or [""]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200]


class _Recorder:
    """A pytest plugin that writes outcomes down as they come, so that what ran out of time is not lost."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or (report.passed and report.when == "call"):
            self._write(report)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._write(report)

    def _write(self, report: Any) -> None:
        record = {"id": report.nodeid, "outcome": report.outcome, "said": report.longreprtext[-_KEPT:]}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Inject the bug, then run pytest; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--" not in words or not words[: words.index("--")]:
        print(__doc__, file=sys.stderr)
        return 2
    (name, *options), arguments = words[: words.index("--")], words[words.index("--") + 1 :]
    if name != NONE:
        inject(edited_sources(find(name).edits))
    import pytest

    plugins = [_Recorder(Path(options[1]).resolve())] if options[:1] == ["--outcomes"] else []
    return int(pytest.main(arguments, plugins=plugins))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MiniBertError as wrong:
        sys.exit(f"injected: {wrong}")
