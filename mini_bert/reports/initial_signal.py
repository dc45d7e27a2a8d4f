"""The first values' signal as a table: `python -m mini_bert.reports.initial_signal [--out docs/results]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mini_bert.analysis.initial_signal import Signal, measure
from mini_bert.atomic_files import write_synced
from mini_bert.errors import MiniBertError
from mini_bert.reports.table import Table

NAME = "initial_signal"


def table(signals: Iterable[Signal], norm_placement: str) -> Table:
    """A row a scheme, for one placement of the norms."""
    rows = []
    for signal in signals:
        if signal.norm_placement != norm_placement:
            continue
        rows.append(
            (
                signal.scheme,
                _ends(signal.attention),
                _ends(signal.feed_forward),
                _ends(signal.stream),
                f"{signal.scores:.3f}",
                f"{signal.logits:.2f}",
                f"{signal.first_loss:.2f}",
                _ends(signal.gradients),
            )
        )
    columns = ("", "attention adds", "feed-forward adds", "stream", "scores", "logits", "first loss", "gradient")
    return Table(
        f"{norm_placement}-LN: the first block … the last",
        columns,
        tuple(rows),
        (
            "Root mean squares; for scores and logits the deviation over keys and over pieces; loss in nats; the "
            "gradient of the mean loss in all tensors of a block.",
        ),
    )


def _ends(values: Sequence[float]) -> str:
    return f"{values[0]:.2g} … {values[-1]:.2g}"


def read(path: Path) -> list[Signal]:
    """What `main` wrote."""
    return [Signal(**entry) for entry in json.loads(path.read_bytes())["signals"]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the result where a folder is named."""
    parser = argparse.ArgumentParser(prog=f"python -m mini_bert.reports.{NAME}", description="Signal at first values.")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for the JSON")
    arguments = parser.parse_args(argv)
    signals = list(measure())
    for placement in ("post", "pre"):
        print(table(signals, placement).plain())
    try:
        if arguments.out is not None:
            result = {"signals": [signal._asdict() for signal in signals]}
            write_synced(arguments.out / f"{NAME}.json", (json.dumps(result, indent=1) + "\n").encode())
    except MiniBertError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
