"""Which documents are held out: by a hash of their text, so that copies of a document stay on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.documents import Corpus
from mini_bert.data.work import Progress
from mini_bert.errors import DataError


def held_out_documents(hashes: NDArray[np.uint64], fraction: float, corpus: str = "data.corpus") -> NDArray[np.bool_]:
    """Which documents are held out: the round(fraction n) smallest hashes, at least one, and copies of these.

    Raises:
        DataError: fewer than two different documents.
    """
    different = np.unique(hashes)
    if len(different) < 2:
        raise DataError(
            corpus,
            got=f"{len(different)} document{'s' * (len(different) != 1)}",
            expected="at least two, one to train on and one to hold out",
            advice="Give more text.",
        )
    wanted = min(max(1, round(fraction * len(hashes))), len(hashes))
    last = min(np.partition(hashes, wanted - 1)[wanted - 1], different[-2])
    return np.asarray(hashes <= last)


class Scan(NamedTuple):
    """What one reading of a corpus tells: a hash of each document, and how much text there is."""

    hashes: NDArray[np.uint64]
    characters: int


def scan(corpus: Corpus, progress: Progress) -> Scan:
    """One reading of a corpus for its documents' hashes, which decide the split before anything is tokenised."""
    hashes: list[bytes] = []
    characters = 0
    name, digest = None, hashlib.blake2b(digest_size=8)
    for passage in corpus.passages():
        if passage.name != name:
            if name is not None:
                hashes.append(digest.digest())
            name, digest = passage.name, hashlib.blake2b(digest_size=8)
            if len(hashes) % 1000 == 0:
                progress(f"reading {corpus.name}", characters, 0)
        digest.update(text_hash(passage.paragraphs))
        characters += sum(map(len, passage.paragraphs))
    if name is not None:
        hashes.append(digest.digest())
    return Scan(np.frombuffer(b"".join(hashes), "<u8"), characters)


def text_hash(paragraphs: Iterable[str]) -> bytes:
    """16 bytes that stand for a text."""
    digest = hashlib.blake2b(digest_size=16)
    for paragraph in paragraphs:
        digest.update(paragraph.encode("utf-8", "surrogatepass") + b"\n")
    return digest.digest()
