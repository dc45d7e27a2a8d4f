"""The experiments on the tokenizer hold, and notice a tokenizer that is wrong in one line of many."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_bert.text import wordpiece
from mini_bert.verification.reliability import tokenizer
from mini_bert.verification.reliability.promise import Scale


@pytest.mark.reference
def test_lines_fall_into_the_pieces_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = tokenizer.parity(Scale(quick=True), tmp_path / "right")
    assert outcome.kept, outcome.failures
    assert outcome.tried == 1000
    monkeypatch.setattr(wordpiece, "LONGEST_WORD", 98)
    assert tokenizer.parity(Scale(quick=True), tmp_path / "wrong").failures


def test_a_vocabulary_is_the_same_in_any_process(tmp_path: Path) -> None:
    outcome = tokenizer.training(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried == 2
