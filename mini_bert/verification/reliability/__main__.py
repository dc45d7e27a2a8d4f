"""`python -m mini_bert.verification.reliability`: break trainings on purpose, and count how often the promises held."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mini_bert.verification.reliability import page, record
from mini_bert.verification.reliability.promise import Experiment, Scale

ROOT = Path(__file__).resolve().parents[3]
_BEGINNING_OF_LINE = "\r\x1b[K"
"""Of a terminal, which is wiped."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiments, all or some, and write what came out; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m mini_bert.verification.reliability", description=__doc__)
    parser.add_argument("promise", nargs="*", help="only these: R4 R15, or a part of an experiment's name")
    parser.add_argument("--quick", action="store_true", help="small counts, and nothing is written")
    parser.add_argument("--list", action="store_true", help="only list the experiments")
    parser.add_argument("--page", action="store_true", help="only write the page again, from what was recorded")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where results and page are")
    arguments = parser.parse_args(argv)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    known = record.experiments()
    results, target = arguments.docs / "results" / "reliability.json", arguments.docs / "reliability.md"
    if arguments.page:
        target.write_text(page.page(record.read(results)), encoding="utf-8")
        return 0
    chosen = [experiment for experiment in known if _is_meant(experiment, arguments.promise)]
    if arguments.list or not chosen:
        for experiment in known:
            print(f"{experiment.promise:<4} {experiment.name}")
        return 0 if arguments.list else 2
    broken = 0
    for experiment in chosen:
        if lacking := record.missing(experiment):
            print(f"{experiment.promise:<4} {experiment.name}: not tried, needs {', '.join(lacking)}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="mini-bert-reliability-") as folder:
            made = record.tried(experiment, Scale(arguments.quick, _told(experiment)), Path(folder))
        broken += bool(made["failed"])
        verdict = f"{made['failed']} FAILED" if made["failed"] else "held" if made["tried"] else "not possible here"
        if sys.stderr.isatty():
            print(_BEGINNING_OF_LINE, end="", file=sys.stderr, flush=True)
        print(
            f"{made['promise']:<4} {made['name']}: {made['tried']:,} tried, {verdict}, {made['seconds']:.0f} s",
            flush=True,
        )
        for failure in made["failures"]:
            print(f"       {failure}")
        if made["measured"]:
            print(f"       {page.figures(made['measured'])}")
        if not arguments.quick:
            target.write_text(page.page(record.keep(results, [made], known)), encoding="utf-8")
    return 1 if broken else 0


def _is_meant(experiment: Experiment, words: Sequence[str]) -> bool:
    return not words or any(word == experiment.promise or word in experiment.name for word in words)


def _told(experiment: Experiment):  # type: ignore[no-untyped-def]
    def told(done: int, of: int) -> None:
        if sys.stderr.isatty():
            line = f"{experiment.promise:<4} {experiment.name}: {done:,} of {of:,}"
            print(_BEGINNING_OF_LINE + line, end="", file=sys.stderr, flush=True)

    return told


if __name__ == "__main__":
    sys.exit(main())
