"""How often each piece occurs in a text: counted once, kept in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.kept_arrays import kept_arrays

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

_COUNTED_AT_ONCE = 1000
"""Documents."""


def piece_counts(token_set: TokenSet, tokenizer: WordPiece, progress: Progress | None = None) -> NDArray[np.int64]:
    """How often each piece occurs in the text, [V]; special pieces, [UNK] among them, count 0.

    Raises:
        ChecksumError, StorageError: as `kept_arrays`.
    """

    told: Progress = progress or (lambda what, done, total: None)

    def compute() -> dict[str, NDArray[np.int64]]:
        counts = np.zeros(tokenizer.vocab_size, np.int64)
        held: list[NDArray[np.uint16]] = []
        for number, document in enumerate(token_set.documents()):
            held.append(document)
            if len(held) == _COUNTED_AT_ONCE or number == token_set.n_documents - 1:
                counts += np.bincount(np.concatenate(held), minlength=len(counts))
                held = []
                told("counting pieces", number + 1, token_set.n_documents)
        counts[sorted(tokenizer.special_ids)] = 0
        return {"counts": counts}

    key = ("piece counts 1", token_set.fingerprint, tokenizer.fingerprint)
    return kept_arrays("piece_counts", key, compute, told)["counts"]
