"""A checkpoint is there whole, or not there; and one that was changed since never loads.

    runs/<name>/checkpoints/checkpoint-<step>/
        config.json, model.safetensors, tokenizer files     a Hugging Face model folder
        optimizer.safetensors                               AdamW's moments, under the names of the parameters
        training_state.json                                 step and counters; no generator state: all draws are pure
        manifest.json                                       size and sha256 of all of these, written last

Saving: write all into `.tmp-<step>-<owner>-<random>/` and flush each file; the manifest last; flush the folder; rename
it to its name; flush its parent; read it back and compare with the manifest; only then move the pointers and remove
older checkpoints. `latest` is a hint for people: a resume looks for the newest checkpoint whose manifest holds.

What is not promised: equal bits on another type of processor, BLAS build or version of NumPy.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import mini_bert
from mini_bert.atomic_files import replace_file, storage_errors, sync, write_synced
from mini_bert.errors import CheckpointError, StorageError
from mini_bert.interop import manifest, safetensors_guard
from mini_bert.machine import blas_kernel
from mini_bert.model.parameters import Parameters
from mini_bert.model.pretrained import from_pretrained, write_model_files
from mini_bert.optim import adamw
from mini_bert.training import ownership
from mini_bert.training.step import TrainingState

OPTIMIZER_NAME = "optimizer.safetensors"
STATE_NAME = "training_state.json"
_FOLDER = "checkpoints"
_NAME = re.compile(r"checkpoint-(\d+)")


class Newest(NamedTuple):
    """The newest checkpoint of a run that is what it was when it was written."""

    path: Path | None
    """None where no checkpoint holds."""
    rejected: tuple[str, ...]
    """Why each newer one was passed over."""


class Restored(NamedTuple):
    """What a checkpoint holds."""

    state: TrainingState
    progress: dict[str, Any]
    """The counters that were given to `save_checkpoint`."""
    manifest: dict[str, Any]


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, newest first, whether they hold or not."""
    if not (run / _FOLDER).is_dir():
        return []
    found = [path for path in (run / _FOLDER).iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name.

    Raises:
        CheckpointError: the name is not that of a checkpoint.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise CheckpointError(str(checkpoint), got=f"a folder named {checkpoint.name}", expected="checkpoint-<step>")
    return int(match[1])


def newest_verified(run: Path) -> Newest:
    """The newest checkpoint of a run whose every file has the size and sha256 of its manifest."""
    rejected = []
    for path in checkpoints(run):
        try:
            manifest.verify(path)
        except CheckpointError as error:
            rejected.append(str(error))
        else:
            return Newest(path, tuple(rejected))
    return Newest(None, tuple(rejected))


def save_checkpoint(
    run: Path,
    state: TrainingState,
    progress: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    keep: int = 2,
    best: bool = False,
) -> Path:
    """Write the state as `checkpoint-<step>`, then remove checkpoints older than the `keep` newest that hold.

    Args:
        run: the run's folder.
        state: what is saved.
        progress: counters of the loop, plain JSON values; they come back from `load_checkpoint`.
        facts: what the manifest shall say of config, tokenizer, data and machine.
        keep: how many verified checkpoints stay; the one that `best` points to stays as well.
        best: let the pointer `best` point to this one.

    Raises:
        StorageError: disk full, read-only or failing; older checkpoints are as they were, and nothing half stays.
    """
    folder = run / _FOLDER
    final = folder / f"checkpoint-{state.step}"
    digest = model_and_optimizer_sha256(state)
    if not _holds_already(final, digest):
        _write(folder, final, state, progress, {**facts, "step": state.step, "model_and_optimizer_sha256": digest})
    replace_file(run / "latest", f"{final.name}\n".encode())
    if best:
        replace_file(run / "best", f"{final.name}\n".encode())
    _rotate(run, keep)
    return final


def load_checkpoint(path: Path) -> Restored:
    """The state in a checkpoint, every byte of it compared with its manifest first.

    Raises:
        CheckpointError: something is missing, damaged or contradicts the rest.
    """
    promised = manifest.verify(path)
    model = from_pretrained(path)
    try:
        saved = json.loads((path / STATE_NAME).read_text(encoding="utf-8"))
        step, progress = int(saved["step"]), dict(saved["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(str(path / STATE_NAME), got=f"{error!r}", expected="the state of a training") from error
    optimizer = adamw.init(model.parameters.buffer.size, model.dtype)
    arrays, _ = safetensors_guard.load(path / OPTIMIZER_NAME)
    expected = {f"{moment}.{name}": view for moment, name, view in _moments(model.parameters, optimizer)}
    if arrays.keys() != expected.keys():
        odd = sorted(arrays.keys() ^ expected.keys())[0]
        raise CheckpointError(str(path / OPTIMIZER_NAME), got=f"{odd} missing or unknown", expected="two moments each")
    for name, view in expected.items():
        if arrays[name].shape != view.shape or arrays[name].dtype != view.dtype:
            raise CheckpointError(
                str(path / OPTIMIZER_NAME),
                got=f"{name} as {arrays[name].dtype} {arrays[name].shape}",
                expected=f"{view.dtype} {view.shape}",
            )
        view[...] = arrays[name]
    state = TrainingState(model, optimizer, step)
    if model_and_optimizer_sha256(state) != promised.get("model_and_optimizer_sha256"):
        raise CheckpointError(str(path), got="another model or optimizer", expected="the one whose hash was saved")
    return Restored(state, progress, promised)


def model_and_optimizer_sha256(state: TrainingState) -> str:
    """The hash of a run: over parameters and moments alone, in the order of the buffer, little-endian."""
    digest = hashlib.sha256()
    for vector in (state.model.parameters.buffer, state.optimizer.m, state.optimizer.v):
        digest.update(np.ascontiguousarray(vector, vector.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def environment(threads: int) -> dict[str, str | int]:
    """What the bits of a result depend on beside config and data."""
    return {
        "mini_bert": mini_bert.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas_kernel(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": threads,
    }


def remove_stale(run: Path) -> None:
    """Remove what writers that died left half done; call it while holding the run's lock.

    Folders go when the owner in their name is gone. Single files go always: only the lock's holder writes them.
    """
    for path in [*run.glob(".tmp-*"), *(run / _FOLDER).glob(".tmp-*")]:
        if path.is_file():
            path.unlink(missing_ok=True)
        elif ownership.token_is_gone(path.name) or ownership.this_process().token in path.name:
            shutil.rmtree(path, ignore_errors=True)


def pointed_to(run: Path, pointer: str) -> Path | None:
    """The checkpoint that the file `latest` or `best` names, if it is there."""
    try:
        name = (run / pointer).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    path = run / _FOLDER / name
    return path if _NAME.fullmatch(name) and path.is_dir() else None


def _moments(parameters: Parameters, optimizer: adamw.State) -> list[tuple[str, str, np.ndarray[Any, Any]]]:
    """AdamW's vectors by moment and parameter name, as views."""
    return [
        (moment, name, view)
        for moment in ("m", "v")
        for name, view in Parameters(parameters.config, buffer=getattr(optimizer, moment)).items()
    ]


def _holds_already(path: Path, digest: str) -> bool:
    try:
        return bool(manifest.verify(path).get("model_and_optimizer_sha256") == digest)
    except CheckpointError:
        return False


def _temporary(folder: Path, step: int) -> Path:
    return folder / f".tmp-{step}-{ownership.this_process().token}-{secrets.token_hex(4)}"


def _write(
    folder: Path, final: Path, state: TrainingState, progress: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    staged = _temporary(folder, state.step)
    moments = {f"{moment}.{name}": view for moment, name, view in _moments(state.model.parameters, state.optimizer)}
    text = json.dumps({"step": state.step, "progress": dict(progress)}, indent=1, sort_keys=True)
    try:
        with storage_errors(staged):
            folder.mkdir(parents=True, exist_ok=True)
            staged.mkdir()
        write_model_files(state.model, staged)
        write_synced(staged / OPTIMIZER_NAME, safetensors_guard.to_bytes(moments, {"step": state.step}))
        write_synced(staged / STATE_NAME, text.encode() + b"\n")
        manifest.write(staged, facts)
        sync(staged)
        with storage_errors(final):
            if final.exists():  # damaged, or of another course of this run
                _remove(final)
            os.rename(staged, final)  # noqa: PTH104  (tests let this very call fail)
        sync(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    try:
        manifest.verify(final)
    except CheckpointError as error:
        raise StorageError(
            str(final),
            got=f"other bytes than were written ({error})",
            expected="a disk that keeps what it is given",
            advice="Older checkpoints were kept. Check the disk.",
        ) from error


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint so that a kill in the middle leaves nothing under its name."""
    retired = _temporary(checkpoint.parent, step_of(checkpoint))
    os.rename(checkpoint, retired)  # noqa: PTH104
    shutil.rmtree(retired, ignore_errors=True)


def _rotate(run: Path, keep: int) -> None:
    """Keep the newest `keep` checkpoints that hold, and the best."""
    best, verified = pointed_to(run, "best"), 0
    for path in checkpoints(run):
        if verified >= keep:
            if path != best:
                with storage_errors(path):
                    _remove(path)
            continue
        try:
            manifest.verify(path)
        except CheckpointError:
            continue
        verified += 1
