"""`python -m mini_bert.verification.mutants`: would the tests notice? 600 small errors, one at a time."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mini_bert.errors import MiniBertError
from mini_bert.verification.mutants.display import shown
from mini_bert.verification.mutants.hunt import hunt
from mini_bert.verification.mutants.project import MINI_BERT
from mini_bert.verification.mutants.records import Record, Records
from mini_bert.verification.mutants.sample import draw

SAMPLE, SEED = 600, 0
"""Of the published score; fixed before any score was known."""


def main(argv: Sequence[str] | None = None) -> int:
    """Hunt, and print the score; 1 if it is too low, 2 where something is wrong. The whole sample is published."""
    parser = argparse.ArgumentParser(prog="python -m mini_bert.verification.mutants", description=__doc__)
    parser.add_argument("--file", action="append", metavar="PATH", help="only mutants of ops/softmax.py, …")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="so many mutants in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default: %(default)s)")
    parser.add_argument("--survivors", action="store_true", help="only those that survived when they were last tried")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--state", type=Path, default=MINI_BERT.root / "runs" / "mutants" / "results.jsonl")
    parser.add_argument(
        "--docs", type=Path, default=MINI_BERT.root / "docs", help="where the whole sample is published"
    )
    parser.add_argument("--page", action="store_true", help="only write the page again, from the published result")
    arguments = parser.parse_args(argv)
    if arguments.sample < 1 or arguments.workers < 1:
        parser.error("--sample and --workers: expected at least 1")
    if arguments.fresh:
        arguments.state.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        if arguments.page:
            return _page(arguments.docs)
        mutants = {path: MINI_BERT.mutants(path) for path in arguments.file or MINI_BERT.files}
        sample = draw(mutants, arguments.sample, arguments.seed)
        with shown() as report:
            records = hunt(
                MINI_BERT,
                sample,
                Records(arguments.state),
                workers=arguments.workers,
                again=arguments.survivors,
                report=report,
            )
    except MiniBertError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the next start goes on from here", file=sys.stderr)
        return 130
    return _conclude(records, {path: len(of_file) for path, of_file in mutants.items()}, began, arguments)


def _page(docs: Path) -> int:
    from mini_bert.verification.mutants.report import write_page

    write_page(docs)
    return 0


def _conclude(records: list[Record], possible: dict[str, int], began: float, arguments: argparse.Namespace) -> int:
    from mini_bert.verification.mutants import report  # after the hunt: it loads more of the package

    minutes = (time.monotonic() - began) / 60
    zoo = report.zoo_of(arguments.docs)
    result = report.result_of(records, possible, seed=arguments.seed, minutes=minutes, zoo=zoo)
    print(report.score_table(result).plain(), end="")
    if not arguments.file and arguments.sample == SAMPLE:
        (report.write if arguments.seed == SEED else report.add_sample)(result, arguments.docs)
    return 0 if result["score"] >= report.WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
