"""The tokenizer of a model that is to read text."""

from __future__ import annotations

from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece


def tokenizer_of(model: MiniBERT, argument: str = "model") -> WordPiece:
    """The WordPiece that made the ids which the model knows.

    Args:
        model: as a folder with `vocab.txt`, or a training, leaves it.
        argument: what the error names.

    Raises:
        InvalidInputError: it has none: it reads ids, not text.
    """
    if model.tokenizer is None:
        raise InvalidInputError(
            argument, got="a model without a tokenizer", expected="one that was loaded from a folder with vocab.txt"
        )
    return model.tokenizer
