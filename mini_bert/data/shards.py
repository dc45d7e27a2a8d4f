"""Token files on disk: what a corpus is, once tokenised. Written once, verified whole whenever they are opened.

A folder holds `tokens-00000.bin` … (uint16, little-endian, one document behind the other, cut between documents),
`documents.bin` and `sentences.bin` (int64 offsets into all tokens, one more than there are documents or sentences),
`hashes.bin` (uint64, a hash of each document's text, by which held-out documents are chosen), `names.txt` (a line a
document) and `index.json`: counts, the tokenizer's fingerprint, the sources' hashes, and for every file its size, its
sha256 and a CRC of each MiB, which tells where damage lies. The index carries a sha256 of itself.

A folder comes into being under a temporary name, is synchronised to disk, and is renamed: it is there whole or not at
all. When two processes prepare the same corpus at once, the first to finish wins and the other takes its work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import ChecksumError, StorageError

FORMAT = "mini-bert token shards 1"
SHARD_TOKENS = 1 << 26
"""A shard is closed at the end of the document in which it reaches this many tokens (128 MiB)."""

_BLOCK = 1 << 20
_OWN = f".tmp-{socket.gethostname()}-"
_ARRAYS = {"documents.bin": "<i8", "sentences.bin": "<i8", "hashes.bin": "<u8"}


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
            for name in (*_ARRAYS, "names.txt"):
                self._files[name] = _HashedFile(self._temporary / name)
            self._files["sentences.bin"].write(b"\0" * 8)
        except OSError as error:
            raise _storage(folder, error) from error

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
            raise _storage(self.folder, error) from error
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
            index["sha256"] = _index_digest(index)
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
            raise _storage(self.folder, error) from error

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
            room = _BLOCK - self._size % _BLOCK
            piece, data = data[:room], data[room:]
            self._crc = zlib.crc32(piece, self._crc)
            self._size += len(piece)
            if self._size % _BLOCK == 0:
                self._crcs.append(self._crc)
                self._crc = 0

    def close(self) -> dict[str, object]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        crcs = [*self._crcs, self._crc] if self._size % _BLOCK else self._crcs
        return {"bytes": self._size, "sha256": self._sha256.hexdigest(), "crc32_per_mib": crcs}

    def abandon(self) -> None:
        self._file.close()


class TokenStore:
    """An opened token folder; everything in it has been verified.

    Raises:
        ChecksumError: a file is missing, cut short, too long or altered, the index does not fit the files, or a token
            id is not below `vocab_size`; names the file and the offset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = _read_index(folder)
        tokens = sum(self.index["files"][name]["bytes"] for name in self.index["shards"]) // 2
        for name, expected in self.index["files"].items():
            if name in self.index["shards"]:
                check = _below(self.index["vocab_size"])
            else:
                check = _rising(tokens) if name in ("documents.bin", "sentences.bin") else None
            _verify(folder / name, expected, check)
        self.document_offsets, self.sentence_offsets, self.document_hashes = (
            _array(folder / name, kind) for name, kind in _ARRAYS.items()
        )
        self.shards = [_array(folder / name, "<u2") for name in self.index["shards"]]
        self._shard_starts = [0, *np.cumsum([len(shard) for shard in self.shards]).tolist()]
        self._check_consistency()

    @property
    def names(self) -> list[str]:
        """The documents' names."""
        return (self.folder / "names.txt").read_text(encoding="utf-8").split("\n")[:-1]

    def read(self, start: int, stop: int) -> NDArray[np.uint16]:
        """The tokens start..stop-1 of one document, a view of the mapped file."""
        shard = bisect_right(self._shard_starts, start) - 1
        first = self._shard_starts[shard]
        return self.shards[min(shard, len(self.shards) - 1)][start - first : stop - first]

    def _check_consistency(self) -> None:
        counts, tokens = self.index["counts"], self._shard_starts[-1]
        found = {
            "documents": len(self.document_offsets) - 1,
            "sentences": len(self.sentence_offsets) - 1,
            "tokens": tokens,
        }
        if found != counts or len(self.document_hashes) != found["documents"]:
            raise _damaged(self.folder / "index.json", f"files with {found}", f"the index's {counts}")


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        index = json.loads(path.read_bytes())
        claimed = index.pop("sha256")
        found = _index_digest(index)
        known = index["format"]
    except OSError as error:
        raise _damaged(path, str(error), "a readable index") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"no index ({type(error).__name__}: {error})", "JSON with a sha256 of itself") from error
    if found != claimed:
        raise _damaged(path, f"sha256 {found} of its own contents", f"sha256 {claimed}")
    if known != FORMAT:
        raise _damaged(path, f"format '{known}'", f"format '{FORMAT}'")
    return dict(index, sha256=claimed)


_Check = Callable[[bytes, int], "tuple[str, str] | None"]
"""Looks at a block of a file and its offset, and says what was got and expected if it is wrong."""


def _verify(path: Path, expected: Mapping[str, Any], check: _Check | None) -> None:
    """Compare size and sha256, and let `check` see each block, in one pass and constant memory."""
    digest = hashlib.sha256()
    wrong = None
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected["bytes"]:
                raise _damaged(path, f"{size} bytes: it ends at byte {size}", f"{expected['bytes']} bytes")
            offset = 0
            while block := file.read(_BLOCK):
                digest.update(block)
                wrong = wrong or (check and check(block, offset))
                offset += len(block)
            if digest.hexdigest() != expected["sha256"]:
                where = _first_altered(file, expected["crc32_per_mib"])
                raise _damaged(path, f"sha256 {digest.hexdigest()}, altered in {where}", f"sha256 {expected['sha256']}")
    except OSError as error:
        raise _damaged(path, str(error), "a readable file") from error
    if wrong:
        raise _damaged(path, *wrong)


def _first_altered(file: BinaryIO, crcs: list[int]) -> str:
    file.seek(0)
    offset = 0
    for crc in crcs:
        block = file.read(_BLOCK)
        if zlib.crc32(block) != crc:
            return f"bytes {offset}..{offset + len(block) - 1}"
        offset += len(block)
    return "no single block"


def _below(vocab_size: int) -> _Check:
    def check(block: bytes, offset: int) -> tuple[str, str] | None:
        ids = np.frombuffer(block, "<u2")
        if ids.max() < vocab_size:
            return None
        where = int(np.argmax(ids >= vocab_size))
        return f"token id {ids[where]} at byte {offset + 2 * where}", f"ids in 0..{vocab_size - 1}"

    return check


def _rising(last: int) -> _Check:
    before = 0

    def check(block: bytes, offset: int) -> tuple[str, str] | None:
        nonlocal before
        offsets = np.concatenate([[before], np.frombuffer(block, "<i8"), [last]])
        before = int(offsets[-2])
        falls = np.flatnonzero(np.diff(offsets) < 0)
        if not falls.size:
            return None
        return f"offsets that fall at byte {offset + 8 * int(falls[0])}", f"offsets from 0 rising to {last}"

    return check


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


def _array(path: Path, kind: str) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, kind)
    return np.memmap(path, dtype=kind, mode="r")


def _index_digest(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _synchronise(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, got: str, expected: str) -> ChecksumError:
    advice = f"Delete the folder {path.parent}; it is then made again from the text."
    return ChecksumError(str(path), got=got, expected=expected, advice=advice)


def _storage(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        str(folder),
        got=str(error),
        expected="a folder that can be written",
        advice="Free some space, or set MINI_BERT_CACHE to another folder.",
    )
