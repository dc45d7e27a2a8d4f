"""Does a vocabulary know a word: as a whole, in several pieces, or not at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece


def known_word(tokenizer: WordPiece, word: str) -> bool:
    """Whether a word has pieces, and none of them is [UNK]."""
    ids = tokenizer.encode_ids(word)
    return bool(ids) and tokenizer.unk_id not in ids


def whole_word_id(tokenizer: WordPiece, word: str) -> int | None:
    """The id of the one piece that is the whole word; None where it falls into several, or is [UNK]."""
    ids = tokenizer.encode_ids(word)
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_id else None
