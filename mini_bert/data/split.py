"""Which documents are held out: by a hash of their text, so that copies of a document stay on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.documents import Corpus
from mini_bert.data.readers import Mark
from mini_bert.data.unfinished import Journal
from mini_bert.data.work import Progress, goes_on
from mini_bert.errors import DataError

_CHARACTERS_BETWEEN_CHECKPOINTS = 1 << 26
"""About a second of reading."""


def held_out_documents(hashes: NDArray[np.uint64], fraction: float, corpus: str = "data.corpus") -> NDArray[np.bool_]:
    """Which documents are held out: the round(fraction n) smallest hashes, at least one, and copies of these.

    Raises:
        DataError: fewer than two different documents.
    """
    others = hashes < hashes.max(initial=0)
    if not others.any():
        raise DataError(
            corpus,
            got=f"{min(len(hashes), 1)} different document{'s' * (not len(hashes))}",
            expected="at least two, one to train on and one to hold out",
            advice="Give more text.",
        )
    wanted = min(max(1, round(fraction * len(hashes))), len(hashes))
    last = min(np.partition(hashes, wanted - 1)[wanted - 1], hashes.max(initial=0, where=others))
    return np.asarray(hashes <= last)


class Scan(NamedTuple):
    """What one reading of a corpus tells: a hash of each document, and how much text there is."""

    hashes: NDArray[np.uint64]
    characters: int


@dataclass
class _Scanned:
    """What has been read; plain values, so that it can be kept."""

    characters: int = 0
    open_name: str | None = None
    open_hashes: str = ""
    """Of the parts of the document that has not ended, in hexadecimal."""
    mark: Mark = ()
    finished: bool = False


def scan(corpus: Corpus, progress: Progress, workplace: Path) -> Scan:
    """One reading of a corpus for its documents' hashes, which decide the split before anything is tokenised.

    What has been read is kept in the folder `workplace`; the next call goes on from there.

    Raises:
        DataError: a file cannot be read as text, or holds none.
        StorageError: the folder cannot be written.
    """
    with Journal(workplace, f"scan 1 of {corpus.identity}") as journal:
        scanned = _Scanned(**journal.state)
        if not scanned.finished:
            _read_on(corpus, scanned, journal, progress)
        return Scan(np.frombuffer((journal.files / "hashes.bin").read_bytes(), "<u8"), scanned.characters)


def _read_on(corpus: Corpus, scanned: _Scanned, journal: Journal, progress: Progress) -> None:
    kept = scanned.characters
    what = goes_on(f"reading {corpus.name}", kept)
    progress(what, kept, 0)
    for passage in corpus.passages(tuple(scanned.mark)):
        if scanned.characters - kept >= _CHARACTERS_BETWEEN_CHECKPOINTS:
            journal.checkpoint(asdict(scanned))
            kept = scanned.characters
            progress(what, kept, 0)
        if passage.name != scanned.open_name:
            _end_document(scanned, journal)
            scanned.open_name = passage.name
        scanned.open_hashes += text_hash(passage.paragraphs).hex()
        scanned.characters += sum(map(len, passage.paragraphs))
        scanned.mark = passage.mark
    _end_document(scanned, journal)
    scanned.finished = True
    journal.checkpoint(asdict(scanned))


def _end_document(scanned: _Scanned, journal: Journal) -> None:
    if scanned.open_name is not None:
        journal.append("hashes.bin", document_hash(bytes.fromhex(scanned.open_hashes)))
        scanned.open_name, scanned.open_hashes = None, ""


def text_hash(paragraphs: Iterable[str]) -> bytes:
    """16 bytes that stand for a text."""
    digest = hashlib.blake2b(digest_size=16)
    for paragraph in paragraphs:
        digest.update(paragraph.encode("utf-8", "surrogatepass") + b"\n")
    return digest.digest()


def document_hash(text_hashes: bytes) -> bytes:
    """8 bytes that stand for a document, from the hashes of its parts, one behind the other."""
    return hashlib.blake2b(text_hashes, digest_size=8).digest()
