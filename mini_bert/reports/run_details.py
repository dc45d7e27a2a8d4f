"""What is known of a run, as plain values: what it was made of, how it went, whether its checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from mini_bert.config.schema import Config
from mini_bert.errors import CheckpointError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import manifest as folder_manifest
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to, step_of
from mini_bert.training.metrics_log import Record
from mini_bert.training.run_folders import Contents, RunSummary, read_contents, size_of, summary

_OF_TASK = "_accuracy"
"""Behind the name of a task, in a record of its accuracy."""
_STEPS_OF_COURSE = 12
"""At most."""
_NOT_SHOWN = {"run.name", "run.directory", "run.resume"}
"""Settings that say where a run lies, not what it is."""


def as_dict(run: RunSummary) -> dict[str, Any]:
    """A run in a few numbers, as plain values."""
    return {**run._asdict(), "path": str(run.path)}


def run_details(run: Path) -> dict[str, Any]:
    """All that is known of a run, as plain values; every checkpoint's files are compared with their sha256."""
    contents = read_contents(run)
    manifest = contents.manifest or {}
    started = contents.of("start")[-1] if contents.of("start") else {}
    starts = manifest.get("starts") or [_old_start(record) for record in contents.of("start")]
    saved = [_checkpoint(run, path) for path in checkpoints(run)]
    return {
        **as_dict(summary(contents)),
        "settings": _settings(contents.config),
        "data": {
            name: manifest.get(name, started.get(name))
            for name in ("data_sha256", "tokenizer_sha256", "config_sha256", "parent")
        },
        "starts": starts,
        "course": _course(contents),
        "train_losses": [
            [record["step"], loss]
            for record in contents.of("train")
            if (loss := finite(record.get("loss"))) is not None
        ],
        "checkpoint_list": saved,
        "sha256": (contents.end or {}).get("sha256"),
        "newest_sha256": next((checkpoint["sha256"] for checkpoint in saved if checkpoint["holds"]), None),
        "incidents": [_incident(path) for path in sorted(run.glob("incident-*.json"))],
        "warnings": [event for event in contents.events if event["level"] != "info"],
        "problems": _problems(contents),
    }


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
    environment = mapping(record.get("environment"))
    return {"first_step": record["step"], "environment": environment, "threads": environment.get("threads")}


def _checkpoint(run: Path, path: Path) -> dict[str, Any]:
    """One of the run's checkpoints, after every byte of its files has been read again."""
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
    """Some steps, evenly spread over those that were evaluated, or over those that were logged."""
    by_step: dict[int, dict[str, Any]] = {}
    for record in contents.of("train"):
        names = ("loss", "accuracy", "grad_norm", "lr", "masking_rate", "tokens_per_second")
        by_step.setdefault(record["step"], {}).update({name: finite(record.get(name)) for name in names})
    scored = contents.of("evaluation")
    for record in scored:
        values: dict[str, Any] = {"held_out": finite(record.get("loss")), "top1": finite(record.get("top1"))}
        values["tasks"] = {name: finite(record[key]) for key in record if (name := key.removesuffix(_OF_TASK)) != key}
        by_step.setdefault(record["step"], {}).update(values)
    steps = sorted({record["step"] for record in scored} if len(scored) > 2 else by_step)
    chosen = (
        sorted({steps[i * (len(steps) - 1) // (_STEPS_OF_COURSE - 1)] for i in range(_STEPS_OF_COURSE)})
        if steps
        else []
    )
    return [{"step": step, **by_step[step]} for step in chosen]


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, otherwise one without keys; files may hold anything."""
    return value if isinstance(value, Mapping) else {}


def finite(value: object) -> float | None:
    """The value if it is a finite number; files may hold anything."""
    return value if isinstance(value, (int, float)) and type(value) is not bool and isfinite(value) else None
