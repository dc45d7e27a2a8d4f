"""Failing disks harm nothing that was saved; a saving that is less careful is noticed."""

from __future__ import annotations

import shutil

import pytest

from mini_bert.training import checkpoint_folders
from mini_bert.verification.reliability import failing_disks
from mini_bert.verification.reliability.promise import Scale


@pytest.mark.parametrize(
    "experiment",
    [
        failing_disks.every_call_fails,
        failing_disks.file_size_limits,
        pytest.param(failing_disks.training_on_a_full_disk, marks=pytest.mark.slow),
    ],
)
def test_failing_disks_harm_nothing(experiment, tmp_path):
    outcome = experiment(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_real_disks_where_they_can_be_mounted(tmp_path):
    outcome = failing_disks.real_disks(Scale(quick=True), tmp_path)
    assert outcome.kept or outcome.measured == {"not_tried": "no mount namespace could be made"}, outcome.failures


def test_what_is_left_lying_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(failing_disks, "remove_stale", lambda run: None)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    assert any(
        "left over" in failure for failure in failing_disks.file_size_limits(Scale(quick=True), tmp_path).failures
    )


def test_a_checkpoint_that_goes_before_its_successor_is_there_is_noticed(tmp_path, monkeypatch):
    give_name = checkpoint_folders.give_name

    def too_early(staged, final):
        for old in checkpoint_folders.checkpoints(final.parent.parent)[:2]:
            shutil.rmtree(old, ignore_errors=True)
        give_name(staged, final)

    monkeypatch.setattr("mini_bert.training.checkpoint.give_name", too_early)
    assert failing_disks.every_call_fails(Scale(quick=True), tmp_path).failures
