"""Safetensors cut off, with flipped bits, or made of chance.

The format has no checksum. A flipped bit of its header is refused, or changes a name, the metadata or the width of an
array without numbers; a flipped bit of a number loads, unless a manifest stands beside the file.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import CheckpointError
from mini_bert.interop import manifest, safetensors_guard

ARRAYS = {
    "bert.weight": np.arange(24, dtype=np.float32).reshape(4, 6),
    "half": np.arange(5, dtype=np.float16),
    "long": np.arange(3, dtype=np.int64),
    "none": np.zeros((0, 3), np.float32),
    "one": np.array(2.5),
}
WHOLE = safetensors_guard.to_bytes(ARRAYS, {"format": "pt"})
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")


def read(content: bytes):
    """The arrays of these bytes; None where an error of ours refused them."""
    try:
        return safetensors_guard.from_bytes(content, "model.safetensors")[0]
    except CheckpointError:
        return None


def flipped(position: int, bit: int) -> bytes:
    return WHOLE[:position] + bytes([WHOLE[position] ^ 1 << bit]) + WHOLE[position + 1 :]


def content(arrays) -> list[tuple[str, tuple[int, ...], bytes]]:
    """What the numbers are; an array without any may be as wide as it likes."""
    return sorted((array.dtype.name, array.shape if array.size else (), array.tobytes()) for array in arrays.values())


def test_cut_off_anywhere():
    assert content(read(WHOLE)) == content(ARRAYS)
    for length in range(len(WHOLE)):
        assert read(WHOLE[:length]) is None, length
    assert read(WHOLE + b"\0") is None


def test_a_flipped_bit_of_the_header_is_refused_or_changes_no_number():
    refused, renamed = 0, 0
    for position in range(HEADER):
        for bit in range(8):
            arrays = read(flipped(position, bit))
            if arrays is None:
                refused += 1
            elif arrays.keys() == ARRAYS.keys():
                assert content(arrays) == content(ARRAYS), (position, bit)
            else:
                renamed += 1
                assert len(arrays.keys() & ARRAYS.keys()) == len(ARRAYS) - 1
                assert content(arrays) == content(ARRAYS)
    assert refused > 6 * HEADER
    assert renamed < HEADER


def test_a_flipped_bit_of_a_number_loads_and_the_manifest_sees_it(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(WHOLE)
    manifest.write(tmp_path, {})
    for position in range(HEADER, len(WHOLE)):
        path.write_bytes(flipped(position, position % 8))
        assert content(safetensors_guard.load(path)[0]) != content(ARRAYS)
        with pytest.raises(CheckpointError, match="other bytes"):
            manifest.verify(tmp_path)


NUMBERS = st.integers(-2, 30) | st.sampled_from([2**31, 2**40, 2**63, 2**64, True, 1.5, "3", None])
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E5M2", "", 3]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)
HEADERS = st.dictionaries(st.sampled_from(["x", "y", "__metadata__", "é", ""]), ENTRY | NUMBERS, max_size=3)


def fuzz(examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(HEADERS.map(lambda header: json.dumps(header).encode()) | st.binary(max_size=60), st.binary(max_size=40))
    def no_other_error(header, payload):
        arrays = read(struct.pack("<Q", len(header)) + header + payload)
        assert arrays is None or sum(array.nbytes for array in arrays.values()) == len(payload)

    no_other_error()


def test_chance():
    fuzz(200)


@pytest.mark.nightly
def test_much_chance():
    fuzz(10_000)
