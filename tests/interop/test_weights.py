"""The weights of a folder: found in transformers' order; where there are none, what to do."""

from __future__ import annotations

import json
import struct
import tracemalloc

import numpy as np
import pytest

from mini_bert.errors import CheckpointError
from mini_bert.interop import safetensors_guard, weights
from mini_bert.verification.reliability.hostile_files.torch_files import archive, ordered, storage, tensor

NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def torch_file(value: float) -> bytes:
    return archive(ordered({"x": tensor(storage("Float", "0", 1), 0, (1,), (1,))}), {"0": struct.pack("<f", value)})


@pytest.fixture
def full(tmp_path):
    """All four kinds; each says by its number which it is."""
    safetensors_guard.save(tmp_path / NAMES[0], {"x": np.zeros(1, np.float32)})
    safetensors_guard.save(tmp_path / "part.safetensors", {"x": np.ones(1, np.float32)})
    (tmp_path / NAMES[1]).write_text(json.dumps({"weight_map": {"x": "part.safetensors"}}))
    (tmp_path / NAMES[2]).write_bytes(torch_file(2))
    (tmp_path / "part.bin").write_bytes(torch_file(3))
    (tmp_path / NAMES[3]).write_text(json.dumps({"weight_map": {"x": "part.bin"}}))
    return tmp_path


def test_the_order_is_that_of_transformers(full):
    for number, name in enumerate(NAMES):
        arrays, path = weights.load(full)
        assert path == full / name
        assert arrays["x"].tolist() == [number]
        path.unlink()
    with pytest.raises(CheckpointError, match="no other weights") as refused:
        weights.load(full)
    for name in NAMES:
        assert name in str(refused.value)


def test_half_precision_becomes_float32_unless_it_shall_not(tmp_path):
    safetensors_guard.save(tmp_path / NAMES[0], {"x": np.ones(1, np.float16)})
    assert weights.load(tmp_path)[0]["x"].dtype == np.float32
    assert weights.load(tmp_path, widen=False)[0]["x"].dtype == np.float16


@pytest.mark.parametrize(("name", "most"), [(NAMES[0], 3.2), (NAMES[2], 2.4)])
def test_no_more_is_held_than_some_two_files(tmp_path, name, most):
    """Sixteen tensors of float16, 16 MB, which become 32 MB; Python 3.10 frees a safetensors file's bytes late."""
    size = 2**19
    half = {str(number): np.full(size, number, np.float16) for number in range(16)}
    if name == NAMES[0]:
        safetensors_guard.save(tmp_path / name, half)
    else:
        views = {key: tensor(storage("Half", key, size), 0, (size,), (1,)) for key in half}
        (tmp_path / name).write_bytes(archive(ordered(views), {key: array.tobytes() for key, array in half.items()}))
    weights.load(tmp_path)
    tracemalloc.start()
    try:
        arrays, path = weights.load(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(array.nbytes for array in arrays.values()) == 4 * 16 * size
    assert peak < most * path.stat().st_size


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("tf_model.h5", "from_tf=True"),
        ("flax_model.msgpack", "from_flax=True"),
        ("bert_model.ckpt.index", "transformers-cli convert"),
        ("model.ckpt-1000.data-00000-of-00001", "transformers-cli convert"),
        ("bert-base-q4.gguf", "cannot be undone"),
        ("model.onnx", "without the names"),
        ("model.fp16.safetensors", r"rename the file to model\.safetensors"),
        ("weights.bin", r"rename the file to pytorch_model\.bin"),
    ],
)
def test_other_formats_are_named_with_the_way_out(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "training_args.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"{name if name != 'weights.bin' else 'bin'} and no other.*{advice}"):
        weights.load(tmp_path)


def test_an_empty_folder_and_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"got no weights; expected one of model\.safetensors, .*Name a model"):
        weights.load(tmp_path)
    (tmp_path / NAMES[0]).mkdir()
    with pytest.raises(CheckpointError, match="got no weights"):
        weights.load(tmp_path)
    with pytest.raises(CheckpointError, match="got no folder"):
        weights.load(tmp_path / "none")


@pytest.mark.parametrize("name", NAMES)
def test_a_pointer_in_the_place_of_the_file(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        weights.load(tmp_path)
