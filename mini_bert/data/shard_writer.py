"""Writing token files so that they are there whole or not at all.

A folder comes into being under a temporary name, is synchronised to disk, and is renamed. When two processes prepare
the same corpus at once, the first to finish wins and the other takes its work; what a killed process left is removed by
the next one on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.cache import not_written
from mini_bert.data.shards import ARRAYS, BLOCK, FORMAT, index_digest

SHARD_TOKENS = 1 << 26
"""A shard is closed at the end of the document in which it reaches this many tokens (128 MiB)."""

_OWN = f".tmp-{socket.gethostname()}-"


class ShardWriter:
    """Writes documents to a temporary folder beside `folder`, in constant memory; `finish` puts it in place."""

    def __init__(self, folder: Path, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder = folder
        self._shard_tokens = shard_tokens
        self._files: dict[str, _HashedFile] = {}
        self._shards: list[str] = []
        self._tokens = self._in_shard = self._documents = self._sentences = self._largest = 0
        self._open_name: str | None = None
        self._hash = hashlib.blake2b(digest_size=8)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder.parent)
            self._temporary = Path(tempfile.mkdtemp(prefix=f"{_OWN}{os.getpid()}-", dir=folder.parent))
            for name in (*ARRAYS, "names.txt"):
                self._files[name] = _HashedFile(self._temporary / name)
            self._files["sentences.bin"].write(b"\0" * 8)
        except OSError as error:
            raise not_written(folder, error) from error

    def add(self, name: str, ids: NDArray[np.uint16], sentence_lengths: NDArray[np.int64], text_hash: bytes) -> None:
        """Append a document, or, if `name` is that of the document before, its next part."""
        try:
            if name != self._open_name:
                self._end_document()
                self._open_name = name
                self._files["documents.bin"].write(np.int64(self._tokens).tobytes())
                if not self._shards or self._in_shard >= self._shard_tokens:
                    self._shards.append(f"tokens-{len(self._shards):05d}.bin")
                    self._files[self._shards[-1]] = _HashedFile(self._temporary / self._shards[-1])
                    self._in_shard = 0
            self._hash.update(text_hash)
            self._files[self._shards[-1]].write(np.ascontiguousarray(ids, "<u2").tobytes())
            ends = self._tokens + np.cumsum(sentence_lengths, dtype="<i8")
            self._files["sentences.bin"].write(ends.tobytes())
        except OSError as error:
            raise not_written(self.folder, error) from error
        self._tokens += len(ids)
        self._in_shard += len(ids)
        self._sentences += len(sentence_lengths)
        self._largest = max(self._largest, int(ids.max(initial=0)))

    def finish(self, facts: Mapping[str, object]) -> None:
        """Write the index with `facts` in it, synchronise, and rename the folder to its place."""
        try:
            self._end_document()
            self._files["documents.bin"].write(np.int64(self._tokens).tobytes())
            files = {name: file.close() for name, file in sorted(self._files.items())}
            index: dict[str, Any] = {
                **facts,
                "format": FORMAT,
                "counts": {"documents": self._documents, "sentences": self._sentences, "tokens": self._tokens},
                "largest_id": self._largest,
                "shards": self._shards,
                "files": files,
            }
            index["sha256"] = index_digest(index)
            with (self._temporary / "index.json").open("w", encoding="utf-8") as file:
                json.dump(index, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            _synchronise(self._temporary)
            try:
                self._temporary.rename(self.folder)
            except OSError:
                if not (self.folder / "index.json").is_file():
                    raise
                self.discard()
            _synchronise(self.folder.parent)
        except OSError as error:
            self.discard()
            raise not_written(self.folder, error) from error

    def discard(self) -> None:
        """Remove the temporary folder."""
        for file in self._files.values():
            file.abandon()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _end_document(self) -> None:
        if self._open_name is not None:
            self._files["hashes.bin"].write(self._hash.digest())
            self._files["names.txt"].write(self._open_name.replace("\n", " ").encode("utf-8", "replace") + b"\n")
            self._hash = hashlib.blake2b(digest_size=8)
            self._documents += 1


class _HashedFile:
    """A file being written, with the sha256 and the block CRCs of what went in."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._sha256 = hashlib.sha256()
        self._size = self._crc = 0
        self._crcs: list[int] = []

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        while data:
            room = BLOCK - self._size % BLOCK
            piece, data = data[:room], data[room:]
            self._crc = zlib.crc32(piece, self._crc)
            self._size += len(piece)
            if self._size % BLOCK == 0:
                self._crcs.append(self._crc)
                self._crc = 0

    def close(self) -> dict[str, object]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        crcs = [*self._crcs, self._crc] if self._size % BLOCK else self._crcs
        return {"bytes": self._size, "sha256": self._sha256.hexdigest(), "crc32_per_mib": crcs}

    def abandon(self) -> None:
        with suppress(OSError):  # the disk is full: what is still held cannot be written either
            self._file.close()


def _remove_abandoned(folder: Path) -> None:
    """Temporary folders whose process has died on this machine."""
    for path in folder.glob(f"{_OWN}*"):
        owner = path.name[len(_OWN) :].partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _synchronise(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
