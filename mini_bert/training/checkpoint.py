"""A checkpoint is there whole, or not there; and one that was changed since never loads.

    runs/<name>/checkpoints/checkpoint-<step>/
        config.json, model.safetensors, tokenizer files     a Hugging Face model folder
        optimizer.safetensors                               what the optimiser keeps, under the names of the parameters
        training_state.json                                 step and counters; no generator state: all draws are pure
        manifest.json                                       size and sha256 of all of these, written last

Saving: write all into `.tmp-<step>-<owner>-<random>/` and flush each file; the manifest last; flush the folder; rename
it to its name; flush its parent; read it back and compare with the manifest; only then move the pointers and remove
older checkpoints. `latest` is a hint for people: a resume looks for the newest checkpoint whose manifest holds.
The manifest tells of the bytes that were meant, hashed in memory while they are written, not of what a disk gave back.
Names, and which checkpoints stay: checkpoint_folders.py.

Where the parameters are averaged, model.safetensors holds the average, which is the model that people load, and
optimizer.safetensors the raw parameters (`raw.W_Q_0`), which a resume goes on from.

What is not promised: equal bits on another type of processor, BLAS build or version of NumPy.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import mini_bert
from mini_bert.atomic_files import Buffer, make_folder, replace_file, storage_errors, sync, write_synced
from mini_bert.config.wording import shown
from mini_bert.errors import CheckpointError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import bert_config, huggingface, manifest, safetensors_guard
from mini_bert.machine import blas_kernel
from mini_bert.model.parameters import Parameters
from mini_bert.model.pretrained import CONFIG_NAME, WEIGHTS_NAME, from_pretrained
from mini_bert.ops.contract import Array
from mini_bert.optim.optimizer import OPTIMIZERS, OptimizerState, zeros
from mini_bert.training.checkpoint_folders import (
    FOLDER,
    STATE_NAME,
    give_name,
    pointed_to,
    rotate,
    temporary,
    verified,
)
from mini_bert.training.layout import layout_of
from mini_bert.training.step import TrainingState

OPTIMIZER_NAME = "optimizer.safetensors"


class Restored(NamedTuple):
    """What a checkpoint holds."""

    state: TrainingState
    progress: dict[str, Any]
    """The counters that were given to `save_checkpoint`."""
    manifest: dict[str, Any]


def save_checkpoint(
    run: Path,
    state: TrainingState,
    progress: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    keep: int = 2,
    best: int | None = None,
) -> Path:
    """Write the state as `checkpoint-<step>`, then remove checkpoints older than the `keep` newest that hold.

    Args:
        run: the run's folder.
        state: what is saved.
        progress: counters of the loop, plain JSON values; they come back from `load_checkpoint`.
        facts: what the manifest shall say of config, tokenizer, data and machine.
        keep: how many verified checkpoints stay; the one that `best` points to stays as well.
        best: let the pointer `best` point to the checkpoint of this step, if it is there.

    Raises:
        StorageError: disk full, read-only or failing; older checkpoints are as they were, and nothing half stays.
    """
    final = run / FOLDER / f"checkpoint-{state.step}"
    counters = json.dumps({"step": state.step, "progress": dict(progress)}, indent=1, sort_keys=True).encode() + b"\n"
    if not _holds_already(final, state, counters):
        _write(final, state, counters, facts)
    replace_file(run / "latest", f"{final.name}\n".encode())
    best_one = run / FOLDER / f"checkpoint-{best}"
    if best_one.is_dir() and pointed_to(run, "best") != best_one:
        replace_file(run / "best", f"{best_one.name}\n".encode())
    rotate(run, keep)
    return final


def load_checkpoint(path: Path) -> Restored:
    """The state in a checkpoint, every byte of it compared with its manifest first.

    Raises:
        CheckpointError: something is missing, damaged or contradicts the rest.
    """
    promised = manifest.verify(path)
    model = from_pretrained(path)
    try:
        saved = parse_json(read_regular_file(path / STATE_NAME, LARGEST_JSON))
        step, progress = int(saved["step"]), dict(saved["progress"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        got = f"{type(error).__name__}: {shown(str(error))}"
        raise CheckpointError(str(path / STATE_NAME), got=got, expected="the state of a training") from error
    arrays, metadata = safetensors_guard.load(path / OPTIMIZER_NAME)
    optimizer = _empty_state(model.parameters, arrays, metadata, path)
    state = TrainingState(model, optimizer, step)
    if "average" in optimizer:
        optimizer["average"][...] = model.parameters.buffer
    expected = _tensors(state)
    if arrays.keys() != expected.keys():
        odd = sorted(arrays.keys() ^ expected.keys())[0]
        raise CheckpointError(
            str(path / OPTIMIZER_NAME),
            got=f"{shown(odd)} missing or unknown",
            expected=f"what {optimizer.name} keeps of each parameter",
        )
    for name, view in expected.items():
        if arrays[name].shape != view.shape or arrays[name].dtype != view.dtype:
            raise CheckpointError(
                str(path / OPTIMIZER_NAME),
                got=f"{name} as {arrays[name].dtype} {arrays[name].shape}",
                expected=f"{view.dtype} {view.shape}",
            )
        view[...] = arrays[name]
    if model_and_optimizer_sha256(state) != promised.get("model_and_optimizer_sha256"):
        raise CheckpointError(str(path), got="another model or optimizer", expected="the one whose hash was saved")
    return Restored(state, progress, promised)


def model_and_optimizer_sha256(state: TrainingState) -> str:
    """The hash of a run: over parameters and what the optimiser keeps, each in its order, little-endian."""
    digest = hashlib.sha256()
    for vector in state.vectors:
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


def _empty_state(
    parameters: Parameters, arrays: Mapping[str, Array], metadata: Mapping[str, Any], path: Path
) -> OptimizerState:
    """A state of zeros for what a file keeps: its optimiser's own vectors, and those that stand around it."""
    kept = {name.partition(".")[0] for name in arrays}
    around = [vector for vector, tells in (("slow", "slow"), ("average", "raw")) if tells in kept]
    name = metadata.get("optimizer", "adamw")  # the only one there was, when none was named
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise CheckpointError(
            str(path / OPTIMIZER_NAME), got=f"the optimizer {shown(name)}", expected=f"one of {list(OPTIMIZERS)}"
        )
    return zeros(layout_of(parameters.table), parameters.buffer.dtype, name, around)


