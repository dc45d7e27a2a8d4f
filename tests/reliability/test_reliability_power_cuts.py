"""A power cut costs nothing that was saved; a saving that leaves out a flush, any of them, is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mini_bert.training import checkpoint, checkpoint_folders
from mini_bert.verification.reliability import power_cuts
from mini_bert.verification.reliability.promise import Scale
from mini_bert.verification.reliability.recorded_disk import Disk, read_tree, recording

FEW = Scale(quick=True)


def test_a_power_cut_costs_nothing_that_was_saved(tmp_path):
    outcome = power_cuts.power_cuts(FEW, tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.measured["changes"] > 500


def made_only(path):
    path.mkdir(parents=True, exist_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "careless"),
    [
        (checkpoint, "make_folder", made_only),
        (checkpoint, "sync", lambda path: None),
        (checkpoint_folders, "sync", lambda path: None),
    ],
)
def test_a_flush_that_is_left_out_is_noticed(tmp_path, monkeypatch, module, name, careless):
    monkeypatch.setattr(module, name, careless)
    assert power_cuts.power_cuts(FEW, tmp_path).failures


@pytest.mark.parametrize("folders", [False, True])
def test_so_it_is_when_no_file_or_no_folder_is_ever_flushed(tmp_path, monkeypatch, folders):
    record = power_cuts._record

    def unflushed(folder):
        saves = record(folder)
        made = {change.path for change in saves.changes if change.call == "create" and change.given}

        def flushed(changes):
            return [change for change in changes if change.call != "fsync" or (change.path in made) != folders]

        returned = [(len(flushed(saves.changes[:end])), step) for end, step in saves.returned]
        return saves._replace(changes=flushed(saves.changes), returned=returned)

    monkeypatch.setattr(power_cuts, "_record", unflushed)
    assert power_cuts.power_cuts(FEW, tmp_path).failures


def test_the_record_is_complete_and_the_model_forgets(tmp_path):
    (tmp_path / "a").mkdir()
    with recording(tmp_path / "a") as changes:
        os.mkdir(tmp_path / "a" / "folder")  # noqa: PTH102
        descriptor = os.open(tmp_path / "a" / "folder" / "file", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"one")
        os.fsync(descriptor)
        os.write(descriptor, b"two")
        os.close(descriptor)
        os.replace(tmp_path / "a" / "folder" / "file", tmp_path / "a" / "folder" / "name")  # noqa: PTH105
    disk = Disk()
    for change in changes:
        disk.do(change)
    assert disk.tree() == read_tree(Path(tmp_path / "a")) == {"folder": {"name": b"onetwo"}}
    assert disk.after_power_cut(lambda choices: 0) == {}
    assert disk.after_power_cut(lambda choices: 1) == {"folder": {"name": bytes(6)}}
    assert disk.after_power_cut(lambda choices: min(2, choices - 1)) == {"folder": {"name": b"one"}}
