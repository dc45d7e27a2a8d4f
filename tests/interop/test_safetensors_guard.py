"""The safetensors guard: what is saved comes back to the bit, and nothing damaged comes back at all."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest

from mini_bert.errors import CheckpointError, InvalidInputError, StorageError
from mini_bert.interop import safetensors_guard


def file_of(header: object, payload: bytes = b"", length: int | None = None) -> bytes:
    """A file made by hand, from the format's description alone."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


ONE = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def test_arrays_come_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(3)
    square = rng.standard_normal((6, 4))
    arrays = {
        "transposed": square.T,
        "strided": square[::2, 1::2],
        "big_endian": square.astype(">f8"),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "halves": square.astype(np.float16),
        "counts": np.arange(5, dtype=np.int32),
        "flags": np.array([True, False]),
    }
    safetensors_guard.save(tmp_path / "a.safetensors", arrays, {"b": [1, 2], "a": None})
    loaded, metadata = safetensors_guard.load(tmp_path / "a.safetensors")
    assert metadata == {"a": None, "b": [1, 2]}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[name], array)


def test_non_contiguous_array_lies_in_the_file_in_its_own_order(tmp_path):
    """Regression test of huggingface/safetensors#825, read back without the library."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    content = safetensors_guard.to_bytes({"x": array})
    assert content[-24:] == struct.pack("<6f", 0, 3, 1, 4, 2, 5)


def test_equal_content_gives_equal_bytes():
    arrays = {"b": np.ones(3, np.float32), "a": np.zeros(2, np.float32)}
    metadata = {f"key {number}": number for number in range(20)}
    first = safetensors_guard.to_bytes(arrays, metadata)
    backwards = safetensors_guard.to_bytes(dict(reversed(arrays.items())), dict(reversed(metadata.items())))
    assert first == backwards


def test_one_text_stands_under_its_own_key():
    content = safetensors_guard.to_bytes({"x": np.zeros(1, np.float32)}, {"format": "pt"})
    assert b'"__metadata__":{"format":"pt"}' in content
    assert safetensors_guard.from_bytes(content, "file")[1] == {"format": "pt"}


def test_half_precision_is_widened_exactly():
    values = [1.0, -2.5, 3.140625, 0.0, float("inf")]
    bfloat16 = b"".join(struct.pack("<f", value)[2:] for value in values)
    float16 = struct.pack("<5e", *values)
    header = {
        "b": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]},
        "h": {"dtype": "F16", "shape": [5], "data_offsets": [10, 20]},
    }
    content = file_of(header, bfloat16 + float16)
    arrays, _ = safetensors_guard.from_bytes(content, "file", widen=True)
    for name in "bh":
        assert arrays[name].dtype == np.float32
        assert arrays[name].tolist() == values
    with pytest.raises(CheckpointError, match="bfloat16"):
        safetensors_guard.from_bytes(content, "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"1234567", "7 bytes"),
        (file_of(ONE, bytes(8), length=2**63), "a header of"),
        (file_of(ONE, bytes(8), length=10_000), "a header of"),
        (file_of(b"{", bytes(8)), "no JSON"),
        (file_of(b"\xff\xfe{}", bytes(8)), "no JSON"),
        (file_of(b"[" * 100_000), "no JSON"),
        (file_of([1]), "no JSON object"),
        (file_of(b'{"x": 1, "x": 2}'), "twice"),
        (file_of({"__metadata__": {"a": 1}}), "metadata"),
        (file_of({"__metadata__": {"mini_bert": "{"}}), "metadata"),
        (file_of({"__metadata__": {"mini_bert": "[]"}}), "metadata"),
        (file_of(ONE, bytes(7)), "7 bytes of tensors"),
        (file_of(ONE, bytes(9)), "9 bytes of tensors"),
        (file_of({"x": {**ONE["x"], "dtype": "F8_E4M3"}}, bytes(8)), "F8_E4M3"),
        (file_of({"x": {**ONE["x"], "dtype": "O"}}, bytes(8)), "dtype 'O'"),
        (file_of({"x": {**ONE["x"], "dtype": []}}, bytes(8)), "dtype"),
        (file_of({"x": {**ONE["x"], "shape": [3]}}, bytes(8)), "8 bytes for F32"),
        (file_of({"x": {**ONE["x"], "shape": [-2]}}, bytes(8)), "whole numbers"),
        (file_of({"x": {**ONE["x"], "shape": [True, 2]}}, bytes(8)), "whole numbers"),
        (file_of({"x": {**ONE["x"], "shape": [2.0]}}, bytes(8)), "whole numbers"),
        (file_of({"x": {**ONE["x"], "shape": [2**62, 2**62]}}, bytes(8)), "whole numbers"),
        (file_of({"x": {**ONE["x"], "data_offsets": [0, 8, 8]}}, bytes(8)), "whole numbers"),
        (file_of({"x": {**ONE["x"], "data_offsets": [8, 16]}}, bytes(16)), "no gap"),
        (file_of({**ONE, "y": {**ONE["x"], "data_offsets": [4, 12]}}, bytes(12)), "no overlap"),
        (file_of({"x": {**ONE["x"], "extra": 1}}, bytes(8)), "entry"),
        (file_of({"x": 7}), "entry"),
    ],
)
def test_a_damaged_file_is_refused(content, message):
    with pytest.raises(CheckpointError, match=message):
        safetensors_guard.from_bytes(content, "model.safetensors")


def test_objects_and_complex_numbers_are_not_saved():
    for array in (np.array([object()]), np.zeros(2, np.complex128), np.array(["text"])):
        with pytest.raises(InvalidInputError, match="dtype"):
            safetensors_guard.to_bytes({"x": array})


def test_missing_file_and_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        safetensors_guard.load(tmp_path / "none.safetensors")
    with pytest.raises(StorageError, match=r"No such file.*MB free"):
        safetensors_guard.save(tmp_path / "no" / "folder.safetensors", {})


def test_what_is_written_is_what_the_library_writes():
    """Every dtype, so that the order of the tensors is the library's; names that JSON escapes; no tensor at all."""
    from safetensors.numpy import save

    codes = ("?", "u1", "i1", "i2", "u2", "f2", "i4", "u4", "f4", "f8", "i8", "u8")
    arrays = {f'{code} é"\\\n\x01\x7f {n}': np.full((3, n), n).astype(code) for n in (2, 0, 1) for code in codes}
    arrays["scalar"] = np.array(2.0, np.float32)
    for metadata in (None, {"format": "pt"}):
        assert b"".join(safetensors_guard.to_parts(arrays, metadata)) == bytes(save(arrays, metadata))
    assert safetensors_guard.to_bytes({}) == bytes(save({}))


