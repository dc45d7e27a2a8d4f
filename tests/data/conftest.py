from __future__ import annotations

import string
from pathlib import Path

import pytest
from made_texts import write_book

from mini_bert.text.wordpiece import WordPiece

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINI_BERT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def letters() -> WordPiece:
    """A tokenizer that spells every word: 5 specials, 26 letters, 26 continuations, digits and two marks."""
    marks = [*string.digits, *(f"##{digit}" for digit in string.digits), ".", ","]
    return WordPiece([*SPECIALS, *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *marks])


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of 40 sections, all different."""
    return write_book(tmp_path / "book.txt", paragraphs=400, seed=0)
