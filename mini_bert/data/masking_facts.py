"""What some kinds of masking know beside the vocabulary: of the training text, or which words are preferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.masking_patterns import PreferredWords
from mini_bert.data.masking_pmi import Collocations, find_collocations
from mini_bert.data.piece_counts import piece_counts
from mini_bert.errors import DataError, InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.schema import MaskingConfig
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece


class MaskingFacts(NamedTuple):
    """For each kind what it needs; empty for the others."""

    kind: str | None = None
    """What the facts are for."""
    weights: NDArray[np.float64] = np.empty(0)
    """frequency: [V]"""
    collocations: Collocations = Collocations()
    """pmi"""
    preferred: PreferredWords = PreferredWords()
    """pattern"""

    def demand(self, kind: str) -> None:
        """Raise InvalidInputError if `kind` needs other facts than these."""
        if kind in FACTS and kind != self.kind:
            raise InvalidInputError(
                "facts",
                got=f"those of kind {self.kind}" if self.kind else "none",
                expected=f"what kind {kind} has to know",
                advice="`mini_bert.data.masking_facts.facts_for` gives it.",
            )


NO_FACTS = MaskingFacts()
FACTS = ("frequency", "pmi", "pattern")
"""Kinds that need some."""


def facts_for(
    masking: MaskingConfig, token_set: TokenSet, tokenizer: WordPiece, progress: Progress | None = None
) -> MaskingFacts:
    """The facts that `masking.kind` needs, counted on the text of `token_set`, or from the cache.

    Raises:
        ConfigError: a pattern is no regular expression, or takes too long.
        DataError: the word list cannot be read, or holds no word; no word of the text is preferred; the text has no
            collocations.
        ChecksumError, StorageError: as `kept_arrays`.
    """
    from mini_bert.data.masking import Pieces

    told = progress or (lambda what, done, total: None)
    if masking.kind == "frequency":
        counts = np.maximum(piece_counts(token_set, tokenizer, told), 1)
        return MaskingFacts("frequency", weights=(counts / counts.max()) ** -masking.frequency_power)  # (MA.4)
    if masking.kind == "pmi":
        return MaskingFacts("pmi", collocations=find_collocations(token_set, tokenizer, masking.span_max, told))
    if masking.kind == "pattern":
        preferred = PreferredWords.of(masking.patterns, masking.word_list, tokenizer)
        pieces = Pieces.of(tokenizer)
        if not any(preferred.occur_in(document, pieces) for document in token_set.documents()):
            raise DataError(
                "masking.patterns" if masking.patterns else "masking.word_list",
                got=f"{_shown(masking)}, which no word of the training text matches",
                expected="words that occur",
                advice="A pattern has to match a word whole" + (", in lower case." if tokenizer.lowercase else "."),
            )
        return MaskingFacts("pattern", preferred=preferred)
    return NO_FACTS


def _shown(masking: MaskingConfig) -> str:
    names = [*map(repr, masking.patterns[:3]), *(["…"] if len(masking.patterns) > 3 else []), masking.word_list]
    return " and ".join(filter(None, names))
