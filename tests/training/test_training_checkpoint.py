"""The checkpoint protocol: saving is an identity (R3), failing disks harm nothing (R5), damage never loads (R6)."""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from mini_bert.errors import CheckpointError, MiniBertError, StorageError
from mini_bert.interop import manifest
from mini_bert.model.bert import MiniBERT
from mini_bert.training import checkpoint_folders
from mini_bert.training.checkpoint import load_checkpoint, model_and_optimizer_sha256, save_checkpoint
from mini_bert.training.checkpoint_folders import checkpoints, newest_verified, pointed_to, remove_stale
from mini_bert.training.model_lookup import find_model
from mini_bert.training.ownership import this_process

PROGRESS = {"tokens": 12345, "loss": 0.1 + 0.2}
FACTS = {"data_sha256": "d" * 64}


def save(run, state, step=None, **options):
    state.step = state.step if step is None else step
    return save_checkpoint(run, state, PROGRESS, FACTS, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def temporaries(run):
    return list(run.rglob(".tmp-*"))


def test_save_load_save_is_an_identity(tmp_path, state):
    first = save(tmp_path / "one", state)
    restored = load_checkpoint(first)
    assert restored.state.step == 7
    assert restored.progress == PROGRESS
    assert restored.manifest["data_sha256"] == FACTS["data_sha256"]
    assert restored.state.model.tokenizer == state.model.tokenizer
    assert model_and_optimizer_sha256(restored.state) == model_and_optimizer_sha256(state)
    second = save_checkpoint(tmp_path / "two", restored.state, restored.progress, FACTS)
    assert contents(first) == contents(second)
    assert set(contents(first)) >= {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "manifest.json"}
    assert MiniBERT.from_pretrained(first).parameters.buffer.tobytes() == state.model.parameters.buffer.tobytes()


def test_the_hash_sees_every_number(state):
    before = model_and_optimizer_sha256(state)
    for vector in (state.model.parameters.buffer, state.optimizer["m"], state.optimizer["v"]):
        kept = vector[3]
        vector[3] = np.nextafter(kept, np.float32(9))
        assert model_and_optimizer_sha256(state) != before
        vector[3] = kept
    assert model_and_optimizer_sha256(state) == before


def test_older_checkpoints_go_and_the_best_stays(tmp_path, state):
    for step in range(1, 7):
        state.optimizer["m"][0] = step
        save(tmp_path, state, step, keep=2, best=2 if step >= 2 else None)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-6", "checkpoint-5", "checkpoint-2"]
    assert (tmp_path / "latest").read_text() == "checkpoint-6\n"
    assert pointed_to(tmp_path, "best").name == "checkpoint-2"
    assert not temporaries(tmp_path)


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path, state):
    for step in (1, 2, 3):
        save(tmp_path, state, step, keep=3)
    (tmp_path / "checkpoints" / "checkpoint-3" / "optimizer.safetensors").unlink()
    save(tmp_path, state, 4, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-3", "checkpoint-2"]


def test_saving_a_step_again(tmp_path, state):
    path = save(tmp_path, state)
    inode = path.stat().st_ino
    assert save(tmp_path, state).stat().st_ino == inode
    (path / "config.json").write_text("{}")
    save(tmp_path, state)
    manifest.verify(path)
    state.optimizer["v"][0] += 1
    save(tmp_path, state)
    assert load_checkpoint(path).state.optimizer["v"][0] == state.optimizer["v"][0]


def test_counters_that_changed_are_saved_though_the_numbers_did_not(tmp_path, state):
    path = save(tmp_path, state)
    save_checkpoint(tmp_path, state, {"skipped": 3}, FACTS)
    assert load_checkpoint(path).progress == {"skipped": 3}
    assert not temporaries(tmp_path)


def test_a_checkpoint_is_the_model_folder_that_a_model_saves(tmp_path, state):
    path = save(tmp_path / "run", state)
    state.model.save_pretrained(tmp_path / "exported")
    exported = contents(tmp_path / "exported")
    assert {name: (path / name).read_bytes() for name in exported} == exported


def test_a_file_is_read_again_only_when_it_was_touched(tmp_path, state, monkeypatch):
    """What this process has verified is trusted until inode, size or times change; what it has not is read."""
    read, verify = [], manifest.verify

    def noted(folder):
        promised = verify(folder)
        read.append(folder.name)
        return promised

    monkeypatch.setattr(manifest, "verify", noted)
    for step in (1, 2, 3):
        save(tmp_path, state, step, keep=3)
    assert read == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    touched = tmp_path / "checkpoints" / "checkpoint-2" / "config.json"
    touched.write_bytes(touched.read_bytes().replace(b"bert", b"burt"))
    save(tmp_path, state, 4, keep=3)
    assert read[3:] == ["checkpoint-4"]
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in (4, 3, 2, 1)]
    checkpoint_folders._seen.clear()
    save(tmp_path, state, 5, keep=3)
    assert read[4:] == ["checkpoint-5", "checkpoint-4", "checkpoint-3"]


