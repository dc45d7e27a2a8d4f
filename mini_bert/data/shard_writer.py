"""Writing token files so that they are there whole or not at all, and a killed preparation is gone on with.

The files grow in the folder that `unfinished.claimed` gives, with a checkpoint now and then; they are synchronised to
disk and renamed to their place when the last document is in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.atomic_files import sync, write_synced
from mini_bert.data.cache import not_written
from mini_bert.data.readers import Mark
from mini_bert.data.shards import FORMAT, index_digest
from mini_bert.data.split import document_hash
from mini_bert.data.unfinished import Journal, workplace_of

SHARD_TOKENS = 1 << 26
"""A shard is closed at the end of the document in which it reaches this many tokens (128 MiB)."""


@dataclass
class _Written:
    """What has been written; plain values, so that it can be kept."""

    documents: int = 0
    """That have ended: not the one whose parts are still coming."""
    sentences: int = 0
    tokens: int = 0
    largest: int = 0
    shards: int = 0
    in_shard: int = 0
    open_name: str | None = None
    open_hashes: str = ""
    """Of the parts of the document that has not ended, in hexadecimal."""
    mark: Mark = ()
    characters: int = 0


class ShardWriter:
    """Writes documents for `folder` in constant memory; `finish` puts the folder in place.

    `with ShardWriter(folder, workplace) as writer:`, in a workplace that is claimed. It goes on behind the last
    checkpoint of an earlier writer of the same `source`.

    Raises:
        StorageError: the folder cannot be written, or the disk is full; what the last checkpoint had is still there.
    """

    def __init__(
        self, folder: Path, workplace: Path | None = None, *, source: str = "", shard_tokens: int = SHARD_TOKENS
    ) -> None:
        self.folder = folder
        self._shard_tokens = shard_tokens
        kind = f"{FORMAT}, {shard_tokens} a shard, of {source}"
        self._journal = Journal(workplace or workplace_of(folder), kind)
        self._written = _Written(**self._journal.state)
        if not self._journal.state:
            self._journal.append("sentences.bin", b"\0" * 8)
            for name in ("documents.bin", "hashes.bin", "names.txt"):
                self._journal.append(name, b"")

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    @property
    def mark(self) -> Mark:
        """Where reading goes on, as the last checkpoint was told; () at the beginning."""
        return tuple(self._written.mark)

    @property
    def characters(self) -> int:
        """Characters that are behind that mark, as the last checkpoint was told."""
        return self._written.characters

    def add(self, name: str, ids: NDArray[np.uint16], sentence_lengths: NDArray[np.int64], text_hash: bytes) -> None:
        """Append a document, or, if `name` is that of the document before, its next part."""
        written, append = self._written, self._journal.append
        if name != written.open_name:
            self._end_document()
            written.open_name = name
            append("documents.bin", np.int64(written.tokens).tobytes())
            if not written.shards or written.in_shard >= self._shard_tokens:
                written.shards += 1
                written.in_shard = 0
        append(_shard(written.shards - 1), np.ascontiguousarray(ids, "<u2").tobytes())
        append("sentences.bin", (written.tokens + np.cumsum(sentence_lengths, dtype="<i8")).tobytes())
        written.open_hashes += text_hash.hex()
        written.tokens += len(ids)
        written.in_shard += len(ids)
        written.sentences += len(sentence_lengths)
        written.largest = max(written.largest, int(ids.max(initial=0)))

    def checkpoint(self, mark: Mark, characters: int) -> None:
        """Keep what has been added; a later writer goes on with the text behind `mark`."""
        self._written.mark, self._written.characters = mark, characters
        self._journal.checkpoint(asdict(self._written))

    def finish(self, facts: Mapping[str, object]) -> None:
        """Write the index with `facts` in it, synchronise, and rename the folder to its place."""
        self._end_document()
        written, made = self._written, self._journal.files
        self._journal.append("documents.bin", np.int64(written.tokens).tobytes())
        index: dict[str, Any] = {
            **facts,
            "format": FORMAT,
            "counts": {"documents": written.documents, "sentences": written.sentences, "tokens": written.tokens},
            "largest_id": written.largest,
            "shards": [_shard(number) for number in range(written.shards)],
            "files": self._journal.seal(),
        }
        index["sha256"] = index_digest(index)
        write_synced(made / "index.json", json.dumps(index, indent=1, sort_keys=True).encode())
        sync(made)
        try:
            made.rename(self.folder)
        except OSError as error:
            if not (self.folder / "index.json").is_file():  # otherwise another process has made the very same
                raise not_written(self.folder, error) from error
        sync(self.folder.parent)

    def _end_document(self) -> None:
        written = self._written
        if written.open_name is not None:
            self._journal.append("hashes.bin", document_hash(bytes.fromhex(written.open_hashes)))
            name = written.open_name.replace("\n", " ").encode("utf-8", "replace")
            self._journal.append("names.txt", name + b"\n")
            written.open_name, written.open_hashes = None, ""
            written.documents += 1


def _shard(number: int) -> str:
    return f"tokens-{number:05d}.bin"
