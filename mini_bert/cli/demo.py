"""`mini-bert demo`: the main job with nothing to decide; `make demo` runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

from mini_bert.cli.options import Flag, option


def demo(
    *,
    minutes: Annotated[float, option("how long to train (default: 10)", "MINUTES")] = 10.0,
    run_name: Annotated[str | None, option("name of the run (default: demo, demo-2, …)", "NAME", name="run")] = None,
    threads: Annotated[int | None, option("worker threads (default: one a core)", "INT")] = None,
    json: Flag = False,
) -> int:
    """Learn a vocabulary and a model from this machine's Python documentation, and show what it knows.

    No download: the text is the documentation of the standard library and of the core dependencies, about a million
    tokens. The model is the default Mini-BERT of 2,966,144 parameters. Ctrl-C saves and says how to go on.

    Examples:
      mini-bert demo
      mini-bert demo --minutes 3

    Args:
        json: the result as JSON.
    """
    from mini_bert.cli.pretrain import train_and_show
    from mini_bert.config.load import load_config

    name = run_name or next(name for name in _names() if not Path("runs", name).exists())
    overrides = {"train.minutes": minutes, "run.name": name, "run.threads": threads, "data.corpus": "python-docs"}
    print(
        "Mini-BERT reads this machine's Python documentation, hides 15 % of the pieces, and learns to name them: "
        f"{minutes:g} minutes.",
        file=sys.stderr,
    )
    return train_and_show(lambda: load_config(["training/pretraining"], overrides), json=json)


def _names() -> Iterator[str]:
    yield "demo"
    yield from (f"demo-{number}" for number in count(2))
