"""Does a vocabulary know a word: as a whole, in several pieces, or not at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece


def known_word(tokenizer: WordPiece, word: str) -> bool:
    """Whether a word has pieces, and none of them is [UNK]."""
    ids = tokenizer.encode_ids(word)
    return bool(ids) and tokenizer.unk_id not in ids


def whole_words(tokenizer: WordPiece, text: str) -> set[int]:
    """The ids of a text's words that are one piece; [UNK] is none."""
    ids = tokenizer.encode_ids(text)
    goes_on = [bool(tokenizer.continuation[piece]) for piece in ids] + [False]
    return {
        piece
        for place, piece in enumerate(ids)
        if not goes_on[place] and not goes_on[place + 1] and piece != tokenizer.unk_id
    }


def whole_word_id(tokenizer: WordPiece, word: str) -> int | None:
    """The id of the one piece that is the whole word; None where it falls into several, or is [UNK]."""
    ids = tokenizer.encode_ids(word)
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_id else None