def test_parts_are_the_arrays_own_memory():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    _, straight = safetensors_guard.to_parts({"x": array})
    array[1, 2] = 9
    assert bytes(straight) == array.tobytes()


@pytest.mark.parametrize(
    "entries",
    [
        {"\x1b[2J": 7},
        {"\x1b[2J": {**ONE["x"], "dtype": "\x1b[2J"}},
        {"\x1b[2J": {**ONE["x"], "shape": ["\x1b[2J"]}},
        {"\x1b[2J": {**ONE["x"], "shape": [3]}},
        {"\x1b[2J": {**ONE["x"], "data_offsets": [8, 16]}},
        {"\x1b[2J": {**ONE["x"], "dtype": "BF16", "shape": [4]}},
        {"x" * 10**6: 7},
        {"x": {**ONE["x"], "dtype": "F" * 10**6}},
        {"x": {**ONE["x"], "shape": [1] * 10**5}},
        {"__metadata__": {"mini_bert": '{"\x1b": 1, "\x1b": 2}'}},
    ],
)
def test_foreign_names_are_printed_without_control_characters_and_not_endlessly(entries):
    with pytest.raises(CheckpointError) as refused:
        safetensors_guard.from_bytes(file_of(entries, bytes(8)), "model.safetensors")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "endless.safetensors").symlink_to("/dev/zero")
    (tmp_path / "folder.safetensors").mkdir()
    for path in list(tmp_path.iterdir()):
        with pytest.raises(CheckpointError, match=r"a pipe or a device|a folder"):
            safetensors_guard.load(path)
