"""Is a zip archive the plain box that torch packs, and nothing that a zip archive could also be?

torch stores every entry as it is, under one folder, with a checksum. What is compressed, encrypted, a link, named
twice, named to escape, overlapping, or larger than the file is refused before any of it is read.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from struct import Struct
from struct import error as StructError
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import CheckpointError

SIGNATURE = b"PK\x03\x04"

_LARGEST_DIRECTORY = 2 * 2**20
_LONGEST_MESSAGE = 200
_CHUNK = 2**20
_END = Struct("<4s4H2LH")
_LOCATOR = Struct("<4sLQL")
_END64 = Struct("<4sQ2H2L4Q")
_LOCAL_HEADER = 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DAMAGES = (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, IndexError, OverflowError, zlib.error, StructError)


class StoredZip:
    """The entries of one archive by their names within its one folder.

    Raises:
        CheckpointError: the archive is damaged, or more than a plain box.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._source = source
        file.seek(0, 2)
        size = file.tell()
        directory = self._checked_end(file, size)
        try:
            self._archive = zipfile.ZipFile(file)
        except _DAMAGES as error:
            self._refuse(f"a damaged archive ({error})", error)
        self._entries: dict[str, zipfile.ZipInfo] = {}
        box, end = self._archive.infolist()[:1], 0
        for entry in sorted(self._archive.infolist(), key=lambda entry: entry.header_offset):
            self._check(entry)
            if entry.header_offset < end:
                self._refuse(f"entry {entry.filename!r} over another one")
            end = entry.header_offset + _LOCAL_HEADER + len(entry.filename) + entry.file_size
            if end > directory:
                self._refuse(f"entry {entry.filename!r} of {entry.file_size} bytes in a file of {size}")
            folder, _, name = entry.filename.partition("/")
            if folder != box[0].filename.partition("/")[0] or name in self._entries:
                self._refuse(f"entry {entry.filename!r} twice, or beside the archive's one folder")
            self._entries[name] = entry

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """Bytes of an entry.

        Raises:
            CheckpointError: there is no such entry.
        """
        if name not in self._entries:
            self._refuse(f"no entry {name!r}")
        return self._entries[name].file_size

    def read(self, name: str) -> NDArray[np.uint8]:
        """The bytes of an entry, compared with its checksum.

        Raises:
            CheckpointError: there is no such entry, or its bytes are not those that were written.
        """
        content: NDArray[np.uint8] = np.empty(self.size(name), np.uint8)
        view = content.data
        try:
            with self._archive.open(self._entries[name]) as handle:
                position = 0
                while position < len(view):
                    chunk = handle.read(min(_CHUNK, len(view) - position))
                    if not chunk:
                        self._refuse(f"entry {name!r} that ends early")
                    view[position : position + len(chunk)] = chunk
                    position += len(chunk)
        except _DAMAGES as error:
            self._refuse(f"entry {name!r} damaged ({error})", error)
        return content

    def _checked_end(self, file: BinaryIO, size: int) -> int:
        """Where the directory of entries begins, once it is known to be small and to lie just before the end record."""
        tail_size = min(size, _END64.size + _LOCATOR.size + _END.size)
        file.seek(size - tail_size)
        tail = file.read(tail_size)
        last = tail[-_END.size :]
        if last[:4] == b"PK\x05\x06" and len(last) == _END.size:
            *_, length, begin, comment = _END.unpack(last)
            end, fits = size - _END.size, comment == 0
            if tail[-_END.size - _LOCATOR.size :][:4] == b"PK\x06\x07" and tail[:4] == b"PK\x06\x06":
                *_, length, begin = _END64.unpack(tail[: _END64.size])
                end = size - tail_size
                fits = fits and _LOCATOR.unpack(tail[_END64.size : -_END.size])[2] == end
        else:
            length, begin, end, fits = 0, 0, 0, False
        if not fits or length > _LARGEST_DIRECTORY or begin + length != end:
            self._refuse("a zip archive without its end, or with a directory that does not fit")
        return int(begin)

    def _check(self, entry: zipfile.ZipInfo) -> None:
        parts = entry.filename.split("/")
        odd = "\\" in entry.filename or ":" in entry.filename or not entry.filename.isprintable()
        if odd or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            self._refuse(f"entry {entry.filename!r}, which is no place within the archive's folder")
        if entry.orig_filename != entry.filename or entry.flag_bits & _ENCRYPTED:
            self._refuse(f"entry {entry.filename!r} encrypted, or under a second name")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            self._refuse(f"entry {entry.filename!r} compressed; torch stores as it is")
        if stat.S_ISLNK(entry.external_attr >> 16):
            self._refuse(f"entry {entry.filename!r} as a link")

    def _refuse(self, got: str, cause: BaseException | None = None) -> NoReturn:
        raise CheckpointError(
            self._source,
            got=got if len(got) <= _LONGEST_MESSAGE else f"{got[:_LONGEST_MESSAGE]}…",
            expected="a whole archive, as torch.save writes it",
            advice="The file is damaged or of another make: fetch it again, or save it with torch, with checksums.",
        ) from cause
