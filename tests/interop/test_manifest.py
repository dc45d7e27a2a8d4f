"""The manifest: no bit of a folder changes without notice."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from mini_bert.errors import CheckpointError
from mini_bert.interop import manifest, safetensors_guard


@pytest.fixture
def folder(tmp_path):
    safetensors_guard.save(tmp_path / "model.safetensors", {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})
    (tmp_path / "config.json").write_text('{"model_type": "bert"}\n')
    manifest.write(tmp_path, {"step": 7})
    return tmp_path


def test_the_manifest_says_what_is_there(folder):
    promised = manifest.verify(folder)
    content = (folder / "config.json").read_bytes()
    assert promised["step"] == 7
    assert promised["files"]["config.json"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert promised["tensors"] == {"model.safetensors": {"x": {"dtype": "F32", "shape": [2, 3]}}}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
def test_every_flipped_bit_is_seen(folder, name):
    path = folder / name
    content = bytearray(path.read_bytes())
    for position in range(len(content)):
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            manifest.verify(folder)
        content[position] ^= 1 << position % 8
    path.write_bytes(content)
    manifest.verify(folder)


def test_only_the_files_asked_for_are_read(folder):
    (folder / "model.safetensors").unlink()
    manifest.verify(folder, only=["config.json", "not-in-the-manifest"])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        manifest.verify(folder)


def test_a_manifest_rewritten_in_another_style_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    with pytest.raises(CheckpointError, match="changed"):
        manifest.read(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"manifest_sha256": 1}', "[" * 100_000])
def test_what_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="changed"):
        manifest.read(folder)


def test_a_newer_format_is_named(folder, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT_VERSION", 2)
    manifest.write(folder, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"format version 2.*upgrade"):
        manifest.read(folder)
