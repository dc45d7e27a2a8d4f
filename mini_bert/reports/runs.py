"""Runs as tables: all of them in one, one of them in several."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mini_bert.reports.quantities import duration, number, percent, size
from mini_bert.reports.run_details import finite, mapping
from mini_bert.reports.table import NOTHING, Table
from mini_bert.training.run_folders import RunSummary


def runs_table(runs: Sequence[RunSummary], directory: Path) -> Table:
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


def run_tables(known: Mapping[str, Any]) -> Iterator[Table]:
    """What `run_details` found, as tables; those that would be empty are left out."""
    made = (_settings_table, _making_table, _starts_table, _course_table, _checkpoints_table)
    yield from (table for table in (make(known) for make in made) if table.rows)


def run_heading(known: Mapping[str, Any]) -> str:
    """What `run_details` found, in one line."""
    state = f"running, {known['owner']}" if known["owner"] else known["state"]
    line = f"{known['path']}: {state}, step {_of(known['step'], known['steps'])}"
    if known["loss"] is not None:
        line += f", held-out loss {known['loss']:.4f}"
    if known["best_loss"] is not None:
        line += f" (best {known['best_loss']:.4f} at step {known['best_step']:,})"
    return f"{line}, {size(known['bytes'])}, last change {_when(known['changed'])}"


def _settings_table(known: Mapping[str, Any]) -> Table:
    rows = tuple(
        (name, _written(setting["value"]), _written(setting["default"])) for name, setting in known["settings"].items()
    )
    return Table("Settings that are not as by default", ("setting", "value", "default"), rows, left=(0, 1, 2))


def _making_table(known: Mapping[str, Any]) -> Table:
    newest = known["starts"][-1] if known["starts"] else {}
    git = mapping(newest.get("git"))
    commit = f"{git.get('commit')}{' with changes' if git.get('dirty') else ''}" if git else None
    environment = mapping(newest.get("environment"))
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
        end = mapping(start.get("end"))
        rows.append(
            (
                str(start.get("time", NOTHING))[:19].replace("T", " "),
                _count(start.get("first_step")),
                str(start.get("threads") or NOTHING),
                str(start.get("ranks", 1)),
                str(start.get("host", NOTHING)),
                str(end.get("ended", NOTHING)),
                _count(end.get("step")),
                duration(finite(end.get("seconds"))),
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
        (one["name"], size(one["bytes"]), "yes" if one["holds"] else "NO", ", ".join(one["pointers"]))
        for one in known["checkpoint_list"]
    )
    problems = tuple(one["problem"] for one in known["checkpoint_list"] if one["problem"])
    return Table("Checkpoints", ("checkpoint", "size", "verified", "pointers"), rows, problems, left=(0, 3))


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
