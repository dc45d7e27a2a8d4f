"""Sentences of held-out text with a word hidden: what a model makes of text that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mini_bert.data.order import evenly_spaced
from mini_bert.text.pieces import CONTINUATION

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus

_WANTED = 4
"""Sentences."""
_SHORTEST, _LONGEST = 9, 24
"""Pieces of a sentence, with [CLS] and [SEP]."""
_SHORTEST_WORD = 4
"""Letters of the hidden word: shorter ones are mostly `the` and `of`, which are too easy to be of interest."""


class Cloze(NamedTuple):
    """A sentence with [MASK] in it, and the word that stood there."""

    text: str
    hidden: str


def held_out_clozes(corpus: TokenCorpus, config: Config) -> list[Cloze]:
    """Up to four sentences, spread over the held-out text; always the same ones for the same text."""
    from mini_bert.data.tokens import open_tokens
    from mini_bert.errors import DataError

    tokenizer = corpus.tokenizer
    data = config.data.model_copy(update={"layout": "sentences"})
    sentences = open_tokens(data, config.tokenizer, tokenizer.vocab_size, tokenizer=tokenizer)
    try:
        rows = sentences.held_out.rows(config.model.max_position_embeddings)
    except DataError:  # no sentence at all
        return []
    lengths = rows.lengths(np.arange(len(rows)))
    whole = lengths < config.model.max_position_embeddings  # a longer sentence was cut
    suitable = np.flatnonzero((lengths >= _SHORTEST) & (lengths <= _LONGEST) & whole)
    clozes: dict[str, Cloze] = {}
    for row in evenly_spaced(suitable.tolist(), 8 * _WANTED):
        ids = rows.read(np.array([row]))[0, 1 : lengths[row] - 1].tolist()
        pieces = [tokenizer.token(id) for id in ids]
        places = _whole_words(pieces)
        if places:
            place = places[len(places) // 2]
            hidden = pieces[place]
            text = tokenizer.decode([*ids[:place], tokenizer.mask_id, *ids[place + 1 :]], skip_specials=False)
            clozes.setdefault(hidden, Cloze(text, hidden))
    return evenly_spaced(list(clozes.values()), _WANTED)


def _whole_words(pieces: Sequence[str]) -> list[int]:
    """Places of the pieces, but for the first, that are words by themselves: letters, and no piece that goes on."""
    return [
        place
        for place, (piece, behind) in enumerate(pairwise([*pieces, ""]))
        if place and piece.isalpha() and len(piece) >= _SHORTEST_WORD and not behind.startswith(CONTINUATION)
    ]
