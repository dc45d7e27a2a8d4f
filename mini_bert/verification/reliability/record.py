"""Which experiments are there, and what came out when they were last run? `docs/results/reliability.json`."""

from __future__ import annotations

import datetime
import importlib
import json
import pkgutil
import platform
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mini_bert.verification.reliability as package
from mini_bert.atomic_files import replace_file
from mini_bert.machine import available_cores, blas_kernel
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

KIND = "reliability"


def experiments() -> list[Experiment]:
    """All experiments of this package, in the order of the promises."""
    found: list[Experiment] = []
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            found += getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "EXPERIMENTS", ())
    return sorted(found, key=lambda experiment: number_of(experiment.promise))


def number_of(promise: str) -> int:
    """4 of `R4`."""
    return int(promise.removeprefix("R"))


def missing(experiment: Experiment) -> list[str]:
    """The packages that an experiment needs and that are not installed."""
    return [name for name in experiment.needs if find_spec(name) is None]


def tried(experiment: Experiment, scale: Scale, folder: Path) -> dict[str, Any]:
    """Run an experiment in an empty folder; plain values for JSON. What it does not catch itself is its failure."""
    begin = time.monotonic()
    try:
        outcome = experiment.run(scale, folder)
    except Exception as error:
        outcome = Outcome(1, [f"the experiment itself failed: {type(error).__name__}: {error}"])
    return {
        "promise": experiment.promise,
        "name": experiment.name,
        "promised": experiment.promised,
        "tried": outcome.tried,
        "failed": len(outcome.failures),
        "failures": [failure[:300] for failure in outcome.failures[:5]],
        "measured": outcome.measured,
        "seconds": round(time.monotonic() - begin, 1),
        "quick": scale.quick,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def read(path: Path) -> dict[str, Any]:
    """What is recorded so far; nothing where there is no file."""
    empty = {"kind": KIND, "machine": {}, "experiments": []}
    return json.loads(path.read_bytes()) if path.is_file() else empty


def keep(path: Path, records: Iterable[Mapping[str, Any]], known: Iterable[Experiment]) -> dict[str, Any]:
    """Write new records over those of the same experiments; those of experiments that are no more go."""
    names = [(experiment.promise, experiment.name) for experiment in known]
    by_name = {(record["promise"], record["name"]): record for record in [*read(path)["experiments"], *records]}
    result = {
        "kind": KIND,
        "machine": machine(),
        "experiments": [by_name[name] for name in names if name in by_name],
    }
    replace_file(path, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    return result


def machine() -> dict[str, str]:
    """What it was tried on."""
    return {
        "system": f"{platform.system()} {platform.machine()}, {available_cores()} cores",
        "blas": blas_kernel(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
