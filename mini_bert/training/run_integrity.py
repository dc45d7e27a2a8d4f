"""Is a run still what was written? Its checkpoints, its log, and the hash that its manifest gives for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from mini_bert.errors import CheckpointError, DataError
from mini_bert.interop import manifest as folder_manifest
from mini_bert.training.checkpoint import load_checkpoint, model_and_optimizer_sha256
from mini_bert.training.checkpoint_folders import checkpoints, pointed_to, step_of
from mini_bert.training.metrics_log import FILE_NAME as METRICS_NAME
from mini_bert.training.metrics_log import search_metrics
from mini_bert.training.run_folders import Contents, holder, read_contents


class Finding(NamedTuple):
    """What was looked at, and what is wrong with it."""

    subject: str
    """A checkpoint, a file, or `final sha256`."""
    problem: str
    """Empty if it is as it should be."""
    note: str = ""
    """What a reader may want to know of it."""


def verify_run(run: Path, told: Callable[[str], None] = lambda what: None) -> Iterator[Finding]:
    """Compare everything in a run's folder that can be compared, a finding at a time; the checkpoints come first.

    What a training under way removes or writes meanwhile is no problem. `told` hears what is looked at next.
    """
    contents, found = read_contents(run), checkpoints(run)
    whole = []
    for path in found:
        told(path.name)
        finding = _checkpoint(path)
        if finding.problem and not path.exists():
            continue
        whole += [] if finding.problem else [path]
        yield finding
    for pointer in ("latest", "best"):
        if (run / pointer).is_file() and pointed_to(run, pointer) is None:
            yield Finding(pointer, "names no checkpoint that is there")
    if (run / METRICS_NAME).is_file() or found:
        yield _metrics(run / METRICS_NAME)
    if contents.problem:
        yield Finding("manifest.json", contents.problem)
    elif contents.manifest is None:
        yield Finding("manifest.json", "", "none: an older version began this run, so its final hash is not known")
    told("final sha256")
    yield from _final(contents, found, whole)


def _checkpoint(path: Path) -> Finding:
    try:
        files = folder_manifest.verify(path)["files"]
    except CheckpointError as error:
        return Finding(path.name, str(error))
    size = sum(file["bytes"] for file in files.values())
    return Finding(path.name, "", f"{len(files)} files, {size:,} bytes")


def _metrics(path: Path) -> Finding:
    try:
        found = search_metrics(path)
    except DataError as error:
        return Finding(path.name, str(error))
    if found.damaged:
        return Finding(path.name, f"{len(found.damaged)} damaged lines, the first is line {found.damaged[0]}")
    for kind in ("train", "evaluation"):
        steps = [record.get("step", 0) for record in found.records if record.get("kind") == kind]
        for before, after in pairwise(steps):
            if after <= before:
                return Finding(path.name, f"of kind {kind}, step {after} stands behind step {before}")
    torn = "; the last line is torn, and will be cut off when the run goes on" if found.torn else ""
    return Finding(path.name, "", f"{len(found.records):,} records{torn}")


def _final(contents: Contents, found: list[Path], whole: list[Path]) -> Iterator[Finding]:
    """The hash in the manifest against the tensors of the last checkpoint, if the newest start has ended."""
    end, subject = contents.end, "final sha256"
    if end is None or end.get("sha256") is None or holder(contents.path) is not None:
        return
    last = next((path for path in found if step_of(path) == end.get("step")), None)
    if last is None:
        yield Finding(subject, f"checkpoint-{end.get('step')}, with which the run ended, is not there")
    elif last not in whole:
        yield Finding(subject, f"{last.name}, with which the run ended, does not hold")
    else:
        try:
            state = load_checkpoint(last).state
        except CheckpointError as error:
            yield Finding(subject, str(error))
            return
        digest = model_and_optimizer_sha256(state)
        if digest == end["sha256"]:
            yield Finding(subject, "", f"{digest}, that of the tensors in {last.name}")
        else:
            yield Finding(subject, f"{end['sha256']} in manifest.json, and {digest} in {last.name}")
