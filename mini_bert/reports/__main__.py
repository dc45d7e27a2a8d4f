"""`python -m mini_bert.reports [--title TITLE] [--output PAGE.md] RESULT.json …`: result files → a Markdown page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mini_bert.errors import MiniBertError
from mini_bert.reports.pages import page, read_result


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, to standard output or a file; 2 where a file is no result."""
    parser = argparse.ArgumentParser(prog="python -m mini_bert.reports", description="Result files → a Markdown page.")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    parser.add_argument("--title", default="Results")
    parser.add_argument("--output", type=Path, metavar="PAGE.md", help="default: standard output")
    arguments = parser.parse_args(argv)
    try:
        text = page(arguments.title, [(path.name, read_result(path)) for path in arguments.results])
    except MiniBertError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
