"""What does a person want to know of runs: all of them in a table, one of them on a page?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from mini_bert.config.schema import Config
from mini_bert.errors import CheckpointError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import manifest as folder_manifest
from mini_bert.reports.quantities import duration, number, percent
from mini_bert.reports.table import NOTHING, Table
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to, step_of
from mini_bert.training.metrics_log import Record
from mini_bert.training.run_folders import Contents, RunSummary, read_contents, size_of, summary

_OF_TASK = "_accuracy"
_ROWS = 12
"""Of the table of a run's course."""
_NOT_SHOWN = {"run.name", "run.directory", "run.resume"}
"""Settings that say where a run lies, not what it is."""


def overview(runs: Sequence[RunSummary], directory: Path) -> Table:
    """All runs, a line each."""
    rows = tuple(
        (
            run.name,
            f"running ({run.owner})" if run.owner else run.state,
            _of(run.step, run.steps),
            number(run.loss, 4),
            NOTHING if run.best_loss is None else f"{run.best_loss:.4f} at {run.best_step:,}",
            str(run.checkpoints),
            size(run.bytes),
            _when(run.changed),
        )
        for run in runs
    )
    columns = ("run", "state", "step", "held-out loss", "best", "checkpoints", "size", "last change")
    return Table(f"{len(runs)} run{'s' * (len(runs) != 1)} in {directory}", columns, rows, left=(0, 1))


def as_json(run: RunSummary) -> dict[str, Any]:
    """A run in a few numbers, as plain values."""
    return {**run._asdict(), "path": str(run.path)}


def details(run: Path) -> dict[str, Any]:
    """All that is known of a run, as plain values; every checkpoint's files are compared with their sha256."""
    contents = read_contents(run)
    manifest = contents.manifest or {}
    started = contents.of("start")[-1] if contents.of("start") else {}
    starts = manifest.get("starts") or [_old_start(record) for record in contents.of("start")]
    saved = [_checkpoint(run, path) for path in checkpoints(run)]
    whole = next((path["sha256"] for path in saved if path["holds"]), None)
    return {
        **as_json(summary(contents)),
        "settings": _settings(contents.config),
        "data": {
            name: manifest.get(name, started.get(name))
            for name in ("data_sha256", "tokenizer_sha256", "config_sha256", "parent")
        },
        "starts": starts,
        "course": _course(contents),
        "train_losses": [
            [record["step"], loss] for record in contents.of("train") if (loss := _real(record.get("loss"))) is not None
        ],
        "checkpoint_list": saved,
        "sha256": (contents.end or {}).get("sha256"),
        "newest_sha256": whole,
        "incidents": [_incident(path) for path in sorted(run.glob("incident-*.json"))],
        "warnings": [event for event in contents.events if event["level"] != "info"],
        "problems": _problems(contents),
    }


def tables(known: Mapping[str, Any]) -> Iterator[Table]:
    """What `details` found, as tables; those that would be empty are left out."""
    made = (_settings_table, _making_table, _starts_table, _course_table, _checkpoints_table)
    yield from (table for table in (make(known) for make in made) if table.rows)


def heading(known: Mapping[str, Any]) -> str:
    """The run in one line."""
    state = f"running, {known['owner']}" if known["owner"] else known["state"]
    line = f"{known['path']}: {state}, step {_of(known['step'], known['steps'])}"
    if known["loss"] is not None:
        line += f", held-out loss {known['loss']:.4f}"
    if known["best_loss"] is not None:
        line += f" (best {known['best_loss']:.4f} at step {known['best_step']:,})"
    return f"{line}, {size(known['bytes'])}, last change {_when(known['changed'])}"


