"""The manifest: no bit of a folder changes without notice."""

from __future__ import annotations

import hashlib
import json
import os

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


def test_bytes_at_hand_are_described_as_those_read_back(folder):
    """The same manifest to the bit; and what was meant, not what the disk made of it."""
    read_back = (folder / "manifest.json").read_bytes()
    parts = {"config.json": [b'{"model_type": ', b'"bert"}\n']}
    parts["model.safetensors"] = safetensors_guard.to_parts({"x": np.arange(6, dtype=np.float32).reshape(2, 3)})
    known = {name: manifest.describe(name, pieces) for name, pieces in parts.items()}
    manifest.write(folder, {"step": 7}, known)
    assert (folder / "manifest.json").read_bytes() == read_back
    (folder / "config.json").write_text('{"model_type": "dart"}\n')
    manifest.write(folder, {"step": 7}, known)
    with pytest.raises(CheckpointError, match=r"config\.json: got other bytes"):
        manifest.verify(folder)


@pytest.mark.parametrize("flipped", ["a.bin", "b.bin", "c.json"])
def test_large_folders_are_verified_by_two_threads(tmp_path, flipped):
    for name, size in (("a.bin", 1 << 20), ("b.bin", (1 << 20) + 1), ("c.json", 3)):
        (tmp_path / name).write_bytes(bytes(size))
    manifest.write(tmp_path, {})
    manifest.verify(tmp_path)
    with (tmp_path / flipped).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(CheckpointError, match=f"{flipped}.*got other bytes"):
        manifest.verify(tmp_path)


def test_the_hash_is_that_of_the_text_without_its_line(folder):
    text = (folder / "manifest.json").read_text()
    (line,) = [line for line in text.splitlines(keepends=True) if "manifest_sha256" in line]
    assert hashlib.sha256(text.replace(line, "").encode()).hexdigest() in line
    body = {name: value for name, value in json.loads(text).items() if name != "manifest_sha256"}
    assert text.replace(line, "") == json.dumps(body, sort_keys=True, indent=1) + "\n"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"../config.json": {"bytes": 1, "sha256": ""}},
        {"/dev/zero": {"bytes": 0, "sha256": ""}},
        {"config.json": {"bytes": True, "sha256": ""}},
        {"config.json": {"bytes": 1}},
        {"config.json": []},
        [],
    ],
)
def test_a_lying_manifest_cannot_name_files_elsewhere(tmp_path, files):
    body = {"files": files, "format_version": 1, "tensors": {}}
    text = json.dumps(body, sort_keys=True, indent=1) + "\n"
    whole = {**body, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps(whole, sort_keys=True, indent=1) + "\n")
    if files == {}:
        assert manifest.verify(tmp_path) == body
        return
    with pytest.raises(CheckpointError, match="changed"):
        manifest.verify(tmp_path)


def test_a_device_or_a_pipe_in_a_file_s_place_is_not_waited_for(folder):
    for target in ("/dev/zero", "pipe"):
        (folder / "config.json").unlink()
        if target == "pipe":
            os.mkfifo(folder / "config.json")
        else:
            (folder / "config.json").symlink_to(target)
        with pytest.raises(CheckpointError, match="no plain file"):
            manifest.verify(folder)


def test_a_folder_that_goes_while_it_is_read_is_explained(folder):
    path = folder / "gone"
    with pytest.raises(CheckpointError, match="removes its older checkpoints"):
        manifest.verify(path)
