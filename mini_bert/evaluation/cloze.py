"""Sentences of held-out text with a word hidden: what a model makes of text that it has never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.text.wordpiece import WordPiece

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
    for row in suitable[np.linspace(0, len(suitable) - 1, min(8 * _WANTED, len(suitable))).astype(np.int64)]:
        ids = rows.read(np.array([row]))[0, 1 : lengths[row] - 1].tolist()
        places = [place for place in range(1, len(ids)) if _is_word(tokenizer, ids[place : place + 2])]
        if places:
            place = places[len(places) // 2]
            hidden = tokenizer.token(ids[place])
            text = tokenizer.decode([*ids[:place], tokenizer.mask_id, *ids[place + 1 :]], skip_specials=False)
            clozes.setdefault(hidden, Cloze(text, hidden))
    chosen = list(clozes.values())
    return [chosen[i] for i in np.linspace(0, len(chosen) - 1, min(_WANTED, len(chosen))).astype(int)]


def _is_word(tokenizer: WordPiece, ids: list[int]) -> bool:
    """Whether the first piece is a word by itself: letters, and nothing that goes on with it behind."""
    word, goes_on = tokenizer.token(ids[0]), len(ids) > 1 and bool(tokenizer.continuation[ids[1]])
    return word.isalpha() and not goes_on and len(word) >= _SHORTEST_WORD
