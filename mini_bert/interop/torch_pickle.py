"""What tensors lie in a `pytorch_model.bin`, read without torch and without running anything that it says?

Since version 1.6 torch saves a zip archive: `data.pkl`, a pickle that describes tensors as views of storages, and one
entry `data/KEY` for each storage. Before, and still with `_use_new_zipfile_serialization=False`, it saved five pickles
in a row (magic number, protocol, system, state dict, keys of storages), then each storage: its count in 8 bytes, its
numbers. The pickles go through `restricted_pickle`, the archive through `stored_zip`.

The archive has checksums, so that no changed number loads. The older form has none: a changed number in it is only
seen where a manifest or a published sha256 stands beside it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import CheckpointError
from mini_bert.interop.precision import from_bfloat16_bits
from mini_bert.interop.restricted_pickle import LARGEST_PICKLE, Call, Name, read, refuse, shown
from mini_bert.interop.stored_zip import SIGNATURE, StoredZip

Arrays = dict[str, NDArray[Any]]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where a training script's checkpoint keeps the weights."""

_MOST_DIMENSIONS = 32
_LARGEST_DIMENSION = 2**40
_LARGEST_REPETITION = 16 * 2**20
"""Bytes that a tensor with stride 0 may seem to have beyond those of its storage."""

_DTYPES = {
    Name("torch", f"{name}Storage"): np.dtype(dtype).newbyteorder("=")
    for name, dtype in {
        "Double": "f8",
        "Float": "f4",
        "Half": "f2",
        "BFloat16": "u2",
        "Long": "i8",
        "Int": "i4",
        "Short": "i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}
_BFLOAT16 = Name("torch", "BFloat16Storage")


class _Storage(NamedTuple):
    kind: Name
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(path: Path, *, widen: bool = False) -> Arrays:
    """Read a file of `torch.save`: name → array. The arrays are read-only; tensors of one storage share memory.

    With `widen`, float16 and bfloat16 become float32 (which holds each of their values exactly). A state dict may lie
    in a dictionary, under `state_dict`, `model_state_dict` or `model`; plain numbers and texts beside tensors are left
    out.

    Raises:
        CheckpointError: no such file, anything but tensors in it, or anything in it contradicts anything else.
    """
    source = str(path)
    try:
        if not path.is_file():
            raise CheckpointError(source, got="no such file", expected="a file of torch.save")
        with path.open("rb") as file:
            packed = file.read(len(SIGNATURE)) == SIGNATURE
            return (_from_zip if packed else _from_sequence)(file, source, widen)
    except OSError as error:
        raise CheckpointError(source, got=error.strerror or error, expected="a readable file of torch.save") from error


def _from_zip(file: BufferedReader, source: str, widen: bool) -> Arrays:
    archive = StoredZip(file, source)
    if "constants.pkl" in archive:
        refuse(source, "a TorchScript archive, which is a program", "Save model.state_dict() with torch instead.")
    if archive.size("data.pkl") > LARGEST_PICKLE:
        refuse(source, f"a pickle of {archive.size('data.pkl')} bytes")
    order = "little"
    if "byteorder" in archive:
        order = archive.read("byteorder").tobytes().decode("latin-1") if archive.size("byteorder") < 10 else "endless"
        if order not in ("little", "big"):
            refuse(source, f"the byte order {shown(order)}")
    described = _Described(source, of_sequence=False)
    tensors = described.tensors(archive.read("data.pkl").tobytes(), 0)[0]
    for storage in dict.fromkeys(tensor.storage for tensor in tensors.values()):
        stored, size = archive.size(f"data/{storage.key}"), storage.length * _DTYPES[storage.kind].itemsize
        if stored != size:
            refuse(source, f"storage {shown(storage.key)} of {stored} bytes where the pickle says {size}")
    return _arrays(tensors, lambda storage: archive.read(f"data/{storage.key}"), order, source, widen)


def _from_sequence(file: BufferedReader, source: str, widen: bool) -> Arrays:
    file.seek(0)
    head = file.read(LARGEST_PICKLE)
    if head[:1] != b"\x80":
        start = shown(head[:20].decode("latin-1"))
        refuse(source, f"a file that begins with {start}", "torch begins with a zip archive or a pickle.")
    position = 0
    for expected in (_MAGIC, _PROTOCOL, None):
        value, position = read(head, position, source, calls={})
        if expected is not None and (type(value) is not int or value != expected):
            refuse(source, "a pickle that does not begin as a file of torch does")
    described = _Described(source, of_sequence=True)
    tensors, position = described.tensors(head, position)
    keys, position = read(head, position, source, calls={})
    named = type(keys) is list and all(type(key) is str for key in keys)
    if not named or len(keys) != len(described.storages) or set(keys) != described.storages.keys():
        refuse(source, "a list of storages unlike those that the tensors need")

    begins, size = {}, file.seek(0, 2)
    for key in keys:
        storage = described.storages[key]
        file.seek(position)
        if file.read(8) != storage.length.to_bytes(8, "little"):
            refuse(source, f"storage {shown(key)} that does not begin with its count, {storage.length}")
        begins[key] = position + 8
        position = begins[key] + storage.length * _DTYPES[storage.kind].itemsize
    if position != size:
        refuse(source, f"{size} bytes where its storages end at {position}")

    def content(storage: _Storage) -> NDArray[np.uint8]:
        file.seek(begins[storage.key])
        numbers: NDArray[np.uint8] = np.empty(storage.length * _DTYPES[storage.kind].itemsize, np.uint8)
        if file.readinto(numbers.data) != len(numbers):
            refuse(source, f"storage {shown(storage.key)} cut off")
        return numbers

    return _arrays(tensors, content, "little", source, widen)


def _arrays(
    tensors: Mapping[str, _Tensor],
    content: Callable[[_Storage], NDArray[np.uint8]],
    order: str,
    source: str,
    widen: bool,
) -> Arrays:
    """The views, made storage by storage: no more is held than the result and one storage."""
    views: dict[_Storage, list[str]] = {}
    for name, tensor in tensors.items():
        views.setdefault(tensor.storage, []).append(name)
    arrays = {}
    for storage, names in views.items():
        if storage.kind == _BFLOAT16 and not widen:
            raise CheckpointError(
                source, got=f"{shown(names[0])} in bfloat16", expected="a dtype that NumPy has, or widen=True"
            )
        raw = content(storage)
        if _DTYPES[storage.kind] == np.bool_ and raw.max(initial=0) > 1:
            refuse(source, f"{shown(names[0])} with truth values beyond 0 and 1")
        numbers = raw.view(_DTYPES[storage.kind])
        if order != sys.byteorder:
            numbers.byteswap(inplace=True)
        if storage.kind == _BFLOAT16:
            numbers = from_bfloat16_bits(numbers)
        elif widen and numbers.dtype == np.float16:
            numbers = numbers.astype(np.float32)
        numbers.flags.writeable = False
        for name in names:
            arrays[name] = _view(numbers, tensors[name])
    return {name: arrays[name] for name in tensors}


def _view(numbers: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """One tensor of a storage, which `_Described` has found to lie inside it."""
    if 0 in tensor.shape:
        return numbers[:0].reshape(tensor.shape)
    size = numbers.dtype.itemsize
    strides = [size * stride for stride in tensor.strides]
    view: NDArray[Any] = np.ndarray(tensor.shape, numbers.dtype, numbers.data, size * tensor.offset, strides)
    return view


class _Described:
    """What a pickle says of storages and tensors; every number is compared with every other."""

    def __init__(self, source: str, *, of_sequence: bool) -> None:
        self.source = source
        self.of_sequence = of_sequence
        self.storages: dict[str, _Storage] = {}

    def tensors(self, content: bytes, position: int) -> tuple[dict[str, _Tensor], int]:
        """Name → tensor of the state dict that is pickled at `position`, and where the pickle ends."""
        calls: dict[Name, Call] = {
            Name("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            Name("torch._utils", "_rebuild_parameter"): self._parameter,
        }
        root, position = read(
            content, position, self.source, calls=calls, constants=frozenset(_DTYPES), persistent=self._storage
        )
        return self._state_dict(root), position

    def _storage(self, identity: tuple[Any, ...]) -> _Storage:
        """`("storage", kind, key, device, count)`; the older form adds a view, which torch writes as None."""
        if len(identity) != 5 + self.of_sequence or identity[0] != "storage" or identity[5:] not in ((), (None,)):
            refuse(self.source, f"a persistent id of {len(identity)} parts that is no storage of torch")
        _, kind, key, device, count, *_ = identity
        if type(kind) is not Name or kind not in _DTYPES or type(key) is not str or type(device) is not str:
            refuse(self.source, f"a storage that is {shown(kind)} by the name {shown(key)}")
        if not _whole(count):
            refuse(self.source, f"storage {shown(key)} of an impossible size")
        storage = _Storage(kind, key, count)
        if self.storages.setdefault(key, storage) != storage:
            refuse(self.source, f"storage {shown(key)} described in two ways")
        return storage

    def _tensor(self, arguments: tuple[Any, ...]) -> _Tensor:
        """`_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])`."""
        if len(arguments) not in (6, 7) or arguments[5] or any(arguments[6:]) or type(arguments[4]) is not bool:
            refuse(self.source, "a tensor with hooks, or with metadata that would change its numbers")
        storage, offset, shape, strides = arguments[:4]
        if type(storage) is not _Storage or not _whole(offset) or not _wholes(shape) or not _wholes(strides):
            refuse(self.source, "a tensor whose storage, offset, shape or strides are none")
        count = math.prod(shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=False)) if count else 0
        if math.prod(size or 1 for size in shape) >= _LARGEST_DIMENSION:
            refuse(self.source, f"a tensor of shape {shape}")
        if len(shape) != len(strides) or offset > storage.length or (count and last >= storage.length):
            refuse(self.source, f"a tensor of shape {shape} outside its storage {shown(storage.key)}")
        if count > storage.length and count * _DTYPES[storage.kind].itemsize > _LARGEST_REPETITION:
            refuse(self.source, f"a tensor of shape {shape} that repeats {storage.length} numbers")
        return _Tensor(storage, offset, shape, strides)

    def _parameter(self, arguments: tuple[Any, ...]) -> _Tensor:
        """`_rebuild_parameter(tensor, requires_grad, hooks)`."""
        if len(arguments) != 3 or type(arguments[0]) is not _Tensor or type(arguments[1]) is not bool or arguments[2]:
            refuse(self.source, "a parameter that is no tensor, or one with hooks")
        return arguments[0]

    def _state_dict(self, root: object) -> dict[str, _Tensor]:
        inner = root if isinstance(root, dict) else {}
        wrapped = [name for name in _WRAPPERS if _holds_tensors(inner.get(name))]
        if len(wrapped) == 1 and not _holds_tensors(inner):
            inner = inner[wrapped[0]]
        tensors = {}
        for name, value in inner.items():
            if type(value) is _Tensor and type(name) is str:
                tensors[name] = value
            elif value is not None and type(value) not in (bool, int, float, str):
                refuse(self.source, f"{shown(value)} under the name {shown(name)}", _ONLY_WEIGHTS)
        if not tensors:
            refuse(self.source, f"{shown(root)} without a tensor in it", _ONLY_WEIGHTS)
        return tensors


_ONLY_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), 'pytorch_model.bin')."


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(type(entry) is _Tensor for entry in value.values())


def _whole(number: object) -> bool:
    return type(number) is int and 0 <= number < _LARGEST_DIMENSION


def _wholes(numbers: object) -> bool:
    return type(numbers) is tuple and len(numbers) <= _MOST_DIMENSIONS and all(map(_whole, numbers))
