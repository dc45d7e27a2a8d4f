"""A word that is one piece, one that is cut, one that is [UNK], and what is no word."""

from __future__ import annotations

import pytest
from worded_bert import VOCABULARY

from mini_bert.inference.known_words import known_word, whole_word_id
from mini_bert.text.wordpiece import WordPiece

TOKENIZER = WordPiece(VOCABULARY)


@pytest.mark.parametrize(
    ("word", "known", "whole"),
    [("Dog", True, "dog"), ("zebra", True, None), ("猫", False, None), (" ", False, None), ("the dog", True, None)],
)
def test_what_the_vocabulary_knows(word: str, known: bool, whole: str | None) -> None:
    assert known_word(TOKENIZER, word) == known
    assert whole_word_id(TOKENIZER, word) == (None if whole is None else TOKENIZER.id(whole))
