"""Shards: every tensor once, where the index says; an index that promises anything else is refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import CheckpointError
from mini_bert.interop import safetensors_guard, sharded
from mini_bert.verification.reliability.hostile_files.torch_files import archive, ordered, storage, tensor

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
ARRAYS = {"a": np.arange(3.0), "b": np.arange(4, dtype=np.float16), "c": np.ones((2, 2), np.float32)}
PLACES = {"a": ONE, "b": TWO, "c": ONE}


def torch_file(**tensors: list[float]) -> bytes:
    described = {
        name: tensor(storage("Float", name, len(values)), 0, (len(values),), (1,)) for name, values in tensors.items()
    }
    return archive(ordered(described), {name: struct.pack(f"<{len(v)}f", *v) for name, v in tensors.items()})


@pytest.fixture
def folder(tmp_path):
    safetensors_guard.save(tmp_path / ONE, {"c": ARRAYS["c"], "a": ARRAYS["a"]})
    safetensors_guard.save(tmp_path / TWO, {"b": ARRAYS["b"]})
    write_index(tmp_path, PLACES)
    return tmp_path


def write_index(folder, places: object, name: str = INDEX) -> None:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": places}))


def test_all_tensors_in_the_order_of_the_index(folder):
    arrays = sharded.load(folder / INDEX)
    assert list(arrays) == list(PLACES)
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])
    assert sharded.load(folder / INDEX, widen=True)["b"].dtype == np.float32


def test_shards_of_torch(tmp_path):
    (tmp_path / "one.bin").write_bytes(torch_file(a=[1, 2], b=[3]))
    (tmp_path / "two.bin").write_bytes(torch_file(c=[4]))
    index = tmp_path / "pytorch_model.bin.index.json"
    write_index(tmp_path, {"c": "two.bin", "a": "one.bin", "b": "one.bin"}, index.name)
    assert {name: array.tolist() for name, array in sharded.load(index).items()} == {"c": [4], "a": [1, 2], "b": [3]}
    (tmp_path / "three.safetensors").write_bytes(safetensors_guard.to_bytes({"c": np.ones(1)}))
    write_index(tmp_path, {"c": "three.safetensors", "a": "one.bin", "b": "one.bin"}, index.name)
    with pytest.raises(CheckpointError, match=r"plain name of a \.bin file"):
        sharded.load(index)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({**PLACES, "d": TWO}, "00002.*no tensor 'd'"),
        ({**PLACES, "a": TWO}, "00002.*no tensor 'a'"),
        ({"a": ONE, "c": ONE}, None),
        ({"a": ONE, "b": TWO}, "tensor 'c'; expected only"),
        ({**PLACES, "d": "model-00003-of-00003.safetensors"}, r"no file model-00003.*Fetch the shard"),
        ({**PLACES, "d": f"../{ONE}"}, "plain name"),
        ({**PLACES, "d": f"./{ONE}"}, "plain name"),
        ({**PLACES, "d": f"/tmp/{ONE}"}, "plain name"),
        ({**PLACES, "d": f"sub/{ONE}"}, "plain name"),
        ({**PLACES, "d": f"..\\{ONE}"}, "plain name"),
        ({**PLACES, "d": f"C:{ONE}"}, "plain name"),
        ({**PLACES, "d": "..safetensors"}, "plain name"),
        ({**PLACES, "d": "a\0.safetensors"}, "plain name"),
        ({**PLACES, "d": "\ud800.safetensors"}, "half a character"),
        ({**PLACES, "d": "model.safetensors\n"}, "plain name"),
        ({**PLACES, "d": "https://host/model.safetensors"}, "plain name"),
        ({**PLACES, "d": "model.bin"}, "plain name"),
        ({**PLACES, "d": ""}, "plain name"),
        ({**PLACES, "d": [ONE]}, "plain name"),
        ({**PLACES, "d" * 100_000: 7}, "plain name"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ([ONE], "no weight_map"),
        (None, "no weight_map"),
    ],
)
def test_a_map_that_lies_is_refused(folder, places, message):
    write_index(folder, places)
    if message is None:
        assert list(sharded.load(folder / INDEX)) == ["a", "c"]
        return
    with pytest.raises(CheckpointError, match=message) as refused:
        sharded.load(folder / INDEX)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"1" * 100_000, "no JSON|no weight_map"),
        (b"[1]", "no weight_map"),
        (b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "twice"),
        (b" " * (16 * 2**20 + 1), "more than 16,777,216 bytes"),
    ],
)
def test_what_is_no_index_is_refused(folder, content, message):
    (folder / INDEX).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        sharded.load(folder / INDEX)


def test_missing_and_damaged_shards(folder):
    whole = (folder / TWO).read_bytes()
    for content, message in ((whole[:-1], "7 bytes of tensors"), (b"", "0 bytes"), (whole + b"\0", "9 bytes")):
        (folder / TWO).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"00002.*{message}"):
            sharded.load(folder / INDEX)
    (folder / TWO).unlink()
    (folder / TWO).mkdir()
    with pytest.raises(CheckpointError, match="no file"):
        sharded.load(folder / INDEX)
    with pytest.raises(CheckpointError, match="No such file"):
        sharded.load(folder / "none.safetensors.index.json")


def test_two_shards_swapped(folder):
    one, two = (folder / ONE).read_bytes(), (folder / TWO).read_bytes()
    (folder / ONE).write_bytes(two)
    (folder / TWO).write_bytes(one)
    with pytest.raises(CheckpointError, match="no tensor 'a'"):
        sharded.load(folder / INDEX)


def test_a_shard_may_be_a_link_as_in_a_cache(folder):
    (folder / TWO).rename(folder / "blob")
    (folder / TWO).symlink_to("blob")
    assert list(sharded.load(folder / INDEX)) == ["a", "b", "c"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([ONE, TWO]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.one_of(
    VALUES.map(json.dumps),
    st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3).map(lambda places: json.dumps({"weight_map": places})),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([ONE, TWO])).map(lambda p: json.dumps({"weight_map": p})),
    st.text(max_size=40),
)


def fuzz(folder, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(TEXTS)
    def no_other_error(text):
        (folder / INDEX).write_bytes(text.encode(errors="surrogatepass"))
        try:
            arrays = sharded.load(folder / INDEX)
        except CheckpointError:
            return
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, ARRAYS[name])

    no_other_error()


def test_chance(folder):
    fuzz(folder, 150)


@pytest.mark.nightly
def test_much_chance(folder):
    fuzz(folder, 10_000)
