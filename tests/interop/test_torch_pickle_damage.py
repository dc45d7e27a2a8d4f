"""Files of torch cut off, with flipped bits, or made of chance: the right numbers, or an error of ours."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mini_bert.errors import CheckpointError
from mini_bert.interop import torch_pickle
from mini_bert.verification.reliability.hostile_files.torch_files import (
    NONE,
    archive,
    named,
    number,
    ordered,
    pack,
    parameter,
    program,
    sequence,
    storage,
    tensor,
    text,
)

SIX = struct.pack("<6f", 0.5, 1, 2, 3, 4, 5)
FOUR = struct.pack("<4q", 7, 8, 9, 10)


def state(*more: bytes) -> bytes:
    first, second = storage("Float", "0", 6, *more), storage("Long", "1", 4, *more)
    return ordered(
        {"x": tensor(first), "turned": parameter(tensor(first, 0, (3, 2), (1, 3))), "n": tensor(second, 1, (3,), (1,))}
    )


ZIP = archive(state(), {"0": SIX, "1": FOUR}, byteorder=b"little")
SEQUENCE = sequence(state(NONE), {"0": (6, SIX), "1": (4, FOUR)})
RIGHT = {"x": [[0.5, 1, 2], [3, 4, 5]], "turned": [[0.5, 3], [1, 4], [2, 5]], "n": [8, 9, 10]}


@pytest.fixture
def read(tmp_path):
    path = tmp_path / "pytorch_model.bin"

    def arrays(content: bytes) -> dict[str, np.ndarray] | None:
        """What is read of these bytes; None where an error of ours refused them."""
        path.write_bytes(content)
        try:
            found = torch_pickle.load(path)
        except CheckpointError as error:
            return None if len(str(error)) < 1000 else {}
        for name, array in found.items():
            assert isinstance(name, str)
            array.tolist()
        return found

    return arrays


def numbers(arrays):
    return None if arrays is None else {name: array.tolist() for name, array in arrays.items()}


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


@pytest.mark.parametrize("whole", [ZIP, SEQUENCE], ids=["zip", "sequence"])
def test_cut_off_anywhere(read, whole):
    assert numbers(read(whole)) == RIGHT
    for length in [*range(0, len(whole), 7), *range(len(whole) - 150, len(whole))]:
        assert read(whole[:length]) is None, length
    assert read(whole + b"\0") is None


@pytest.mark.slow
def test_every_flipped_bit_of_an_archive_is_refused_or_harmless(read):
    for position in range(len(ZIP)):
        for bit in range(8):
            assert numbers(read(flipped(ZIP, position, bit))) in (None, RIGHT), (position, bit)


def test_a_flipped_bit_in_every_byte_of_an_archive(read):
    refused = 0
    for position in range(len(ZIP)):
        found = numbers(read(flipped(ZIP, position, position % 8)))
        assert found in (None, RIGHT), position
        refused += found is None
    assert refused > len(ZIP) // 2


@pytest.mark.parametrize("payload", [SIX, FOUR], ids=["floats", "whole numbers"])
def test_every_flipped_bit_of_a_payload_is_caught_by_its_checksum(read, payload):
    begin = ZIP.index(payload)
    for position in range(begin, begin + len(payload)):
        assert read(flipped(ZIP, position, position % 8)) is None


def test_the_older_form_has_no_checksums(read):
    """A flipped bit of a number in it loads; one in its pickles gives an error, or the old numbers."""
    begin = SEQUENCE.index(SIX)
    assert numbers(read(flipped(SEQUENCE, begin + 3, 7)))["x"][0][0] == -0.5
    values = set(struct.unpack("<6f", SIX) + struct.unpack("<4q", FOUR))
    for position in range(begin - 8):
        found = read(flipped(SEQUENCE, position, position % 8))
        for array in (found or {}).values():
            if array.dtype in (np.float32, np.int64):
                assert set(array.ravel().tolist()) <= values, position


EDIT = st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 8))
INSTRUCTION = st.one_of(
    st.sampled_from([bytes([code]) for code in b"().NQRabestu0123}]\x81\x85\x86\x87\x88\x89\x92\x93\x94IJKMLcioq"]),
    st.sampled_from([b"h", b"q", b"K"]).flatmap(
        lambda code: st.integers(0, 5).map(lambda place: code + bytes([place]))
    ),
    st.integers(-(2**40), 2**40).map(number),
    st.sampled_from(["storage", "0", "cpu", "x", "os", "system", "state_dict"]).map(text),
    st.sampled_from(
        [
            ("collections", "OrderedDict"),
            ("torch", "FloatStorage"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("os", "system"),
        ]
    ).map(lambda names: named(*names)),
    st.just(storage()),
    st.just(tensor()),
    st.tuples(st.integers(-1, 7), *[st.lists(st.integers(-1, 7), max_size=3)] * 2).map(
        lambda view: tensor(storage(), *view)
    ),
    st.lists(st.integers(0, 9), max_size=3).map(lambda items: pack(*map(number, items))),
)


def edited(whole: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    for place, new, dropped in edits:
        begin = int(place * len(whole))
        whole = whole[:begin] + new + whole[begin + dropped :]
    return whole


FORMS = {
    "edited archives": (st.lists(EDIT, min_size=1, max_size=4), lambda edits: edited(ZIP, edits)),
    "edited sequences": (st.lists(EDIT, min_size=1, max_size=4), lambda edits: edited(SEQUENCE, edits)),
    "edited pickles": (
        st.lists(EDIT, min_size=1, max_size=4),
        lambda edits: archive(edited(state(), edits), {"0": SIX, "1": FOUR}),
    ),
    "made up pickles": (st.lists(INSTRUCTION, max_size=40), lambda parts: archive(b"".join(parts), {"0": SIX})),
    "made up state dicts": (
        st.lists(INSTRUCTION, max_size=10),
        lambda parts: archive(b"}" + text("x") + b"".join(parts) + b"s", {"0": SIX}),
    ),
    "made up sequences": (st.lists(INSTRUCTION, max_size=40), lambda parts: sequence(b"".join(parts), {"0": (6, SIX)})),
    "chance": (st.binary(max_size=200), lambda content: content),
    "chance after a beginning": (st.binary(max_size=200), lambda content: b"PK\x03\x04" + content),
    "chance as a pickle": (st.binary(max_size=200), program),
}


def fuzz(read, form: str, examples: int) -> None:
    strategy, build = FORMS[form]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def no_other_error(made):
        read(build(made))

    no_other_error()


@pytest.mark.parametrize("form", FORMS)
def test_chance(read, form):
    fuzz(read, form, 100)


@pytest.mark.nightly
@pytest.mark.parametrize("form", FORMS)
def test_much_chance(read, form):
    fuzz(read, form, 10_000)
