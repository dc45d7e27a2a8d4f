"""Does a folder hold, to the byte, what was once written into it?

`manifest.json` is written last. It gives size and sha256 of every file beside it, name, dtype and shape of every
tensor, and the facts of the run; its own sha256 stands in it too, over its text without that line, so that no bit of
the folder can change without notice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.atomic_files import Buffer, storage_errors, write_synced
from mini_bert.config.wording import shown
from mini_bert.errors import CheckpointError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import safetensors_guard

FORMAT_VERSION = 1
_LONGEST_NAME = 255
"""Of a file, as file systems have it; a manifest may claim others."""
FILE_NAME = "manifest.json"
_OWN = "manifest_sha256"
_CHUNK = 1 << 18
"""Bytes read at a time: they stay in the processor's cache until they are hashed."""
_WORTH_A_THREAD = 1 << 20
"""Bytes of a folder from which two threads hash sooner than one."""


class Described(NamedTuple):
    """What the manifest says of one file."""

    bytes: int
    sha256: str
    tensors: dict[str, dict[str, Any]] | None
    """Name → dtype and shape; None for a file that is no safetensors file."""


def describe(name: str, parts: Sequence[Buffer]) -> Described:
    """What the manifest shall say of the file `name` that has these bytes, one part behind the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    size = sum(len(part) for part in parts)
    tensors = safetensors_guard.describe(parts[0], name, size) if name.endswith(".safetensors") else None
    return Described(size, digest.hexdigest(), tensors)


def write(folder: Path, facts: Mapping[str, Any], known: Mapping[str, Described] | None = None) -> dict[str, Any]:
    """Describe every file of `folder` in its `manifest.json`, together with `facts`; returns the manifest.

    Args:
        folder: where to.
        facts: plain values for JSON.
        known: of files whose bytes were at hand when they were written; the others are read back.

    Raises:
        StorageError: the manifest could not be written, or a file not be read back.
    """
    described = dict(known or {})
    for path in folder.iterdir():
        if path.name != FILE_NAME and path.name not in described:
            with storage_errors(path):
                described[path.name] = describe(path.name, [path.read_bytes()])
    body = {
        **facts,
        "format_version": FORMAT_VERSION,
        "files": {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in described.items()},
        "tensors": {name: file.tensors for name, file in described.items() if file.tensors is not None},
    }
    nothing_yet = "0" * 64
    text = (json.dumps({**body, _OWN: nothing_yet}, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
    own = hashlib.sha256(text.replace(_own_line(nothing_yet), b"", 1)).hexdigest()
    write_synced(folder / FILE_NAME, text.replace(_own_line(nothing_yet), _own_line(own), 1))
    return {**body, _OWN: own}


def read(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, found whole.

    Raises:
        CheckpointError: there is none, it was changed, or it is of a newer format than this program knows.
    """
    path = folder / FILE_NAME
    try:
        content = read_regular_file(path, LARGEST_JSON)
    except OSError as error:
        raise _unreadable(path, "the manifest of a checkpoint", error) from error
    try:
        manifest = parse_json(content)
        own = manifest.pop(_OWN)
        whole = own == hashlib.sha256(content.replace(_own_line(own), b"", 1)).hexdigest()
        whole = whole and isinstance(manifest["format_version"], int)
        whole = whole and all(_is_entry(name, entry) for name, entry in manifest["files"].items())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(str(path), got="a manifest that was changed", expected="the bytes that were written")
    if manifest["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            str(path),
            got=f"format version {shown(manifest['format_version'])}",
            expected=f"at most {FORMAT_VERSION}",
            advice="A newer Mini-BERT wrote it: upgrade.",
        )
    return dict(manifest)


def verify(folder: Path, only: Iterable[str] | None = None) -> dict[str, Any]:
    """Compare every file of `folder` (or `only` some) with its manifest; returns the manifest.

    Raises:
        CheckpointError: a file is missing, has another size or other bytes.
    """
    manifest = read(folder)
    files = manifest["files"]
    names = list(files) if only is None else [name for name in only if name in files]

    def compare(name: str) -> CheckpointError | None:
        return _difference(folder / name, files[name]["bytes"], files[name]["sha256"])

    if sum(files[name]["bytes"] for name in names) < _WORTH_A_THREAD:
        found = [compare(name) for name in names]
    else:
        with ThreadPoolExecutor(2) as hashing:
            largest_first = sorted(names, key=lambda name: -files[name]["bytes"])
            found = list(hashing.map(compare, largest_first))
    for error in found:
        if error is not None:
            raise error
    return manifest


def _is_entry(name: str, entry: Mapping[str, Any]) -> bool:
    plain = Path(name).name == name and name.isprintable()
    return plain and type(entry["bytes"]) is int and isinstance(entry["sha256"], str)


def _difference(path: Path, size: int, sha256: str) -> CheckpointError | None:
    """What is wrong with a file that should have this size and hash."""
    digest, there = hashlib.sha256(), 0
    chunk = memoryview(bytearray(_CHUNK))
    try:
        if path.exists() and not path.is_file():
            return CheckpointError(str(path), got="no plain file", expected="the file that the manifest names")
        with path.open("rb", buffering=0) as file:
            there = os.fstat(file.fileno()).st_size
            while there == size and (length := file.readinto(chunk)):
                digest.update(chunk[:length])
    except OSError as error:
        return _unreadable(path, "the file that the manifest names", error)
    if there != size:
        return CheckpointError(str(path), got=f"{there} bytes", expected=f"{shown(size)} bytes")
    if digest.hexdigest() != sha256:
        return CheckpointError(
            str(path),
            got="other bytes than were written",
            expected="the sha256 of the manifest",
            advice="It was damaged, or changed by hand. Copy it anew, or take an older checkpoint.",
        )
    return None


def _unreadable(path: Path, expected: str, error: OSError) -> CheckpointError:
    advice = "The whole folder is gone: a training removes its older checkpoints. Ask for the newest."
    name = path.name if len(path.name) <= _LONGEST_NAME else f"{path.name[:_LONGEST_NAME]}…"
    found = CheckpointError(
        str(path.with_name(name)),
        got=error.strerror or str(error),
        expected=expected,
        advice="" if path.parent.exists() else advice,
    )
    found.__cause__ = error
    return found


def _own_line(sha256: str) -> bytes:
    return f'\n "{_OWN}": "{sha256}",'.encode()
