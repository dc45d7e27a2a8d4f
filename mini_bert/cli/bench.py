"""`mini-bert bench`: how fast, in how much memory, beside whom."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from mini_bert.cli import DONE
from mini_bert.cli.options import Flag, option
from mini_bert.cli.results import say


def bench(
    *,
    against: Annotated[
        Literal["torch"] | None, option("have PyTorch and transformers take part (extra: reference)", "torch")
    ] = None,
    quick: Flag = False,
    out: Annotated[str | None, option("folder for benchmark.json and a picture", "FOLDER")] = None,
    threads: Annotated[int | None, option("threads of every contestant (default: one a core)", "INT")] = None,
    rows: Annotated[int, option("rows of the training batch (default: 64)", "INT")] = 64,
    json: Flag = False,
) -> int:
    """Measure training, filling masks, memory and cold start, on identical batches in alternating blocks of one run.

    Examples:
      mini-bert bench --quick
      mini-bert bench --against torch --out results

    Args:
        quick: fewer rounds.
        json: the result as JSON.
    """
    from mini_bert.benchmarks import render, run_benchmark

    result = run_benchmark(
        against=against,
        quick=quick,
        output=out,
        threads=threads,
        rows=rows,
        report=say,
    )
    if json:
        print(result.model_dump_json(indent=2))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(render(result))
    else:
        from mini_bert.benchmarks.tables import plain_text

        print(plain_text(result), end="")
    return DONE
