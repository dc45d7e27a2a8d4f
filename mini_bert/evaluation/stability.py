"""Does a small change of a text change little of what the model makes of it?

Each text is changed in five ways, and the new sentence embedding (mean of the last layer) is compared with the old one:

- case: all letters capital. An uncased model does not see it, so this must change nothing.
- typo: two neighbouring inner letters of one word trade places.
- synonym: one word becomes its nearest neighbour in SimLex-999.
- neighbours swapped: two words that stand side by side trade places.
- shuffled: all words in a random order.

A cosine alone says little, since those of any two texts may be high; the scale is another text in its place (the one
that stands half the set further on). `moved` is 1 − cosine in units of that: 0 nothing, 1 as far as another text. And
the prediction: one word that the change leaves alone is hidden in both texts; how often does the best piece stay the
same, and by how many nats does the loss of the right one rise? Where the model has a classifier, its label is compared
too.
The same is measured for the untrained model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import evenly_spaced
from mini_bert.data.text_rows import padded_batches, text_row
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.evaluation.text_changes import (
    Change,
    Draws,
    in_capitals,
    nearest_synonyms,
    shuffled,
    with_neighbours_swapped,
    with_synonym,
    with_typo,
)
from mini_bert.inference.known_words import whole_word_id
from mini_bert.inference.sentence_embeddings import cosines, sentence_embeddings, unrelated_distances
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.clustered_means import clustered_mean
from mini_bert.metrics.cross_entropy import token_losses
from mini_bert.metrics.proportions import wilson_interval

if TYPE_CHECKING:
    from mini_bert.data.task_sets.word_similarity import WordPair
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

TEXTS = 1000
"""Texts at most; 100 with `quick`."""
_FEWEST_WORDS = 4
_SAME = 1e-7
"""1 − cosine at which two vectors are the same: float32 rounds at this place."""


class _Changed(NamedTuple):
    text: int
    """Number of the text."""
    before: str
    after: str
    hidden_before: str
    """The text with [MASK] for one word."""
    hidden_after: str
    hidden: int
    """Id of that word."""


class _Guess(NamedTuple):
    best: int
    """The likeliest piece at the mask."""
    loss: float
    """Of the piece that stood there, in nats."""


def measure_representation_stability(
    model: MiniBERT,
    texts: Sequence[str] | None = None,
    *,
    synonyms: Sequence[WordPair] | None = None,
    seed: int = 0,
    quick: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How far each change moves the embedding, and how often it changes the prediction, beside the untrained model.

    Args:
        model: with a tokenizer.
        texts: sentences of four words or more, others are left out; those of STS-B's dev split by default.
        synonyms: pairs with scores from 0 to 10; SimLex-999 by default.
        seed: of the places that are changed.
        quick: 100 texts instead of 1,000.
        progress: is told what comes next.

    Raises:
        InvalidInputError: no tokenizer, or fewer than two texts of four words with one that is a piece of its own.
        DataError: a published set is not there and cannot be fetched.
    """
    tokenizer_of(model)  # refused before the sets are read
    chosen = _texts(texts, TEXTS // 10 if quick else TEXTS)
    changes = _changes(model, chosen, nearest_synonyms(_simlex() if synonyms is None else synonyms), seed)
    results = []
    for by, one in (("model", model), ("untrained", untrained_like(model, seed))):
        if progress:
            progress(f"stability, {by}", 0, 0)
        results += _measured(by, one, chosen, changes)
    return {"kind": "stability", "texts": len(chosen), "seed": seed, "lines": results}


def _simlex() -> Sequence[WordPair]:
    from mini_bert.data.task_sets.word_similarity import word_similarity_sets

    return word_similarity_sets()["SimLex-999"]


def _texts(texts: Sequence[str] | None, wanted: int) -> list[str]:
    if texts is None:
        from mini_bert.data.task_sets.relatedness import stsb

        texts = [text for pair in stsb("dev") for text in pair[:2]]
    suitable = [text for text in dict.fromkeys(texts) if len(text.split()) >= _FEWEST_WORDS and "[MASK]" not in text]
    if len(suitable) < 2:
        got = f"{len(suitable)} texts of {_FEWEST_WORDS} words or more"
        raise InvalidInputError("texts", got=got, expected="at least two different ones")
    return evenly_spaced(suitable, wanted)


def _changes(
    model: MiniBERT, texts: Sequence[str], synonyms: Mapping[str, str], seed: int
) -> dict[str, list[_Changed]]:
    """The changed texts of each kind; a text to which a kind does not apply is left out of it."""
    tokenizer = tokenizer_of(model)
    kinds: dict[str, Change] = {
        "case": in_capitals,
        "typo": with_typo,
        "synonym": partial(with_synonym, synonyms),
        "neighbours swapped": with_neighbours_swapped,
        "shuffled": shuffled,
    }
    found: dict[str, list[_Changed]] = {name: [] for name in kinds}
    for number, text in enumerate(texts):
        words = text.split()
        ids = {place: whole_word_id(tokenizer, word) for place, word in enumerate(words) if word.isalpha()}
        whole = [(place, id) for place, id in ids.items() if id is not None]
        if not whole:
            continue
        keep, hidden = whole[Draws(seed, "stability/hidden", number)(len(whole))]
        for name, change in kinds.items():
            changed = change(list(words), keep, Draws(seed, f"stability/{name}", number))
            if changed is not None:
                after, place = changed
                found[name].append(
                    _Changed(
                        number,
                        text,
                        " ".join(after),
                        " ".join([*words[:keep], "[MASK]", *words[keep + 1 :]]),
                        " ".join([*after[:place], "[MASK]", *after[place + 1 :]]),
                        hidden,
                    )
                )
    if not found["case"]:
        raise InvalidInputError("texts", got="no word that is a piece of its own", expected="words of the vocabulary")
    return found


def _measured(
    by: str, model: MiniBERT, texts: Sequence[str], changes: Mapping[str, Sequence[_Changed]]
) -> list[dict[str, Any]]:
    every = list(dict.fromkeys([*texts, *(one.after for ones in changes.values() for one in ones)]))
    place = {text: number for number, text in enumerate(every)}
    vectors = sentence_embeddings(model, every)
    first = vectors[[place[text] for text in texts]]
    apart = unrelated_distances(first, first)
    unit = float(apart.mean())
    if not unit > _SAME:
        raise InvalidInputError("model", got="the same vector for every text", expected="vectors that differ")
    guesses = _guesses(model, [one for ones in changes.values() for one in ones])
    lines = []
    for name, ones in changes.items():
        line: dict[str, Any] = {"change": name, "by": by, "n": len(ones)}
        if ones:
            near = cosines(vectors[[place[one.before] for one in ones]], vectors[[place[one.after] for one in ones]])
            line |= {"cosine": _mean(near), "moved": _mean((1 - near) / unit)}
            line |= _predictions(model, ones, guesses)
        lines.append(line)
    lines.append(
        {"change": "another text", "by": by, "n": len(texts), "cosine": _mean(1 - apart), "moved": _mean(apart / unit)}
    )
    return lines


def _predictions(
    model: MiniBERT, ones: Sequence[_Changed], guesses: Mapping[tuple[str, int], _Guess]
) -> dict[str, Any]:
    """How often the best piece, or the classifier's label, stays; and by how much the loss of the right piece rises."""
    found: dict[str, Any] = {}
    asked = [((one.hidden_before, one.hidden), (one.hidden_after, one.hidden)) for one in ones]
    both = [(guesses[before], guesses[after]) for before, after in asked if before in guesses and after in guesses]
    if both:
        found["same_piece"] = _share(np.array([before.best == after.best for before, after in both]))
        found["loss_rise"] = _mean(np.array([after.loss - before.loss for before, after in both]))
    if "classifier" in model.config.heads and model.config.num_labels > 1:
        labels, after = (
            _labels(model, texts) for texts in zip(*((one.before, one.after) for one in ones), strict=True)
        )
        found["same_label"] = _share(labels == after)
    return found


def _guesses(model: MiniBERT, ones: Sequence[_Changed]) -> dict[tuple[str, int], _Guess]:
    """What the model says at the [MASK] of each text; nothing where that was cut off, or without an MLM head."""
    if "mlm" not in model.config.heads:
        return {}
    tokenizer = tokenizer_of(model)
    mask_id, length = tokenizer.mask_id, model.config.max_position_embeddings
    every = dict.fromkeys((text, one.hidden) for one in ones for text in (one.hidden_before, one.hidden_after))
    rows = {asked: text_row(tokenizer, asked[0], length=length) for asked in every}
    whole = {asked: row for asked, row in rows.items() if mask_id in row.ids}
    questions = list(whole)
    found: dict[tuple[str, int], _Guess] = {}
    for numbers, batch in padded_batches(list(whole.values()), tokenizer.pad_id):
        asked_B = [questions[number] for number in numbers]
        places = np.flatnonzero(batch.input_ids == mask_id)
        try:
            scores_BV = model.mlm_logits(batch._replace(masked_positions=places))
        except FloatingPointError as error:
            raise NonFiniteError("model", got=str(error), expected="weights with which all stays finite") from error
        losses = token_losses(scores_BV, np.array([hidden for _, hidden in asked_B], np.int64))
        guesses = map(_Guess, scores_BV.argmax(axis=1).tolist(), losses.tolist())
        found |= dict(zip(asked_B, guesses, strict=True))
    return found


def _labels(model: MiniBERT, texts: Sequence[str]) -> NDArray[np.int64]:
    tokenizer = tokenizer_of(model)
    rows = [text_row(tokenizer, text, length=model.config.max_position_embeddings) for text in texts]
    labels = np.empty(len(rows), np.int64)
    for numbers, batch in padded_batches(rows, tokenizer.pad_id):
        logits, _ = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids, head="classifier")
        labels[numbers] = logits.argmax(axis=1)
    return labels


def _mean(values: NDArray[np.float64]) -> dict[str, Any]:
    found = clustered_mean(values, np.ones(len(values)))
    return {"value": found.mean, "interval": found.interval.ends()}


def _share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    return {"value": float(hits.mean()), "interval": list(wilson_interval(int(hits.sum()), len(hits)))}
