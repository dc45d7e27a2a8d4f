"""What does computing blocks again save and cost, over depth? Memory and time of one shard's loss and gradient.

    python -m mini_bert.benchmarks.activation_checkpointing [--out FOLDER] [--depths 2 4 8 16] [--rounds 15]

One thread, no padding, no dropout, 15 % masked. With and without alternate, call by call, so that a busy machine slows
both; memory is the peak of the arrays that a call makes, as Python's allocator counts them, and the same in every call.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.atomic_files import write_synced
from mini_bert.batch import Batch
from mini_bert.benchmarks.result import Quartiles
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import MiniBertError
from mini_bert.machine import blas_kernel
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.reports.drawing import drawn
from mini_bert.reports.table import Table

ROWS, MASKED = 16, 0.15
NAME = "activation_checkpointing"


def measure(depths: Sequence[int], rounds: int, rows: int = ROWS) -> dict[str, Any]:
    """Seconds of each call and peak bytes, with and without, for the default model at other depths."""
    from threadpoolctl import threadpool_limits

    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with threadpool_limits(1, user_api="blas"):
        entries = [_at_depth(layers, rounds, rows) for layers in depths]
    shape = ModelConfig()
    return {
        "benchmark": NAME,
        "date": started,
        "blas": blas_kernel(),
        "numpy": np.__version__,
        "rows": rows,
        "tokens": shape.max_position_embeddings,
        "hidden_size": shape.hidden_size,
        "entries": entries,
    }


def _at_depth(layers: int, rounds: int, rows: int) -> dict[str, Any]:
    model = MiniBERT(ModelConfig(num_hidden_layers=layers))
    gradients, batch = Parameters(model.config), _batch(model.config, rows)

    def call(again: bool) -> None:
        model.mlm_loss_and_gradients(batch, gradients, activation_checkpointing=again)

    seconds: dict[bool, list[float]] = {False: [], True: []}
    peaks: dict[bool, int] = {}
    for again in seconds:
        tracemalloc.start()
        call(again)
        peaks[again] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    for number in range(2 * rounds):
        again = bool(number % 2)
        begin = time.perf_counter()
        call(again)
        seconds[again].append(time.perf_counter() - begin)
    return {
        "layers": layers,
        "kept": {"seconds": seconds[False], "peak_bytes": peaks[False]},
        "again": {"seconds": seconds[True], "peak_bytes": peaks[True]},
    }


def _batch(config: ModelConfig, rows: int) -> Batch:
    rng, T = np.random.default_rng(0), config.max_position_embeddings
    ids = rng.integers(5, config.vocab_size, (rows, T)).astype(np.int32)
    chosen = np.sort(rng.permutation(ids.size)[: int(MASKED * ids.size)])
    return Batch(ids, masked_positions=chosen, target_ids=ids.ravel()[chosen])


def table(result: dict[str, Any]) -> Table:
    """A row a depth."""
    rows = []
    for entry in result["entries"]:
        kept, again = (Quartiles.of(entry[way]["seconds"]).median for way in ("kept", "again"))
        sizes = [entry[way]["peak_bytes"] / 1e6 for way in ("kept", "again")]
        rows.append(
            (
                str(entry["layers"]),
                f"{sizes[0]:,.0f}",
                f"{sizes[1]:,.0f}",
                f"{sizes[0] / sizes[1]:.2f}",
                f"{1e3 * kept:,.0f}",
                f"{1e3 * again:,.0f}",
                f"{again / kept:.2f}",
                f"{_predicted(entry['layers']):.2f}",
            )
        )
    return Table(
        f"Loss and gradient of {result['rows']} rows of {result['tokens']} tokens, H = {result['hidden_size']}",
        ("L", "MB kept", "MB again", "times less", "ms kept", "ms again", "times as long", "(CKPT.3)"),
        tuple(rows),
        (
            f"One thread, {result['blas']}, {result['date'][:10]}; medians of alternating calls; (CKPT.3) "
            "counts operations, to which time at small depths adds that of moving arrays.",
        ),
    )


def _predicted(layers: int) -> float:
    return (3.0 + (layers - 1) / layers) / 3.0


def draw(result: dict[str, Any], path: Path) -> None:
    """Memory and time over depth, as an SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    depths = [entry["layers"] for entry in result["entries"]]
    with drawn(path, width=8, height=3, font_size=9) as figure:
        memory, duration = (figure.add_axes((left, 0.17, 0.38, 0.7)) for left in (0.08, 0.58))
        for way, color, words in (
            ("kept", "#b8b8b8", "everything kept"),
            ("again", "#1b6ca8", "blocks computed again"),
        ):
            peaks = [entry[way]["peak_bytes"] / 1e6 for entry in result["entries"]]
            times = [1e3 * Quartiles.of(entry[way]["seconds"]).median for entry in result["entries"]]
            memory.plot(depths, peaks, "o-", color=color, label=words)
            duration.plot(depths, times, "o-", color=color)
        for axes, title in ((memory, "MB of arrays, at the peak"), (duration, "ms a call")):
            axes.set_xticks(depths)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("L, blocks")
            axes.set_title(title, fontsize=9, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
        memory.legend(frameon=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write result and picture where a folder is named."""
    parser = argparse.ArgumentParser(prog=f"python -m mini_bert.benchmarks.{NAME}", description=(__doc__ or "")[:80])
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for the JSON and the SVG")
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4, 8, 16], metavar="L")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each kind at each depth")
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args(argv)
    try:
        result = measure(arguments.depths, arguments.rounds, arguments.rows)
        print(table(result).plain(), end="")
        if arguments.out is not None:
            write_synced(arguments.out / f"{NAME}.json", (json.dumps(result, indent=1) + "\n").encode())
            draw(result, arguments.out / f"{NAME}.svg")
    except MiniBertError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
