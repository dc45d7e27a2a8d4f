"""Is a safetensors file exactly what it says it is?

The format: 8 bytes N (little-endian), N bytes of JSON `{name: {dtype, shape, data_offsets}, "__metadata__": {…}}`, then
the tensors' bytes. The library reads it; this guard stands around it, and writes the library's own bytes, because the
library

- saves wrong numbers, silently, for an array that is not contiguous (huggingface/safetensors #825),
- writes several metadata keys in random order, so that equal models give unequal files,
- has no checksum (that is the manifest's work, `manifest.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mini_bert.atomic_files import replace_file
from mini_bert.config.wording import shown
from mini_bert.errors import CheckpointError, InvalidInputError
from mini_bert.foreign_files import parse_json, read_regular_file
from mini_bert.interop.precision import from_bfloat16_bits, rounded

Arrays = dict[str, NDArray[Any]]

_METADATA_KEY = "mini_bert"
_LARGEST_HEADER = 16 * 2**20
_LARGEST_DIMENSION = 2**40
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items() if code != "BF16"}
_PLACES = ("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "I8", "U8", "BOOL")
"""The library's order of tensors in a file: wide ones first, so that each lies at a multiple of its size."""
_WRITABLE = frozenset("fiub")


def to_parts(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, object] | None = None, *, dtype: str | None = None
) -> list[memoryview]:
    """The file's bytes in parts: the header, then the memory of each array, not copied where it lies as it is written.

    Equal arrays and metadata give equal bytes, in any process; they are those that the library writes. Metadata that is
    one text stands under its own key (Hugging Face wants `{"format": "pt"}`); anything else goes as sorted JSON under
    the one key `mini_bert`. With `dtype` (float16, bfloat16, float32, float64) the arrays are rounded to it.

    Raises:
        InvalidInputError: an array that is not of plain numbers, or has one that `dtype` cannot hold.
    """
    plain: dict[str, NDArray[Any]] = {}
    codes: dict[str, str] = {}
    for name, array in arrays.items():
        if array.dtype.kind not in _WRITABLE or array.dtype.itemsize > 8:
            raise InvalidInputError(
                name, got=f"an array of dtype {array.dtype}", expected="floats, integers or booleans"
            )
        narrow = array if dtype is None else rounded(array, dtype, name)
        plain[name] = np.ascontiguousarray(narrow, narrow.dtype.newbyteorder("<")).reshape(array.shape)
        codes[name] = "BF16" if dtype == "bfloat16" else _CODES[plain[name].dtype]
    order = sorted(plain, key=lambda name: (_PLACES.index(codes[name]), name.encode()))
    written = _one_key(metadata)
    header: dict[str, Any] = {} if written is None else {"__metadata__": written}
    position = 0
    for name in order:
        end = position + plain[name].nbytes
        header[name] = {"dtype": codes[name], "shape": list(plain[name].shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return [memoryview(head), *(plain[name].reshape(-1).view(np.uint8).data for name in order)]


def to_bytes(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, object] | None = None, *, dtype: str | None = None
) -> bytes:
    """The file's bytes as one; see `to_parts`."""
    return b"".join(to_parts(arrays, metadata, dtype=dtype))


def save(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, object] | None = None) -> None:
    """Write arrays to a safetensors file, atomically.

    Raises:
        InvalidInputError: an array that is not of plain numbers.
        StorageError: the file could not be written.
    """
    replace_file(path, to_bytes(arrays, metadata))


def load(path: Path, *, widen: bool = False) -> tuple[Arrays, dict[str, Any]]:
    """Read a safetensors file: name → array, and the metadata.

    With `widen`, float16 and bfloat16 become float32 (which holds each of their values exactly).

    Raises:
        CheckpointError: no such file, or anything in it contradicts anything else.
    """
    try:
        return from_bytes(read_regular_file(path), str(path), widen=widen)
    except OSError as error:
        raise CheckpointError(str(path), got=error.strerror, expected="a readable safetensors file") from error