def _settings(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that are not as by default, with the default; of older versions' settings there is none."""
    default = Config().to_dict()
    return {
        f"{section}.{name}": {"value": value, "default": default.get(section, {}).get(name)}
        for section, values in config.items()
        for name, value in values.items()
        if value != default.get(section, {}).get(name) and f"{section}.{name}" not in _NOT_SHOWN
    }


def _old_start(record: Record) -> dict[str, Any]:
    """A start as metrics.jsonl tells it, in runs without a manifest."""
    environment = _mapping(record.get("environment"))
    return {"first_step": record["step"], "environment": environment, "threads": environment.get("threads")}


def _checkpoint(run: Path, path: Path) -> dict[str, Any]:
    problem, digest = "", None
    try:
        digest = folder_manifest.verify(path).get("model_and_optimizer_sha256")
    except CheckpointError as error:
        problem = str(error)
    pointers = [pointer for pointer in ("latest", "best") if pointed_to(run, pointer) == path]
    return {
        "name": path.name,
        "step": step_of(path),
        "bytes": size_of(path),
        "holds": not problem,
        "problem": problem,
        "pointers": pointers,
        "sha256": digest,
    }


def _incident(path: Path) -> dict[str, Any]:
    content: Any = {}
    with suppress(OSError, ValueError):
        content = parse_json(read_regular_file(path, LARGEST_JSON))
    return {"file": path.name, **(content if isinstance(content, dict) else {})}


def _problems(contents: Contents) -> list[str]:
    damaged = contents.damaged
    lines = f"metrics.jsonl: {len(damaged)} damaged lines, the first is line {damaged[0]}." if damaged else ""
    return [sentence for sentence in (contents.problem, lines) if sentence]


def _course(contents: Contents) -> list[dict[str, Any]]:
    """At most so many rows, evenly spread: the steps that were evaluated, or those that were logged."""
    by_step: dict[int, dict[str, Any]] = {}
    for record in contents.of("train"):
        names = ("loss", "accuracy", "grad_norm", "lr", "masking_rate", "tokens_per_second")
        by_step.setdefault(record["step"], {}).update({name: _real(record.get(name)) for name in names})
    scored = contents.of("evaluation")
    for record in scored:
        values: dict[str, Any] = {"held_out": _real(record.get("loss")), "top1": _real(record.get("top1"))}
        values["tasks"] = {name: _real(record[key]) for key in record if (name := key.removesuffix(_OF_TASK)) != key}
        by_step.setdefault(record["step"], {}).update(values)
    steps = sorted({record["step"] for record in scored} if len(scored) > 2 else by_step)
    chosen = sorted({steps[i * (len(steps) - 1) // (_ROWS - 1)] for i in range(_ROWS)}) if steps else []
    return [{"step": step, **by_step[step]} for step in chosen]


def _settings_table(known: Mapping[str, Any]) -> Table:
    rows = tuple(
        (name, _written(setting["value"]), _written(setting["default"])) for name, setting in known["settings"].items()
    )
    return Table("Settings that are not as by default", ("setting", "value", "default"), rows, left=(0, 1, 2))


def _making_table(known: Mapping[str, Any]) -> Table:
    newest = known["starts"][-1] if known["starts"] else {}
    git = _mapping(newest.get("git"))
    commit = f"{git.get('commit')}{' with changes' if git.get('dirty') else ''}" if git else None
    environment = _mapping(newest.get("environment"))
    facts = {
        "texts": known["data"]["data_sha256"],
        "vocabulary": known["data"]["tokenizer_sha256"],
        "settings": known["data"]["config_sha256"],
        "branched off": known["data"]["parent"],
        "made with": ", ".join(
            f"{name} {environment[name]}" for name in ("mini_bert", "python", "numpy", "blas") if name in environment
        ),
        "machine": " on ".join(str(part) for part in (environment.get("machine"), newest.get("host")) if part),
        "git": commit,
        "final sha256" if known["sha256"] else "newest sha256": known["sha256"] or known["newest_sha256"],
    }
    rows = tuple((name, str(value)) for name, value in facts.items() if value)
    words = newest.get("command")
    command = (f"command: {shlex.join(map(str, words))}",) if isinstance(words, list) and words else ()
    return Table("What it was made of", ("what", "which"), rows, command, left=(0, 1))


def _starts_table(known: Mapping[str, Any]) -> Table:
    rows = []
    for start in known["starts"]:
        end = _mapping(start.get("end"))
        rows.append(
            (
                str(start.get("time", NOTHING))[:19].replace("T", " "),
                _count(start.get("first_step")),
                str(start.get("threads") or NOTHING),
                str(start.get("ranks", 1)),
                str(start.get("host", NOTHING)),
                str(end.get("ended", NOTHING)),
                _count(end.get("step")),
                duration(_real(end.get("seconds"))),
            )
        )
    columns = ("start (UTC)", "from step", "threads", "ranks", "host", "ended", "at step", "after")
    return Table("Starts", columns, tuple(rows), left=(0, 4, 5))


def _course_table(known: Mapping[str, Any]) -> Table:
    course = known["course"]
    tasks = list(dict.fromkeys(name for row in course for name in row.get("tasks", ())))
    masked = any(row.get("masking_rate") is not None for row in course)
    rows = tuple(
        (
            f"{row['step']:,}",
            number(row.get("loss"), 4),
            number(row.get("held_out"), 4),
            percent(row.get("top1")),
            *(percent(row.get("tasks", {}).get(name)) for name in tasks),
            number(row.get("grad_norm")),
            NOTHING if row.get("lr") is None else f"{row['lr']:.2e}",
            *([percent(row.get("masking_rate"))] if masked else []),
            number(row.get("tokens_per_second"), 0),
        )
        for row in course
    )
    columns = (
        *("step", "loss", "held-out loss", "held-out accuracy"),
        *(name.replace("_", " ") for name in tasks),
        *("gradient norm", "learning rate"),
        *(["masking rate"] if masked else []),
        "tokens/s",
    )
    notes = ("Of the extra tasks: accuracy on held-out rows of their own.",) if tasks else ()
    return Table("Course", columns, rows, notes, left=())


def _checkpoints_table(known: Mapping[str, Any]) -> Table:
    rows = tuple(
        (path["name"], size(path["bytes"]), "yes" if path["holds"] else "NO", ", ".join(path["pointers"]))
        for path in known["checkpoint_list"]
    )
    problems = tuple(path["problem"] for path in known["checkpoint_list"] if path["problem"])
    return Table("Checkpoints", ("checkpoint", "size", "verified", "pointers"), rows, problems, left=(0, 3))


def size(bytes: int) -> str:
    """Bytes as megabytes, or gigabytes.

    >>> size(293_646), size(72_668_148), size(3_600_000_000)
    ('0.3 MB', '72.7 MB', '3.60 GB')
    """
    return f"{bytes / 1e9:,.2f} GB" if bytes >= 1e9 else f"{bytes / 1e6:,.1f} MB"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _real(value: object) -> float | None:
    """The value if it is a finite number; files may hold anything."""
    return value if isinstance(value, (int, float)) and type(value) is not bool and isfinite(value) else None


def _count(value: object) -> str:
    return f"{value:,}" if type(value) is int else NOTHING


def _of(step: int | None, steps: int | None) -> str:
    if step is None:
        return NOTHING
    return f"{step:,} of {steps:,}" if steps is not None else f"{step:,}"


def _when(seconds: float | None) -> str:
    """Local time, to the minute."""
    return NOTHING if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _written(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)
