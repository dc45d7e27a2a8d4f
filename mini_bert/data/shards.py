"""Token files on disk: what a corpus is, once tokenised. Written once by `shard_writer`, verified whole when opened.

A folder holds `tokens-00000.bin` … (uint16, little-endian, one document behind the other, cut between documents),
`documents.bin` and `sentences.bin` (int64 offsets into all tokens, one more than there are documents or sentences),
`hashes.bin` (uint64, a hash of each document's text, by which held-out documents are chosen), `names.txt` (a line a
document) and `index.json`: counts, the tokenizer's fingerprint, the sources' hashes, and for every file its size, its
sha256 and a CRC of each MiB, which tells where damage lies. The index carries a sha256 of itself.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mini_bert.config.wording import shown
from mini_bert.data.cache import json_sha256
from mini_bert.data.unfinished import BLOCK
from mini_bert.errors import ChecksumError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file

FORMAT = "mini-bert token shards 1"

ARRAYS = {"documents.bin": "<i8", "sentences.bin": "<i8", "hashes.bin": "<u8"}


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
            _array(folder / name, kind) for name, kind in ARRAYS.items()
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
            raise _damaged(self.folder / "index.json", f"files with {found}", f"the index's {counts!r:.200}")


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        index = parse_json(read_regular_file(path, LARGEST_JSON))
        claimed = index.pop("sha256")
        found = index_digest(index)
        known = index["format"]
    except OSError as error:
        raise _damaged(path, str(error), "a readable index") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"no index ({type(error).__name__}: {error})", "JSON with a sha256 of itself") from error
    if found != claimed:
        raise _damaged(path, f"sha256 {found} of its own contents", f"sha256 {shown(claimed)}")
    if known != FORMAT:
        raise _damaged(path, f"format {shown(known)}", f"format '{FORMAT}'")
    if (wrong := _misshapen(index)) is not None:
        raise _damaged(path, f"a wrong field {shown(wrong)}", "an index as the writer makes it")
    return dict(index, sha256=claimed)


def _misshapen(index: Mapping[str, Any]) -> str | None:
    """The first field that is not of the kind that the rest of this file relies on."""
    shards, files, counts = index.get("shards"), index.get("files"), index.get("counts")
    if not isinstance(shards, list) or shards != [f"tokens-{number:05d}.bin" for number in range(len(shards))]:
        return "shards"
    sizes = {name: np.dtype(kind).itemsize for name, kind in ARRAYS.items()}
    sizes |= {"names.txt": 1} | dict.fromkeys(shards, 2)
    if not isinstance(files, dict) or set(files) != set(sizes):
        return "files"
    for name, file in files.items():
        if not isinstance(file, dict) or set(file) != {"bytes", "sha256", "crc32_per_mib"}:
            return f"files.{name}"
        size, crcs = file["bytes"], file["crc32_per_mib"]
        if not isinstance(size, int) or size < 0 or size % sizes[name] or not isinstance(crcs, list):
            return f"files.{name}"
        if not isinstance(file["sha256"], str) or not file["sha256"].isalnum():
            return f"files.{name}"
    if not isinstance(counts, dict) or not isinstance(index.get("vocab_size"), int):
        return "counts" if isinstance(index.get("vocab_size"), int) else "vocab_size"
    return None


_Check = Callable[[bytes, int], "tuple[str, str] | None"]
"""Looks at a block of a file and its offset, and says what was got and expected if it is wrong."""


def _verify(path: Path, expected: Mapping[str, Any], check: _Check | None) -> None:
    """Compare size and sha256, and let `check` see each block, in one pass and constant memory."""
    digest = hashlib.sha256()
    wrong = None
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise _damaged(path, "no plain file", "a readable file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected["bytes"]:
                raise _damaged(path, f"{size} bytes: it ends at byte {size}", f"{expected['bytes']} bytes")
            offset = 0
            while block := file.read(BLOCK):
                digest.update(block)
                wrong = wrong or (check and check(block, offset))
                offset += len(block)
            if digest.hexdigest() != expected["sha256"]:
                where = _first_altered(file, expected["crc32_per_mib"])
                wanted = f"sha256 {expected['sha256']:.64}"
                raise _damaged(path, f"sha256 {digest.hexdigest()}, altered in {where}", wanted)
    except OSError as error:
        raise _damaged(path, str(error), "a readable file") from error
    if wrong:
        raise _damaged(path, *wrong)


def _first_altered(file: BinaryIO, crcs: list[int]) -> str:
    file.seek(0)
    offset = 0
    for crc in crcs:
        block = file.read(BLOCK)
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


def _array(path: Path, kind: str) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, kind)
    return np.memmap(path, dtype=kind, mode="r")


def index_digest(index: Mapping[str, Any]) -> str:
    """sha256 of an index without the field that holds it."""
    return json_sha256(index)


def _damaged(path: Path, got: str, expected: str) -> ChecksumError:
    advice = f"Delete the folder {path.parent}; it is then made again from the text."
    return ChecksumError(str(path), got=got, expected=expected, advice=advice)
