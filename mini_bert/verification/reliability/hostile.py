"""Do files of strangers run nothing, hang nothing, eat no memory, and end in a result or an error of ours?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from mini_bert.machine import available_cores
from mini_bert.verification.reliability.hostile_files.readers import READERS
from mini_bert.verification.reliability.hostile_files.texts import there
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

MADE = tuple(kind for kind in READERS if kind not in ("metrics.jsonl", "run.log"))
"""Kinds for which there are files made by hand. Of a log, lines that are no records are left out: all of it opens."""


def nothing_runs(scale: Scale, folder: Path) -> Outcome:
    """Files that want something run, built, expanded or read from elsewhere."""
    return _tried(scale, folder, "made", MADE, 0)


def nothing_hangs(scale: Scale, folder: Path) -> Outcome:
    """Pipes, devices, folders and links that end nowhere, in the place of each file."""
    return _tried(scale, folder, "special", tuple(READERS), 0)


def spoiled_files(scale: Scale, folder: Path, first: int = 0) -> Outcome:
    """Good files of every kind, spoiled at random; `first` is the number of the first one."""
    return _tried(scale, folder, "spoiled", tuple(READERS), scale.of(full=10_000, quick=150), first)


def _tried(scale: Scale, folder: Path, what: str, kinds: Sequence[str], count: int, first: int = 0) -> Outcome:
    """What the processes report that open the files, one for each core."""
    outcome, found, lock = Outcome(), dict[str, dict[str, Any]](), Lock()
    workers = min(len(kinds), available_cores())

    def work(worker: int) -> None:
        mine, place = kinds[worker::workers], folder / f"worker-{worker}"
        place.mkdir(parents=True)
        order = {"what": what, "kinds": mine, "count": count, "first": first, "folder": str(place / "files")}
        with (
            (place / "errors").open("w") as errors,
            subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.hostile_files.trial", json.dumps(order)],
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            for line in process.stdout or ():
                report = json.loads(line)
                with lock:
                    found[report["kind"]] = report
                    scale.told(len(found), len(kinds))
        code = process.wait()
        left = [path for path in there(place / "files") if not path.isdigit()]
        with lock:
            for kind in mine:
                if kind not in found:
                    last = (place / "errors").read_text(errors="replace").strip().splitlines()[-1:]
                    outcome.count(False, f"{kind}: its process ended with {code} {' '.join(last)}".rstrip())
            outcome.failures += [f"something has made {path}" for path in left if code == 0]

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    for kind in kinds:
        report = found.get(kind, {"tried": 0, "failures": []})
        outcome.tried += report["tried"]
        outcome.failures += report["failures"]
    slowest = max(found.values(), key=lambda report: report["slowest_seconds"], default=None)
    outcome.measured = {
        "kinds_of_file": len(found),
        "opened": sum(report["opened"] for report in found.values()),
        "slowest_seconds": round(slowest["slowest_seconds"], 3) if slowest else None,
        "slowest": f"{slowest['kind']}, {slowest['slowest']}" if slowest else None,
        "most_growth_mb": round(max((report["growth_bytes"] for report in found.values()), default=0) / 1e6, 1),
        "tried_by_kind": {kind: found[kind]["tried"] for kind in kinds if kind in found},
    }
    return outcome


EXPERIMENTS = (
    Experiment(
        "R8",
        "files that want something run, built, expanded or read from elsewhere",
        "each is refused by name, nothing is run; under 1 s of the processor and 200 MB of memory",
        nothing_runs,
    ),
    Experiment(
        "R9",
        "pipes, devices, folders and dead links in the place of each file",
        "an error of ours, or the file counts as absent; nothing hangs",
        nothing_hangs,
    ),
    Experiment(
        "R9",
        "good files of every kind, spoiled at random",
        "a result or an error of ours; under 1 s of the processor and 200 MB of memory",
        spoiled_files,
    ),
)
