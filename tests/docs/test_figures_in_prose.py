"""Figures in prose are what the result files say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

_SOURCE = Path(__file__).resolve().parents[2] / "docs" / "figures.py"
_SPEC = importlib.util.spec_from_file_location("docs_figures", _SOURCE)
assert _SPEC is not None
assert _SPEC.loader is not None
figures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(figures)


@pytest.mark.parametrize("path", list(figures.prose()), ids=lambda path: path.name)
def test_every_block_is_as_the_result_files_say(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert figures.written_anew(text) == text, "run: make figures"


def test_a_changed_number_is_noticed() -> None:
    block = "<!-- figures: demo -->\n12.3\n<!-- end -->"
    assert figures.written_anew(block) != block


def test_places_named_in_the_coverage_exist() -> None:
    root = _SOURCE.parent.parent
    text = (root / "docs" / "coverage.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2:4] for line in text.splitlines() if line.startswith("| ") and "later |" not in line]
    named = [
        (folder, name)
        for row in rows
        for folder, cell in zip(("mini_bert", "tests"), row, strict=True)
        for name in re.findall(r"`(\w+/(?:[\w/]+(?:\.\w+|/))?)`", cell)
    ]
    missing = [name for folder, name in named if not any((base / name).exists() for base in (root / folder, root))]
    assert len(named) > 80
    assert not missing
