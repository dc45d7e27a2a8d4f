"""Derived files: keyed by what they are made of, and there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mini_bert.errors import StorageError


def json_sha256(value: object) -> str:
    """sha256, in hexadecimal, of a plain value as JSON; the order of keys makes no difference."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def cache_key(*parts: object, length: int = 32) -> str:
    """The first hexadecimal digits of the sha256 of some plain values."""
    return json_sha256(parts)[:length]


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A text file to write to, which becomes `path` at the end, or disappears if an error comes first.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".tmp-", delete=False, encoding="utf-8", errors="surrogatepass"
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def not_written(
    path: Path, error: OSError, advice: str = "Free some space, or set MINI_BERT_CACHE to another folder."
) -> StorageError:
    """What is raised when a derived file or folder cannot be written."""
    return StorageError(str(path), got=str(error), expected="a folder that can be written", advice=advice)
