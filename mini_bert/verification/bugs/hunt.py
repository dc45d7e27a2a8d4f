"""Is every bug of the zoo caught, and what would one have noticed without the tests?

    python -m mini_bert.verification.bugs.hunt                      all of them, and the page and the picture
    python -m mini_bert.verification.bugs.hunt mask-inverted …      these; the others stay as they were measured
    python -m mini_bert.verification.bugs.hunt --changed            those that are new, changed, or not caught
    python -m mini_bert.verification.bugs.hunt --page               nothing; the page and the picture anew

For each bug, in processes of its own with the bug injected: all tests of the folder of its `caught_by`, and the
experiment. Two at a time. Exit code 1 if a bug survives the test that is said to catch it; `--docs FOLDER` writes
elsewhere than into docs/.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mini_bert.atomic_files import replace_file
from mini_bert.errors import InvalidInputError, MiniBertError
from mini_bert.verification.bugs import BUGS, page, picture
from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.bugs.experiment import find, measure
from mini_bert.verification.bugs.injected import DEFAULT_SUITE, REPOSITORY, complaint, run_tests, tests_are_here
from mini_bert.verification.bugs.symptom import noise_of, seen

SEEDS = 4
"""Trainings without a bug: how far the seed alone moves the loss."""

AT_ONCE = 2
SECONDS = 240.0
"""A folder of tests that takes longer with a bug is cut off; what it has shown until then counts."""

_NAMES_KEPT = 40
Results = dict[str, Any]


def hunt(names: Sequence[str], results: Results, keep: Path) -> Results:
    """Measure the bugs of these names and put what is found into `results`, which is written to `keep` after each."""
    results = {"environment": _environment(), "without": results.get("without"), "bugs": dict(results.get("bugs", {}))}
    results["bugs"] = {name: results["bugs"][name] for name in BUGS if name in results["bugs"]}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        if results["without"] is None:
            _say(f"without a bug, {SEEDS} seeds")
            results["without"] = _baseline(list(pool.map(lambda seed: measure(None, seed), range(SEEDS))))
        _say("tests without a bug")
        caught_by = sorted({find(name).caught_by for name in names})
        clean = run_tests(None, *caught_by, seconds=SECONDS * 4)
        pending = {name: pool.submit(_one, find(name), results["without"]) for name in names}
        for number, (name, future) in enumerate(pending.items(), 1):
            record = future.result()
            record["passes_without"] = clean.finished and BUGS[name].caught_by not in clean.failed
            results["bugs"][name] = record
            ordered = {known: results["bugs"][known] for known in BUGS if known in results["bugs"]}
            results["bugs"] = ordered
            replace_file(keep, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
            _say(
                f"{number}/{len(names)} {name}: {'caught' if is_caught(record) else 'NOT CAUGHT'}. {record['symptom']}"
            )
    return results


def is_caught(record: Results) -> bool:
    """Whether the test that is said to catch it fails with the bug, names the place, and passes without."""
    return bool(record["caught"] and record["names_the_place"] and record["passes_without"])


def fingerprint(bug: Bug) -> str:
    """Changes when the bug, the code around it or its test's name does."""
    return hashlib.sha256(f"{bug.difference()}\n{bug.caught_by}\n{bug.place}".encode()).hexdigest()[:16]


def _one(bug: Bug, without: Results) -> Results:
    begin = time.perf_counter()
    folder = bug.caught_by.rpartition("::")[0].rpartition("/")[0]
    tests = run_tests(bug.name, *DEFAULT_SUITE, folder, seconds=SECONDS)
    if bug.caught_by not in tests.failed:  # cut off before, or not a test of the default suite
        alone = run_tests(bug.name, bug.caught_by, seconds=SECONDS)
        tests = tests._replace(failed={**tests.failed, **alone.failed})
    said = tests.failed.get(bug.caught_by)
    measured = measure(bug.name)
    training = measured.get("training", {})
    others = sorted(tests.failed.keys() - {bug.caught_by})
    return {
        "fingerprint": fingerprint(bug),
        "caught": said is not None,
        "names_the_place": said is not None and names_the_place(bug, said),
        "said": complaint(said or ""),
        "folder": folder,
        "killing_tests": len(tests.failed),
        "passing_tests": tests.passed,
        "all_tests_run": tests.finished,
        "others": others[:_NAMES_KEPT],
        "symptom": str(seen(without, measured, without["noise"])),
        "seen": seen(without, measured, without["noise"])._asdict(),
        "training": {key: _rounded(training.get(key)) for key in ("losses", "held_out", "same_bits", "stopped")},
        "seconds": round(time.perf_counter() - begin, 1),
    }


def names_the_place(bug: Bug, said: str) -> bool:
    """Whether the id of the test, or what it said when it failed, names the place of the fault."""
    return bug.place in bug.caught_by or bug.place in said


def _baseline(measurements: Sequence[Results]) -> Results:
    """The measurement of seed 0, and how much the last held-out loss differs between seeds."""
    for measured in measurements:
        if "crash" in measured or measured["training"]["stopped"]:
            stopped = measured.get("crash") or measured["training"]["stopped"]
            raise InvalidInputError("the code without a bug", got=stopped, expected="a training that comes to its end")
    ends = [measured["training"]["held_out"][-1][1] for measured in measurements]
    return {**measurements[0], "held_out_of_seeds": _rounded(ends), "noise": round(noise_of(measurements), 4)}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _environment() -> dict[str, str]:
    import numpy

    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "machine": platform.machine(),
    }


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the words say; see the top of this file.

    Raises:
        InvalidInputError: there is no such bug, or the tests are not here.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not tests_are_here():
        raise InvalidInputError("tests", got=f"none beside {REPOSITORY}", expected="the repository of Mini-BERT")
    docs = REPOSITORY / "docs"
    if "--docs" in words:
        place = words.index("--docs")
        docs = Path(words[place + 1])
        del words[place : place + 2]
    keep = docs / "results" / "bug-zoo.json"
    keep.parent.mkdir(parents=True, exist_ok=True)
    results: Results = json.loads(keep.read_text(encoding="utf-8")) if keep.exists() else {}
    if words == ["--changed"]:
        known = results.get("bugs", {})
        names = [
            name
            for name, bug in BUGS.items()
            if name not in known or known[name]["fingerprint"] != fingerprint(bug) or not is_caught(known[name])
        ]
    elif words == ["--page"]:
        names = []
    else:
        names = [find(name).name for name in words] or list(BUGS)
        results = results if words else {}
    if names:
        results = hunt(names, results, keep)
    picture.draw(results, docs / "results" / "bug-zoo.svg")
    replace_file(docs / "bug-zoo.md", page.write(results).encode())
    survivors = [name for name, record in results["bugs"].items() if not is_caught(record)]
    _say(f"{len(results['bugs'])} bugs, {len(survivors)} not caught: {', '.join(survivors) or 'none'}.")
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MiniBertError as wrong:
        sys.exit(f"hunt: {wrong}")
