"""Files that torch itself writes, against what torch itself reads: right to the bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mini_bert.errors import CheckpointError
from mini_bert.interop import torch_pickle, weights

pytestmark = pytest.mark.reference
FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "sequence"])


def values(torch):
    """Every dtype, every way to lie in a storage."""
    generator = torch.Generator().manual_seed(5)
    square = torch.randn(6, 4, generator=generator)
    state = {
        str(dtype).removeprefix("torch."): square.to(dtype)
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    }
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        state[str(dtype).removeprefix("torch.")] = torch.arange(-3, 4).to(dtype)
    state |= {
        "bool": square > 0,
        "parameter": torch.nn.Parameter(square.clone()),
        "frozen": torch.nn.Parameter(square.clone(), requires_grad=False),
        "shared": square,
        "transposed": square.T,
        "transposed_parameter": torch.nn.Parameter(square.T),
        "slice": square[1::2, ::3],
        "row": square[2],
        "expanded": torch.tensor([[1.5], [2.5]]).expand(2, 5),
        "permuted": torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1),
        "empty": torch.zeros(0, 3),
        "empty_slice": square[:, 4:],
        "scalar": torch.tensor(2.5),
        "scalar_of_many": square[5, 3],
        "half_transposed": square.to(torch.float16).T,
        "brain_slice": square.to(torch.bfloat16)[1:, 2],
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45, 3.4e38]),
        "special_brain": torch.tensor([float("nan"), -float("inf"), -0.0, 1e-40]).to(torch.bfloat16),
        "special_half": torch.tensor([float("nan"), -float("inf"), -0.0, 6e-8, 65504]).to(torch.float16),
    }
    return state


def agrees(array: np.ndarray, tensor, torch) -> None:
    """The same dtype, shape and bits; NaN may differ in its sign and payload where it was widened."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.to(torch.float32)
    expected = tensor.contiguous().numpy()
    assert array.dtype == expected.dtype
    assert array.shape == tuple(tensor.shape)
    assert np.where(expected == expected, array, 0).tobytes() == np.where(expected == expected, expected, 0).tobytes()
    assert ((array == array) == (expected == expected)).all()


@FORMS
def test_what_torch_saves(tmp_path, zipped):
    import torch

    state = values(torch)
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    arrays = torch_pickle.load(path, widen=True)
    back = torch.load(path, weights_only=True)
    assert list(arrays) == list(state) == list(back)
    for name, array in arrays.items():
        agrees(array, state[name], torch)
        agrees(array, back[name], torch)
    assert np.shares_memory(arrays["shared"], arrays["slice"])


@FORMS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, zipped, protocol):
    import torch

    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict()
    path = tmp_path / "model.bin"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    arrays = torch_pickle.load(path)
    assert list(arrays) == list(state)
    for name, array in arrays.items():
        agrees(array, state[name], torch)


def test_float16_keeps_its_bits_unless_widened(tmp_path):
    import torch

    half = torch.randn(300, 2).to(torch.float16)
    torch.save({"x": half}, tmp_path / "model.bin")
    assert torch_pickle.load(tmp_path / "model.bin")["x"].tobytes() == half.numpy().tobytes()
    torch.save({"x": half.to(torch.bfloat16)}, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="bfloat16"):
        torch_pickle.load(tmp_path / "model.bin")


@FORMS
def test_a_training_checkpoint(tmp_path, zipped):
    import torch

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": 0.5}
    torch.save(checkpoint, tmp_path / "model.bin", _use_new_zipfile_serialization=zipped)
    arrays = torch_pickle.load(tmp_path / "model.bin")
    assert list(arrays) == ["weight", "bias"]
    agrees(arrays["weight"], model.weight, torch)


@FORMS
@pytest.mark.parametrize(
    "kind", ["module", "complex", "quantised", "sparse", "uint16", "storage", "set", "numpy", "size"]
)
def test_what_is_no_state_dict_of_plain_tensors_is_refused_by_name(tmp_path, zipped, kind, recwarn):
    import torch

    model = torch.nn.Linear(3, 2)
    odd, refusal = {
        "module": (model, "Linear'"),
        "complex": (torch.zeros(2, dtype=torch.complex64), "ComplexFloatStorage'"),
        "quantised": (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "qtensor'|QInt8Storage'"),
        "sparse": (torch.eye(3).to_sparse(), "sparse_tensor'"),
        "uint16": (torch.zeros(2, dtype=torch.uint16), "_rebuild_tensor_v3'"),
        "storage": (torch.zeros(2).untyped_storage(), "UntypedStorage'"),
        "set": ({1, 2}, "set'"),
        "numpy": (np.zeros(2), "numpy"),
        "size": (torch.Size([1]), "torch.Size'"),
    }[kind]
    path = tmp_path / "model.bin"
    torch.save(
        odd if kind == "module" else {"x": model.weight, "odd": odd}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(CheckpointError, match=f"asks for.*{refusal}"):
        torch_pickle.load(path)


def test_a_file_without_checksums_says_so(tmp_path):
    import torch

    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(3)}, tmp_path / "model.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    with pytest.raises(CheckpointError, match="with checksums"):
        torch_pickle.load(tmp_path / "model.bin")


def test_byte_orders_against_torch(tmp_path):
    """A big-endian machine's file, made by hand, as torch reads it here."""
    import torch

    from mini_bert.verification.reliability.hostile_files.torch_files import archive, ordered, storage, tensor

    kinds = {"Double": 3, "Float": 6, "Half": 12, "BFloat16": 12, "Long": 3, "Int": 6, "Short": 12, "Byte": 24}
    payload = bytes(range(1, 25))
    body = ordered({k: tensor(storage(k, k, n), 1, (n - 1,), (1,)) for k, n in kinds.items()})
    for order in (b"little", b"big"):
        path = tmp_path / f"{order.decode()}.bin"
        path.write_bytes(archive(body, dict.fromkeys(kinds, payload), byteorder=order))
        expected = torch.load(path, weights_only=True)
        for name, array in torch_pickle.load(path, widen=True).items():
            agrees(array, expected[name], torch)


def test_a_model_that_transformers_saves_in_shards(tmp_path):
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    model = BertForMaskedLM(config).eval()
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())["weight_map"]
    (tmp_path / "torch").mkdir()
    torch.save(model.state_dict(), tmp_path / "torch" / "pytorch_model.bin")
    state = model.state_dict()
    for folder in ("whole", "shards", "torch"):
        arrays, _ = weights.load(tmp_path / folder)
        assert arrays.keys() <= state.keys()
        assert state.keys() - arrays.keys() <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        for name, array in arrays.items():
            agrees(array, state[name], torch)
