"""The registry of data sets: where each file comes from, its licence, its sha256, and where it lies on this machine.

A file lies at `data_home()/<data set>/<file>`. One that is there and has the right sha256 is never downloaded; only
downloads write below `data_home()`. What is derived from the files lies below `cache_home()` and can be deleted at any
time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from mini_bert.errors import ChecksumError, DataError, nearest

_BLOCK = 1 << 20


class SourceFile(NamedTuple):
    """One file of a data set: its place below the set's folder, and the bytes it must hold."""

    path: str
    url: str
    sha256: str
    bytes: int


class Source(NamedTuple):
    """A data set. A corpus is text to pre-train on; tasks are sets that a trained model is tried on."""

    name: str
    kind: Literal["corpus", "tasks", "vocabulary"]
    title: str
    licence: str
    files: tuple[SourceFile, ...]
    reader: str | None

    @property
    def bytes(self) -> int:
        """Size of all files, in bytes; 0 for a corpus that is harvested from this machine."""
        return sum(file.bytes for file in self.files)


_HARVESTED = {
    "python-docs": "Documentation of Python's standard library and of the core dependencies, from this machine",
    "python-docs-all": "Documentation of every Python package installed on this machine",
}


@lru_cache(maxsize=1)
def _registry() -> Mapping[str, Source]:
    text = resources.files("mini_bert.data").joinpath("registry.json").read_text(encoding="utf-8")
    sources = {
        name: Source(name, "corpus", title, "each package's own licence", (), name)
        for name, title in _HARVESTED.items()
    }
    for name, entry in json.loads(text).items():
        files = tuple(
            SourceFile(path, entry["base_url"] + upstream, sha256, size)
            for path, upstream, sha256, size in entry["files"]
        )
        sources[name] = Source(name, entry["kind"], entry["title"], entry["licence"], files, entry["reader"])
    return MappingProxyType(sources)


SOURCES: Mapping[str, Source] = _registry()


def data_home() -> Path:
    """`$MINI_BERT_DATA`, or the platform's data folder (`~/.local/share/mini-bert` on Linux)."""
    if chosen := os.environ.get("MINI_BERT_DATA"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("mini-bert", appauthor=False))


def cache_home() -> Path:
    """`$MINI_BERT_CACHE`, or the platform's cache folder (`~/.cache/mini-bert` on Linux)."""
    if chosen := os.environ.get("MINI_BERT_CACHE"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("mini-bert", appauthor=False))


def lookup(name: str) -> Source:
    """The data set of that name.

    Raises:
        DataError: there is none; the message names the nearest.
    """
    if name not in SOURCES:
        raise DataError("data set", got=f"'{name}'", expected="a registered name", advice=nearest(name, SOURCES))
    return SOURCES[name]


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(name: str) -> list[Path]:
    """The files of a data set, in the registry's order; those that are missing are downloaded.

    Raises:
        DataError: no such set, or the network cannot be reached.
        ChecksumError: a file that is there, or that came, holds other bytes than the registry says.
    """
    source = lookup(name)
    return [_present_or_downloaded(source, file) for file in source.files]


def verify(name: str) -> list[Path]:
    """The files of a data set after comparing each one's bytes with the registry; nothing is downloaded.

    Raises:
        DataError: no such set, or a file is missing.
        ChecksumError: a file holds other bytes; names the file, the sha256 it has and the one it should have.
    """
    source = lookup(name)
    paths = []
    for file in source.files:
        path = data_home() / source.name / file.path
        if not path.is_file():
            raise DataError(
                str(path), got="no such file", expected=f"a file of '{name}'", advice=f"mini-bert data fetch {name}"
            )
        _check(path, file)
        paths.append(path)
    return paths


def describe(name: str) -> dict[str, object]:
    """What is known of a data set, as plain values; for each file also whether it is here."""
    source = lookup(name)
    return {
        "name": source.name,
        "kind": source.kind,
        "title": source.title,
        "licence": source.licence,
        "reader": source.reader,
        "bytes": source.bytes,
        "files": [
            {**file._asdict(), "present": (data_home() / source.name / file.path).is_file()} for file in source.files
        ],
    }


def _check(path: Path, file: SourceFile) -> None:
    found = file_sha256(path)
    if found != file.sha256:
        raise ChecksumError(
            str(path),
            got=f"sha256 {found} ({path.stat().st_size} bytes)",
            expected=f"sha256 {file.sha256} ({file.bytes} bytes)",
            advice="Delete the file; it is then fetched again.",
        )


def _present_or_downloaded(source: Source, file: SourceFile) -> Path:
    path = data_home() / source.name / file.path
    if path.is_file():
        _check(path, file)
        return path
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    missing_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=_download,
        )
    except requests.RequestException as error:
        raise DataError(
            f"data set '{source.name}'",
            got=f"{file.path} is not at {path}, and {file.url} cannot be reached ({type(error).__name__})",
            expected="the file, or a network",
            advice=f"Download it elsewhere and put it there, or set MINI_BERT_DATA to a folder that has "
            f"{source.name}/{file.path}"
            + ("; --corpus python-docs needs no download." if source.kind == "corpus" else "."),
        ) from error
    except ValueError as error:
        raise ChecksumError(
            file.url,
            got="a download with another sha256",
            expected=f"sha256 {file.sha256} ({file.bytes} bytes)",
            advice="The upstream file has changed, or something on the way replaced it.",
        ) from error
    except OSError as error:
        raise DataError(str(path), got=str(error), expected="a folder that can be written") from error
    finally:
        with suppress(OSError):  # of a file that did not come, nothing stays; a folder with something in it does
            for folder in missing_folders:
                folder.rmdir()
    return path


def _download(url: str, target: str, _: object) -> None:
    """Bytes of a URL into a file; pooch's own downloader leaves the connection open when something fails."""
    import requests

    with requests.get(url, stream=True, timeout=60) as response, Path(str(target)).open("wb") as file:
        response.raise_for_status()
        for block in response.iter_content(_BLOCK):
            file.write(block)
