"""Files of torch, made by hand: every number of every view right to the bit."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from mini_bert.errors import CheckpointError
from mini_bert.interop import torch_pickle
from mini_bert.verification.reliability.hostile_files.torch_files import (
    FALSE,
    NONE,
    TRUE,
    archive,
    mapping,
    number,
    ordered,
    parameter,
    program,
    sequence,
    storage,
    tensor,
    text,
    zipped,
)

SIX = struct.pack("<6f", 0, 1, 2, 3, 4, 5)
STORAGES = {"zip": storage(), "sequence": storage("Float", "0", 6, NONE)}
FORMS = {"zip": lambda body: archive(body, {"0": SIX}), "sequence": lambda body: sequence(body, {"0": (6, SIX)})}


def read(folder: Path, content: bytes, *, widen: bool = False) -> dict[str, np.ndarray]:
    path = folder / "pytorch_model.bin"
    path.write_bytes(content)
    return torch_pickle.load(path, widen=widen)


@pytest.mark.parametrize("form", FORMS)
def test_views_of_one_storage(tmp_path, form):
    store = STORAGES[form]
    views = {
        "plain": tensor(store),
        "transposed": tensor(store, 0, (3, 2), (1, 3)),
        "column": tensor(store, 1, (2,), (3,)),
        "offset": tensor(store, 2, (2, 2), (2, 1)),
        "expanded": tensor(store, 5, (2, 3), (0, 0)),
        "overlapping": tensor(store, 0, (5, 2), (1, 1)),
        "one_wide": tensor(store, 0, (1, 6), (2**35, 1)),
        "scalar": tensor(store, 4, (), ()),
        "empty": tensor(store, 6, (0, 4), (4, 1)),
        "parameter": parameter(tensor(store)),
        "metadata": tensor(store, 0, (2, 3), (3, 1), mapping({})),
    }
    arrays = read(tmp_path, FORMS[form](ordered(views)))
    expected = {
        "plain": [[0, 1, 2], [3, 4, 5]],
        "transposed": [[0, 3], [1, 4], [2, 5]],
        "column": [1, 4],
        "offset": [[2, 3], [4, 5]],
        "expanded": [[5, 5, 5], [5, 5, 5]],
        "overlapping": [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]],
        "one_wide": [[0, 1, 2, 3, 4, 5]],
        "scalar": 4,
        "empty": [],
        "parameter": [[0, 1, 2], [3, 4, 5]],
        "metadata": [[0, 1, 2], [3, 4, 5]],
    }
    assert list(arrays) == list(views)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.tolist() == expected[name], name
        assert not array.flags.writeable
    assert arrays["empty"].shape == (0, 4)
    assert np.shares_memory(arrays["plain"], arrays["parameter"])


BYTES = bytes(range(1, 49))


@pytest.mark.parametrize(
    ("kind", "letter"),
    [("Double", "d"), ("Float", "f"), ("Half", "e"), ("Long", "q"), ("Int", "i"), ("Short", "h"), ("Char", "b")],
)
@pytest.mark.parametrize("order", ["little", "big", None])
def test_every_dtype_in_both_byte_orders(tmp_path, kind, letter, order):
    size = struct.calcsize(letter)
    body = ordered({"x": tensor(storage(kind, "0", 48 // size), 0, (48 // size,), (1,))})
    others = {} if order is None else {"byteorder": order.encode()}
    array = read(tmp_path, archive(body, {"0": BYTES}, **others))["x"]
    expected = struct.unpack(f"{'>' if order == 'big' else '<'}{48 // size}{letter}", BYTES)
    assert array.dtype.kind == ("f" if letter in "dfe" else "i")
    assert array.dtype.itemsize == size
    assert tuple(array.tolist()) == expected


def test_bytes_and_truth_values(tmp_path):
    body = {
        "bytes": tensor(storage("Byte", "0", 3), 0, (3,), (1,)),
        "flags": tensor(storage("Bool", "1", 2), 0, (2,), (1,)),
    }
    arrays = read(tmp_path, archive(ordered(body), {"0": b"\x00\x80\xff", "1": b"\x01\x00"}))
    assert arrays["bytes"].dtype == np.uint8
    assert arrays["bytes"].tolist() == [0, 128, 255]
    assert arrays["flags"].dtype == np.bool_
    assert arrays["flags"].tolist() == [True, False]


@pytest.mark.parametrize("order", ["little", "big"])
def test_half_precision_is_widened_exactly(tmp_path, order):
    values = [1.0, -2.5, 3.140625, 0.0, float("inf"), -0.0]
    sign = {"little": "<", "big": ">"}[order]
    top = slice(2, 4) if order == "little" else slice(0, 2)
    brain = b"".join(struct.pack(f"{sign}f", value)[top] for value in values)
    half = struct.pack(f"{sign}6e", *values)
    body = ordered({"b": tensor(storage("BFloat16", "0")), "h": tensor(storage("Half", "1"), 1, (2, 2), (1, 3))})
    content = archive(body, {"0": brain, "1": half}, byteorder=order.encode())
    arrays = read(tmp_path, content, widen=True)
    assert [array.dtype for array in arrays.values()] == [np.float32, np.float32]
    assert arrays["b"].tobytes() == struct.pack("=6f", *values)
    assert arrays["h"].tolist() == [[values[1], values[4]], [values[2], values[5]]]
    with pytest.raises(CheckpointError, match="'b' in bfloat16"):
        read(tmp_path, content)
    only_half = archive(ordered({"h": tensor(storage("Half", "1"))}), {"1": half}, byteorder=order.encode())
    assert read(tmp_path, only_half)["h"].dtype == np.float16


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_a_training_scripts_wrapper_is_opened(tmp_path, name):
    optimizer = mapping({"state": b"}" + number(0) + mapping({"exp_avg": tensor()}) + b"s"})
    body = mapping({"epoch": number(3), name: ordered({"x": tensor()}), "optimizer": optimizer, "loss": NONE})
    arrays = read(tmp_path, archive(body, {"0": SIX}))
    assert list(arrays) == ["x"]


def test_two_wrappers_or_deeper_ones_are_not_guessed_about(tmp_path):
    inner = ordered({"x": tensor()})
    for body in (
        mapping({"state_dict": inner, "model": inner}),
        mapping({"nets": mapping({"state_dict": inner})}),
        mapping({"x": tensor(), "model": inner}),
        mapping({"x": tensor(), "more": b"]"}),
    ):
        with pytest.raises(CheckpointError, match=r"Save the weights alone: torch\.save"):
            read(tmp_path, archive(body, {"0": SIX}))


def test_plain_values_and_attributes_beside_tensors_are_left_out(tmp_path):
    plain = {
        "steps": number(10**12),
        "count": number(-1),
        "rate": b"G" + struct.pack(">d", 0.1),
        "note": text("warm"),
        "old_text": b"U\x03abc",
        "on": TRUE,
        "off": FALSE,
        "none": NONE,
    }
    body = ordered({**plain, "x": tensor()})
    body += mapping({"_metadata": ordered({"": mapping({"version": number(1)})})}) + b"b"
    assert list(read(tmp_path, archive(body, {"0": SIX}))) == ["x"]


def test_a_newer_protocol_says_the_same(tmp_path):
    """Protocol 4: frames, short texts, names from the stack, memo by order."""
    short = lambda value: b"\x8c" + bytes([len(value)]) + value.encode() + b"\x94"  # noqa: E731
    named = lambda module, name: short(module) + short(name) + b"\x93\x94"  # noqa: E731
    store = b"(" + short("storage") + named("torch", "FloatStorage") + short("0") + short("cpu") + b"K\x06t\x94Q"
    hooks = named("collections", "OrderedDict") + b")R\x94"
    body = b"}\x94" + short("x") + named("torch._utils", "_rebuild_tensor_v2")
    body += b"(" + store + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89" + hooks + b"tR\x94s"
    body += short("y") + b"h\x04(h\x0bQK\x04))\x89h\x0ftR\x94s."
    content = b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body
    arrays = read(tmp_path, zipped({"a/data.pkl": content, "a/data/0": SIX}))
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["y"] == 4


def test_memo_of_every_width(tmp_path):
    views = [
        ("a", tensor(storage() + b"q\x05")),
        ("b", tensor(b"h\x05r\x00\x00\x00\xf0")),
        ("c", b"Nq\x05"),
        ("d", tensor(b"j\x00\x00\x00\xf0")),
    ]
    arrays = read(tmp_path, archive(ordered(views), {"0": SIX}))
    assert list(arrays) == ["a", "b", "d"]


def test_storages_that_no_tensor_needs_are_not_read(tmp_path):
    content = archive(ordered({"x": tensor()}), {"0": SIX, "1": bytes(8)})
    assert list(read(tmp_path, content)) == ["x"]


def test_an_old_file_may_hold_several_storages_in_any_order(tmp_path):
    first, second = storage("Float", "b", 6, NONE), storage("Long", "a", 1, NONE)
    body = ordered({"x": tensor(first), "y": tensor(second, 0, (), ()), "z": tensor(first, 1, (), ())})
    arrays = read(tmp_path, sequence(body, {"a": (1, struct.pack("<q", -7)), "b": (6, SIX)}))
    assert list(arrays) == ["x", "y", "z"]
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["y"] == -7


def test_what_is_no_file_of_torch(tmp_path):
    for content in (b"", b"\x89HDF\r\n", b"version https://git-lfs", program(number(7)), program(text("x")), b"\x80"):
        with pytest.raises(CheckpointError):
            read(tmp_path, content)
    with pytest.raises(CheckpointError, match=r"begins with '\\x89HDF"):
        read(tmp_path, b"\x89HDF\r\n")
    with pytest.raises(CheckpointError, match="no such file"):
        torch_pickle.load(tmp_path / "none.bin")


def test_a_file_that_the_system_does_not_give(tmp_path, monkeypatch):
    def deny(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", deny)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match="Permission denied"):
        torch_pickle.load(tmp_path / "pytorch_model.bin")