def from_bytes(content: bytes, name: str, *, widen: bool = False) -> tuple[Arrays, dict[str, Any]]:
    """Read the bytes of a safetensors file; `name` is what errors call it.

    Raises:
        CheckpointError: anything in the bytes contradicts anything else.
    """
    from safetensors import SafetensorError, deserialize

    header = _checked_header(content, name)
    metadata = header.pop("__metadata__", {})
    try:
        tensors: dict[str, Any] = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        _refuse(name, f"bytes that the safetensors library refuses ({shown(str(error))})")
    del content  # no more is held than the library's copy and what is made of it
    arrays = {}
    for key, entry in header.items():
        array: NDArray[Any] = np.frombuffer(tensors.pop(key)["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            if not widen:
                _refuse(name, f"{shown(key)} in bfloat16", "a dtype that NumPy has, or widen=True")
            array = from_bfloat16_bits(array)
        elif widen and array.dtype == np.float16:
            array = array.astype(np.float32)
        arrays[key] = array
    return arrays, _several_keys(metadata, name)


def _refuse(name: str, got: str, expected: str = "a whole, consistent safetensors file") -> NoReturn:
    raise CheckpointError(name, got=got, expected=expected, advice="The file is damaged, or it is no safetensors file.")


def describe(content: bytes | memoryview, name: str, size: int | None = None) -> dict[str, dict[str, Any]]:
    """Name → dtype and shape of every tensor in a safetensors file that begins with `content` and has `size` bytes.

    Raises:
        CheckpointError: anything in the header contradicts anything else.
    """
    header = _checked_header(content, name, size)
    return {
        key: {"dtype": entry["dtype"], "shape": entry["shape"]}
        for key, entry in header.items()
        if key != "__metadata__"
    }


def _checked_header(content: bytes | memoryview, name: str, size: int | None = None) -> dict[str, Any]:
    """The header, once every number in it has been found consistent with every other."""
    size = len(content) if size is None else size
    if len(content) < 8:
        _refuse(name, f"{size} bytes", "at least the 8 bytes of the header's length")
    length = int.from_bytes(content[:8], "little")
    if length > min(_LARGEST_HEADER, len(content) - 8):
        _refuse(name, f"a header of {length} bytes in a file of {size}")
    try:
        header = parse_json(bytes(content[8 : 8 + length]))
    except ValueError as error:
        _refuse(name, f"a header that is no JSON ({error})")
    if not isinstance(header, dict):
        _refuse(name, "a header that is no JSON object")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(name, "metadata that is not text by name")

    spans = sorted(_checked_span(key, entry, name) for key, entry in header.items() if key != "__metadata__")
    position = 0
    for begin, end, key in spans:
        if begin != position:
            _refuse(name, f"tensor {shown(key)} at byte {begin}", f"it at byte {position}: no gap and no overlap")
        position = end
    if position != size - 8 - length:
        _refuse(name, f"{size - 8 - length} bytes of tensors", f"{position} bytes, as the header says")
    return header


def _checked_span(key: str, entry: object, name: str) -> tuple[int, int, str]:
    """Where a tensor begins and ends, once its dtype, shape and length agree."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(name, f"an entry of tensor {shown(key)} that is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        _refuse(name, f"tensor {shown(key)} of dtype {shown(dtype)}", f"one of {', '.join(_DTYPES)}")
    if not _natural_numbers(shape) or not _natural_numbers(offsets) or len(offsets) != 2 or len(shape) > 32:
        _refuse(name, f"tensor {shown(key)} of shape {shown(shape)} at {shown(offsets)}", "lists of whole numbers")
    begin, end = offsets
    if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
        _refuse(name, f"tensor {shown(key)} with {end - begin} bytes for {dtype} of shape {shown(shape)}")
    return begin, end, key


def _natural_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < _LARGEST_DIMENSION for number in value)


def _one_key(metadata: Mapping[str, object] | None) -> dict[str, str] | None:
    if not metadata:
        return None
    if len(metadata) == 1:
        ((key, value),) = metadata.items()
        if isinstance(value, str) and key != _METADATA_KEY:
            return {key: value}
    return {_METADATA_KEY: json.dumps(metadata, sort_keys=True, allow_nan=False)}


def _several_keys(metadata: dict[str, str], name: str) -> dict[str, Any]:
    if set(metadata) != {_METADATA_KEY}:
        return dict(metadata)
    try:
        own = parse_json(metadata[_METADATA_KEY].encode())
    except ValueError as error:
        _refuse(name, f"metadata that is no JSON ({error})")
    if not isinstance(own, dict):
        _refuse(name, "metadata that is no JSON object")
    return own