def _tensors(state: TrainingState) -> dict[str, Array]:
    """What lies in optimizer.safetensors, by vector and parameter name, as views."""
    tensors = {
        f"{vector}.{name}": view
        for vector in state.optimizer
        if vector != "average"
        for name, view in state.optimizer.views(vector).items()
    }
    if "average" in state.optimizer:
        tensors |= {f"raw.{name}": view for name, view in state.model.parameters.items()}
    return tensors


def _holds_already(path: Path, state: TrainingState, counters: bytes) -> bool:
    """Whether this very state is saved there."""
    try:
        promised = verified(path)
        return (path / STATE_NAME).read_bytes() == counters and promised.get(
            "model_and_optimizer_sha256"
        ) == model_and_optimizer_sha256(state)
    except (CheckpointError, OSError):
        return False


def _contents(state: TrainingState, counters: bytes) -> dict[str, Sequence[Buffer]]:
    """Name → bytes of each file but the manifest. Those of arrays are not copied: the state must stay as it is."""
    model, optimizer = state.evaluated, state.optimizer
    metadata = {"step": state.step} if optimizer.name == "adamw" else {"step": state.step, "optimizer": optimizer.name}
    weights = huggingface.to_hugging_face(model.parameters, model.parameters.table)
    pad_id = 0 if model.tokenizer is None else model.tokenizer.pad_id
    fields = bert_config.to_json(model.config, np.dtype(model.dtype).name, pad_id)
    return {
        OPTIMIZER_NAME: safetensors_guard.to_parts(_tensors(state), metadata),
        WEIGHTS_NAME: safetensors_guard.to_parts(weights, {"format": "pt"}),
        CONFIG_NAME: [(json.dumps(fields, indent=2) + "\n").encode()],
        STATE_NAME: [counters],
        **{name: [content] for name, content in (model.tokenizer.files if model.tokenizer else {}).items()},
    }


def _write(final: Path, state: TrainingState, counters: bytes, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint; two threads hash what a third one writes."""
    make_folder(final.parent)
    staged = temporary(final.parent, state.step)
    try:
        with storage_errors(staged):
            os.mkdir(staged)  # noqa: PTH102  (experiments let these very calls fail)
        with ThreadPoolExecutor(2) as hashing:
            digest = hashing.submit(model_and_optimizer_sha256, state)
            contents = _contents(state, counters)
            described = {name: hashing.submit(manifest.describe, name, parts) for name, parts in contents.items()}
            for name, parts in contents.items():
                write_synced(staged / name, *parts)
        manifest.write(
            staged,
            {**facts, "step": state.step, "model_and_optimizer_sha256": digest.result()},
            {name: file.result() for name, file in described.items()},
        )
        sync(staged)
        give_name(staged, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
