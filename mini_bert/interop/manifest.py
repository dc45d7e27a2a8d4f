"""Does a folder hold, to the byte, what was once written into it?

`manifest.json` is written last. It gives size and sha256 of every file beside it, name, dtype and shape of every
tensor, and the facts of the run; its own sha256 stands in it too, over its canonical text, so that no bit of the folder
can change without notice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mini_bert.atomic_files import storage_errors, write_synced
from mini_bert.errors import CheckpointError
from mini_bert.interop import safetensors_guard

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"


def write(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Describe every file of `folder` in its `manifest.json`, together with `facts`; returns the manifest.

    Raises:
        StorageError: the manifest could not be written, or a file not be read back.
    """
    files, tensors = {}, {}
    for path in sorted(folder.iterdir()):
        if path.name == FILE_NAME:
            continue
        with storage_errors(path):
            content = path.read_bytes()
        files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if path.suffix == ".safetensors":
            tensors[path.name] = safetensors_guard.describe(content, str(path))
    body = {**facts, "format_version": FORMAT_VERSION, "files": files, "tensors": tensors}
    manifest = {**body, "manifest_sha256": hashlib.sha256(_canonical(body)).hexdigest()}
    write_synced(folder / FILE_NAME, _canonical(manifest))
    return manifest


def read(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, found whole.

    Raises:
        CheckpointError: there is none, it was changed, or it is of a newer format than this program knows.
    """
    path = folder / FILE_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(str(path), got=error.strerror, expected="the manifest of a checkpoint") from error
    try:
        manifest = json.loads(content.decode("utf-8"))
        own = manifest.pop("manifest_sha256")
        whole = own == hashlib.sha256(_canonical(manifest)).hexdigest()
        whole = whole and content == _canonical({**manifest, "manifest_sha256": own})
        whole = whole and isinstance(manifest["format_version"], int) and isinstance(manifest["files"], dict)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(str(path), got="a manifest that was changed", expected="the bytes that were written")
    if manifest["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            str(path),
            got=f"format version {manifest['format_version']}",
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
    names = manifest["files"] if only is None else [name for name in only if name in manifest["files"]]
    for name in names:
        path, promised = folder / name, manifest["files"][name]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(str(path), got=error.strerror, expected="the file that the manifest names") from error
        if len(content) != promised["bytes"]:
            raise CheckpointError(str(path), got=f"{len(content)} bytes", expected=f"{promised['bytes']} bytes")
        if hashlib.sha256(content).hexdigest() != promised["sha256"]:
            raise CheckpointError(str(path), got="other bytes than were written", expected="the sha256 of the manifest")
    return manifest


def _canonical(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()