def test_while_a_training_rotates_the_reader_looks_again(tmp_path, state, monkeypatch):
    save(tmp_path, state, 1)
    verify = manifest.verify

    def overtaken(folder):
        monkeypatch.setattr(manifest, "verify", verify)
        for step in (2, 3):
            save(tmp_path, state, step)
        return verify(folder)

    monkeypatch.setattr(manifest, "verify", overtaken)
    assert newest_verified(tmp_path).path.name == "checkpoint-3"


def test_the_newest_that_holds_is_found_and_the_others_are_explained(tmp_path, state):
    assert newest_verified(tmp_path) == (None, ())
    for step in (9, 10, 11):
        save(tmp_path, state, step, keep=3)
    newest = tmp_path / "checkpoints" / "checkpoint-11"
    os.truncate(newest / "optimizer.safetensors", 100)
    (tmp_path / "checkpoints" / "checkpoint-10" / "manifest.json").unlink()
    found = newest_verified(tmp_path)
    assert found.path.name == "checkpoint-9"
    assert len(found.rejected) == 2
    assert re.search(r"checkpoint-11/optimizer\.safetensors: got 100 bytes", found.rejected[0])
    assert "checkpoint-10/manifest.json" in found.rejected[1]


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, state, monkeypatch):
    save(tmp_path, state, 1)
    events = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor):
        events.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def noted_rename(source, target):
        events.append((Path(source).name, Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    final = save(tmp_path, state, 2)
    named = next(number for number, event in enumerate(events) if isinstance(event, tuple))
    source, target = events[named]
    assert re.fullmatch(rf"\.tmp-2-{this_process().token}-[0-9a-f]+", source)
    assert target == "checkpoint-2"
    for path in final.iterdir():
        assert path.stat().st_ino in events[:named], path.name
    manifest_last, folder_after_it = (final / "manifest.json").stat().st_ino, final.stat().st_ino
    assert events[named - 2 : named] == [manifest_last, folder_after_it]
    assert events[named + 1] == final.parent.stat().st_ino


# --- R5 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "replace", "mkdir", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_call_harms_nothing(tmp_path, state, monkeypatch, call, code):
    """Let the n-th call fail, for every n until a save goes through."""
    run = tmp_path / "run"
    old = save(run, state, 1)
    before, healthy, n = contents(old), getattr(os, call), 0
    while (error := saving_while_one_call_fails(run, state, monkeypatch, call, healthy, code, n)) != "all went well":
        n += 1
        assert re.search(rf"{re.escape(os.strerror(code))}.*MB free", str(error))
        assert str(run) in error.argument
        assert contents(old) == before
        assert newest_verified(run).path is not None
        remove_stale(run)
        assert not temporaries(run)
    assert n >= {"rename": 1, "mkdir": 1, "replace": 1, "write": 5, "fsync": 5, "open": 5}[call]
    assert newest_verified(run).path.name == "checkpoint-2"


def saving_while_one_call_fails(run, state, monkeypatch, call, healthy, code, n):
    """Save step 2 while the n-th such call fails: the error, or None where it did no harm."""
    calls, failed = iter(range(10_000)), []

    def fail(*arguments, **options):
        if next(calls) == n:
            failed.append(call)
            raise OSError(code, os.strerror(code))
        return healthy(*arguments, **options)

    state.optimizer["m"][0] = n
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        try:
            save(run, state, 2)
        except StorageError as error:
            return error
    return None if failed else "all went well"


def test_a_file_size_limit_is_a_storage_error(tmp_path, state):
    old = save(tmp_path, state, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            save(tmp_path, state, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    manifest.verify(old)
    assert not temporaries(tmp_path)


def test_a_disk_that_forgets_is_noticed_before_older_ones_go(tmp_path, state, monkeypatch):
    for step in (1, 2):
        save(tmp_path, state, step)
    rename = os.rename

    def forgetful(source, target):
        rename(source, target)
        if str(target).endswith("checkpoint-3"):
            os.truncate(os.path.join(target, "optimizer.safetensors"), 0)  # noqa: PTH118

    monkeypatch.setattr(os, "rename", forgetful)
    with pytest.raises(StorageError, match="other bytes than were written"):
        save(tmp_path, state, 3)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-1"]
    assert not temporaries(tmp_path)
    for step in (1, 2):
        manifest.verify(tmp_path / "checkpoints" / f"checkpoint-{step}")


def test_only_leavings_of_the_dead_are_removed(tmp_path, state):
    save(tmp_path, state)
    mine = this_process()
    dead = mine._replace(started=mine.started + 1)
    elsewhere = mine._replace(host="another-host")
    folder = tmp_path / "checkpoints"
    for owner in (dead, elsewhere):
        (folder / f".tmp-8-{owner.token}-abcd").mkdir()
        (folder / f".tmp-8-{owner.token}-abcd" / "config.json").write_text("{")
    (tmp_path / ".tmp-metrics.jsonl-1-abcd").write_text("half")
    (folder / f".tmp-9-{dead.token}-abcd").symlink_to(folder / "checkpoint-7")
    remove_stale(tmp_path)
    assert temporaries(tmp_path) == [folder / f".tmp-8-{elsewhere.token}-abcd"]
    manifest.verify(folder / "checkpoint-7")


def test_runs_and_checkpoints_may_be_links(tmp_path, state):
    """Moved to another disk, with a link in their place: read, rotated, and nothing behind a link is deleted."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    run = tmp_path / "run"
    moved = save(run, state, 1)
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    save(run, state, 2)
    assert load_checkpoint(moved).state.step == 1
    save(run, state, 3)
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3", "checkpoint-2"]
    manifest.verify(tmp_path / "elsewhere")
    assert not temporaries(tmp_path)


def test_a_whole_checkpoint_whose_writer_died_before_naming_it_is_named(tmp_path, state):
    """As after a kill between the two renames that replace a checkpoint: one of both gets the name, and it loads."""
    path = save(tmp_path, state)
    mine = this_process()
    dead = mine._replace(started=mine.started + 1)
    path.rename(path.with_name(f".tmp-7-{dead.token}-abcd"))
    shutil.copytree(path.with_name(f".tmp-7-{dead.token}-abcd"), path.with_name(f".tmp-7-{dead.token}-ef01"))
    remove_stale(tmp_path)
    assert not temporaries(tmp_path)
    assert model_and_optimizer_sha256(load_checkpoint(path).state) == model_and_optimizer_sha256(state)


@pytest.mark.parametrize("call", [0, 1])
def test_a_checkpoint_that_cannot_be_replaced_stays(tmp_path, state, monkeypatch, call):
    """Another state of the same step: one of the two renames fails, and the old checkpoint has its name again."""
    path = save(tmp_path, state)
    before = contents(path)
    state.optimizer["m"][0] += 1
    calls, healthy = iter(range(100)), os.rename

    def fail(source, target):
        if next(calls) == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        healthy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(StorageError, match="checkpoint-7: got Input/output error"):
            save(tmp_path, state)
    assert contents(path) == before
    assert not temporaries(tmp_path)


# --- R6 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, state):
    return save(tmp_path / "run", state)


def refused(folder):
    """Whether every way to the checkpoint is closed."""
    for way in (manifest.verify, load_checkpoint):
        with pytest.raises(CheckpointError):
            way(folder)
    assert newest_verified(folder.parent.parent).path is None
    return True


def test_truncated_lengthened_deleted_and_swapped_files(saved):
    whole = contents(saved)
    for name, content in whole.items():
        path, size = saved / name, len(content)
        for length in (0, 1, 7, 8, size // 4, size // 2, size - 1):
            path.write_bytes(content[:length])
            assert refused(saved)
        path.write_bytes(content + b"\0")
        assert refused(saved)
        path.unlink()
        assert refused(saved)
        other = next(other for other in whole if other != name)
        path.write_bytes(whole[other])
        (saved / other).write_bytes(content)
        assert refused(saved)
        (saved / other).write_bytes(whole[other])
        path.write_bytes(content)
    manifest.verify(saved)


@pytest.mark.parametrize("flips", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_never_loads(saved, flips):
    """Half of the flips fall into the first 500 bytes of a file: headers of tensors, beginnings of JSON."""
    rng = random.Random(0)
    whole = contents(saved)
    for flip in range(flips):
        name = rng.choice(sorted(whole))
        content = bytearray(whole[name])
        content[rng.randrange(min(500, len(content)) if flip % 2 else len(content))] ^= 1 << rng.randrange(8)
        (saved / name).write_bytes(content)
        assert refused(saved)
        (saved / name).write_bytes(whole[name])
    manifest.verify(saved)


def test_a_model_is_not_read_out_of_a_damaged_checkpoint(saved):
    whole = contents(saved)
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "manifest.json"):
        content = bytearray(whole[name])
        content[len(content) // 2] ^= 4
        (saved / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=re.escape(name)):
            MiniBERT.from_pretrained(saved)
        (saved / name).write_bytes(whole[name])
    MiniBERT.from_pretrained(saved)


def test_consistent_lies_are_refused_too(saved):
    """Files that agree with a manifest made for them, and not with one another."""
    (saved / "manifest.json").unlink()
    facts = {"step": 7}
    for name, content in (
        ("optimizer.safetensors", (saved / "model.safetensors").read_bytes()),
        ("training_state.json", b"{}"),
        ("training_state.json", b'{"step": 7, "progress": 3}'),
    ):
        kept = (saved / name).read_bytes()
        (saved / name).write_bytes(content)
        manifest.write(saved, facts)
        with pytest.raises(CheckpointError, match=re.escape(name)):
            load_checkpoint(saved)
        (saved / name).write_bytes(kept)
    manifest.write(saved, {**facts, "model_and_optimizer_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="hash"):
        load_checkpoint(saved)


# --- MODEL arguments --------------------------------------------------------------------------------------------------


def test_a_model_argument_is_a_path_or_a_run(tmp_path, state):
    runs = tmp_path / "runs"
    old, new = (save(runs / "novels-1", state, step) for step in (1, 2))
    assert find_model(new, runs) == new
    assert find_model("novels-1", runs) == new
    assert find_model(runs / "novels-1", runs) == new
    state.model.save_pretrained(tmp_path / "exported")
    assert find_model(tmp_path / "exported", runs) == tmp_path / "exported"
    os.truncate(new / "model.safetensors", 5)
    assert find_model("novels-1", runs) == old
    shutil.rmtree(old)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: got 5 bytes"):
        find_model("novels-1", runs)
    with pytest.raises(CheckpointError, match="Did you mean 'novels-1'"):
        find_model("novels", runs)
    with pytest.raises(MiniBertError, match=r"Choices: mini-bert\. Or train one first: mini-bert pretrain\."):
        find_model("novels", tmp_path / "nowhere")
