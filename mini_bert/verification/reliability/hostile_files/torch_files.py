"""Files of `torch.save`, put together by hand: a pickle's own instructions, a plain zip, no torch.

Every function gives the bytes that put one value on the pickle's stack.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping

NONE, TRUE, FALSE, EMPTY = pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_TUPLE
MAGIC = 0x1950A86A20F9469CFC6C
DATE = (1980, 1, 1, 0, 0, 0)


def text(value: str) -> bytes:
    """A text."""
    content = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    """A whole number."""
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(content)]) + content


def pack(*items: bytes) -> bytes:
    """A tuple of these values."""
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def named(module: str, name: str) -> bytes:
    """A name to be imported, by GLOBAL."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """A name called with these arguments."""
    return named(module, name) + pack(*arguments) + pickle.REDUCE


def mapping(pairs: Mapping[str, bytes] | Iterable[tuple[str, bytes]], start: bytes = pickle.EMPTY_DICT) -> bytes:
    """A dictionary with texts as keys."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return start + pickle.MARK + b"".join(text(name) + value for name, value in items) + pickle.SETITEMS


def ordered(pairs: Mapping[str, bytes] | Iterable[tuple[str, bytes]] = ()) -> bytes:
    """An `OrderedDict`, as torch makes one."""
    return mapping(pairs, named("collections", "OrderedDict") + EMPTY + pickle.REDUCE)


def storage(kind: str = "Float", key: str = "0", length: int = 6, *more: bytes) -> bytes:
    """A storage of torch, by its persistent id."""
    return persistent(text("storage"), named("torch", f"{kind}Storage"), text(key), text("cpu"), number(length), *more)


def persistent(*parts: bytes) -> bytes:
    """What a persistent id of these parts stands for."""
    return pack(*parts) + pickle.BINPERSID


def tensor(
    store: bytes | None = None,
    offset: int = 0,
    shape: Iterable[int] = (2, 3),
    strides: Iterable[int] = (3, 1),
    *more: bytes,
    hooks: bytes | None = None,
) -> bytes:
    """A tensor as a view of a storage."""
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage() if store is None else store,
        number(offset),
        pack(*map(number, shape)),
        pack(*map(number, strides)),
        FALSE,
        ordered() if hooks is None else hooks,
        *more,
    )


def parameter(inner: bytes) -> bytes:
    """A `torch.nn.Parameter` of a tensor."""
    return call("torch._utils", "_rebuild_parameter", inner, TRUE, ordered())


def program(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle of one value."""
    return pickle.PROTO + bytes([protocol]) + body + pickle.STOP


def zipped(entries: Mapping[str, bytes] | Iterable[tuple[str, bytes]], **settings: int) -> bytes:
    """A zip archive of entries as they are; `settings` are fields of every entry's `ZipInfo`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items() if isinstance(entries, Mapping) else entries:
            info = zipfile.ZipInfo(name, DATE)
            for field, value in settings.items():
                setattr(info, field, value)
            archive.writestr(info, content)
    return buffer.getvalue()


def archive(body: bytes, storages: Mapping[str, bytes], **others: bytes) -> bytes:
    """The form that torch has written since 1.6."""
    others = {"version": b"3\n", **others}
    entries = {"archive/data.pkl": program(body), **{f"archive/{name}": content for name, content in others.items()}}
    return zipped({**entries, **{f"archive/data/{key}": content for key, content in storages.items()}})


def sequence(body: bytes, storages: Mapping[str, tuple[int, bytes]], keys: Iterable[str] | None = None) -> bytes:
    """The form that torch wrote before: key → count of numbers and their bytes."""
    system = mapping({"protocol_version": number(1001), "little_endian": TRUE, "type_sizes": mapping({})})
    listed = pickle.EMPTY_LIST + pickle.MARK + b"".join(map(text, storages if keys is None else keys)) + pickle.APPENDS
    head = b"".join(map(program, (number(MAGIC), number(1001), system, body, listed)))
    return head + b"".join(struct.pack("<q", length) + content for length, content in storages.values())
