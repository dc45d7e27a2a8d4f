"""The experiments on prepared texts hold, and each of them fails where the code is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_bert.data import batches, order, shards
from mini_bert.verification.reliability import data, sample_order, token_files
from mini_bert.verification.reliability.promise import Experiment, Scale

QUICK = Scale(quick=True)


def test_damaged_token_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = token_files.damage(QUICK, tmp_path / "right")
    assert outcome.kept, outcome.failures
    assert outcome.tried > 55
    monkeypatch.setattr(shards, "_first_altered", lambda file, crcs: "some place")
    assert len(token_files.damage(QUICK, tmp_path / "vague").failures) > 30
    monkeypatch.setattr(shards, "_verify", lambda path, expected, check: None)
    assert len(token_files.damage(QUICK, tmp_path / "blind").failures) > 30


def test_the_order_is_as_good_as_a_random_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = sample_order.quality(QUICK, tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried > 25
    assert "20,000" in sample_order.table(outcome.measured["table"]).markdown()
    monkeypatch.setattr(order, "_ROUNDS", 4)
    assert sample_order.quality(QUICK, tmp_path).failures


@pytest.mark.slow
@pytest.mark.parametrize("experiment", data.EXPERIMENTS, ids=lambda experiment: experiment.run.__name__)
def test_it_holds(experiment: Experiment, tmp_path: Path) -> None:
    outcome = experiment.run(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


@pytest.mark.nightly
def test_a_gigabyte_is_tokenised_in_under_500_megabytes(tmp_path: Path) -> None:
    outcome = data.memory(Scale(), tmp_path)
    assert outcome.kept, outcome.failures


@pytest.mark.slow
def test_an_order_with_a_memory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = batches.mask_rows, 0

    def remembering(ids: Any, pieces: Any, masking: Any, stream: Any, first_row: int) -> Any:
        nonlocal calls
        calls += 1
        return real(ids, pieces, masking, stream._replace(step=calls), first_row)

    monkeypatch.setattr(batches, "mask_rows", remembering)
    assert len(data.order(QUICK, tmp_path).failures) > 50
