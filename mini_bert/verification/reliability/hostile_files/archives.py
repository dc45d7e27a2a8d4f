"""Zip archives that are more than torch's plain box: name → how the refusal reads, and the bytes."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable

from mini_bert.verification.reliability.hostile_files.pickles import GOOD, SIX, Hostile
from mini_bert.verification.reliability.hostile_files.torch_files import archive, program, zipped

PICKLE = program(GOOD)
ENTRIES = {"archive/data.pkl": PICKLE, "archive/data/0": SIX}
PLAIN = zipped(ENTRIES)
DIRECTORY = PLAIN.index(b"PK\x01\x02")
END = PLAIN.index(b"PK\x05\x06")


def changed(content: bytes, *changes: tuple[int, bytes]) -> bytes:
    """The bytes with others written over them, each at its place."""
    whole = bytearray(content)
    for place, new in changes:
        whole[place : place + len(new)] = new
    return bytes(whole)


def second(field: int) -> tuple[int, int]:
    """Where a field lies in the second entry of the directory (`central`) and in its own header (`local`)."""
    return PLAIN.index(b"PK\x01\x02", DIRECTORY + 1) + field, PLAIN.index(b"PK\x03\x04", 1) + field - 2


def named_by(names: Iterable[str]) -> bytes:
    """A good archive with entries of these names before its own."""
    return zipped([(name, SIX) for name in names] + list(ENTRIES.items()))


def archives() -> dict[str, Hostile]:
    """Compressed, encrypted, escaping, overlapping, endless."""
    flag, length = second(8), struct.pack("<LL", 2**31, 2**31)
    twin = PLAIN.index(b"PK\x01\x02", DIRECTORY + 1)
    doubled = PLAIN[:END] + PLAIN[twin:END] + changed(PLAIN[END:], (8, b"\x03\x00\x03\x00"))
    doubled = changed(doubled, (len(doubled) - 10, struct.pack("<L", END - DIRECTORY + END - twin)))
    many = b"".join(
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, *[0] * 8, 6, *[0] * 6) + b"%06x" % place
        for place in range(50_000)
    )
    places = {
        "../escape": "..",
        "/etc/canary": "absolute",
        "archive/..\\b": "backslash",
        "C:/x": "drive",
        "a//b": "gap",
        "archive/\x1b[2J": "escape codes",
    }
    files = {
        f"a place outside: {kind}": Hostile("no place within the archive's folder", named_by([name]))
        for name, kind in places.items()
    }
    return files | {
        "a bomb": Hostile(
            "compressed", zipped({**ENTRIES, "archive/data/0": bytes(10**7)}, compress_type=zipfile.ZIP_DEFLATED)
        ),
        "said to be compressed": Hostile("compressed", changed(PLAIN, (second(10)[0], b"\x08"))),
        "bzip2": Hostile("compressed", zipped(ENTRIES, compress_type=zipfile.ZIP_BZIP2)),
        "sizes of 2 GB": Hostile("of 2147483648 bytes in a file of", changed(PLAIN, (second(20)[0], length))),
        "a size unlike the other": Hostile("compressed", changed(PLAIN, (second(24)[0], length[:4]))),
        "encrypted": Hostile("encrypted", changed(PLAIN, (flag[0], b"\x01"), (flag[1], b"\x01"))),
        "strongly encrypted": Hostile("encrypted", changed(PLAIN, (flag[0], b"\x41"))),
        "a link": Hostile("as a link", zipped(ENTRIES, external_attr=0o120777 << 16)),
        "an entry over another": Hostile("over another", doubled),
        "a name that hides another": Hostile("second name", changed(PLAIN, (twin + 46 + 12, b"\0"))),
        "a name unlike the entry's own": Hostile("damaged", changed(PLAIN, (twin + 46 + 8, b"DATA"))),
        "two folders": Hostile("one folder", zipped({**ENTRIES, "other/data/1": SIX})),
        "one name twice in the archive": Hostile(
            "twice", zipped({**ENTRIES, "archive/data/1": bytes(24)}).replace(b"data/1", b"data/0")
        ),
        "no folder": Hostile("no place within", zipped({"data.pkl": PICKLE})),
        "no pickle": Hostile("no entry 'data.pkl'", zipped({"archive/data/0": SIX})),
        "no entries, but the beginning of one": Hostile(
            "no entry 'data.pkl'", b"PK\x03\x04" + zipped({})[:16] + b"\x04" + bytes(5)
        ),
        "no end": Hostile("without its end", PLAIN[:END]),
        "a comment": Hostile("without its end", changed(PLAIN, (len(PLAIN) - 2, b"\x05\x00")) + b"hello"),
        "a comment that is not there": Hostile("without its end", changed(PLAIN, (len(PLAIN) - 2, b"\x05"))),
        "something before it": Hostile("without its end", b"PK\x03\x04" + PLAIN),
        "something behind it": Hostile("without its end", PLAIN + bytes(4)),
        "a directory of 50 000 entries": Hostile(
            "without its end",
            b"PK\x03\x04" + many + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50_000, 50_000, len(many), 4, 0),
        ),
        "a checksum of other bytes": Hostile("Bad CRC-32", changed(PLAIN, (PLAIN.index(SIX) + 4, b"\x01"))),
        "a changed pickle": Hostile("Bad CRC-32", PLAIN.replace(b"Float", b"Floor", 1)),
        "a third byte order": Hostile("byte order 'middle'", archive(GOOD, {"0": SIX}, byteorder=b"middle")),
        "a byte order without end": Hostile("byte order 'endless'", archive(GOOD, {"0": SIX}, byteorder=bytes(10**6))),
        "a TorchScript archive": Hostile("a program", archive(GOOD, {"0": SIX}, **{"constants.pkl": b"\x80\x02)."})),
    }
