"""The figures in the guide to memory."""

from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "memory.md"


def test_the_figures_of_the_guide_are_computed():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.testfile(str(GUIDE), module_relative=False, encoding="utf-8", optionflags=flags)
    assert results.attempted >= 7
    assert results.failed == 0
