"""The examples of the tokenizer's guide, run as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "tokenizer.md"


def test_the_examples_of_the_guide_are_true() -> None:
    results = doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8", optionflags=doctest.ELLIPSIS)
    assert results.attempted >= 10
    assert results.failed == 0
