"""Which layer knows a word's part of speech? A linear probe on every layer, with the controls that it needs.

What is chosen, is chosen on the dev part: strength of the penalty, layer, pooling. The test part is looked at once, for
the lines of the table (`layer_probes.py`). Every layer is searched with a part of the training sentences (`SEARCHED`),
drawn from the whole treebank, since its sentences are sorted by genre; the lines of the table are trained on all of
them.

    majority tag per word     what a list of words with their commonest tag reaches: no model at all
    the same per type         such a list of words as the tokenizer reads them: without capitals, if it drops them
    pieces' own vectors       the embedding table, before position and context
    untrained model           the same architecture with its first values: what a random network of attention gives
    control task              a random tag for each word type: what the probe learns by heart (base.py)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.task_sets.treebanks import TaggedSentence, Treebank, read_conllu, treebank
from mini_bert.errors import InvalidInputError
from mini_bert.inference.hidden_states import POOLINGS, TOKEN, state_names
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.classification import confusion_matrix, per_class
from mini_bert.model.bert import MiniBERT
from mini_bert.probing.base import STRENGTHS, Classes, control_labels, difference, majority_labels, score
from mini_bert.probing.layer_probes import Final, Search
from mini_bert.probing.tagged_words import Part, drawn

if TYPE_CHECKING:
    from mini_bert.data.work import Progress

SEARCHED = 2500
"""Training sentences with which layers and strengths are compared: 41,000 words of English-EWT, 4 s a fit."""

QUICK = 300
"""Training, dev and test sentences of a quick look, which tries one strength and one pooling."""

MOST = 15_000
"""Training sentences where nothing else is asked: all of English-EWT, a third of Brown (1 GB of features)."""

Line = dict[str, Any]
"""Plain values for JSON."""


def probe_part_of_speech(
    model: MiniBERT,
    bank: Treebank | str = "ud-ewt",
    *,
    test_file: str | Path | None = None,
    max_sentences: int | None = None,
    layers: Sequence[int] | None = None,
    quick: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Probe a model for parts of speech.

    Args:
        model: any model with a tokenizer; it stays as it is.
        bank: a treebank, or the name of one.
        test_file: a CoNLL-U file of one's own, instead of the treebank's test part.
        max_sentences: train on so many sentences at most; by default 15,000.
        layers: of 0 (embeddings) to L; by default all.
        quick: 300 sentences of each part (`test_file` is read whole), one strength, the mean of pieces alone.
        seed: which sentences are taken where not all are, the control task, the untrained model.
        progress: told how far it is.

    Returns:
        Plain values for JSON, of kind `part_of_speech`; `mini_bert.reports.part_of_speech` draws them.

    Raises:
        DataError, ChecksumError: the treebank or `test_file` cannot be read.
        InvalidInputError: no tokenizer, no such layer, or no sentences.
        MissingExtraError: the extra `probes` is not installed.
    """
    begin = time.perf_counter()
    told = progress or (lambda what, done, total: None)
    tokenizer = tokenizer_of(model)
    if max_sentences is not None and max_sentences < 1:
        raise InvalidInputError("max_sentences", got=max_sentences, expected="at least 1")
    states = _states(model, layers)
    told("reading sentences", 0, 0)
    bank = treebank(bank) if isinstance(bank, str) else bank
    train, dev, test = _parts(model, bank, test_file, max_sentences or MOST, quick, seed)
    untrained = untrained_like(model, seed)
    control = control_labels(train.labels, seed)

    strengths, poolings = (STRENGTHS[1:2], POOLINGS[1:]) if quick else (STRENGTHS, POOLINGS)
    search = Search(train.upto(SEARCHED), dev, strengths, poolings, tokenizer.pad_id, told)
    lines = search.lines("trained", model, {**states, "token": TOKEN}, control)
    untrained_lines = search.lines("untrained", untrained, states)
    chosen = _chosen(lines, untrained_lines)

    final = Final(train, test, tokenizer.pad_id, told)
    of_model = {states[chosen["model"]["layer"]]: chosen["model"], TOKEN: chosen["token"]}
    of_untrained = {states[chosen["untrained"]["layer"]]: chosen["untrained"]}
    probed = [*final.predictions(model, of_model, control), *final.predictions(untrained, of_untrained)]
    called = {**dict(zip(chosen, probed, strict=True)), **_majorities(train, test)}

    sentence = test.rows.sentence
    hits = {name: labels == test.labels for name, labels in called.items()}
    control_hits = final.control == control(test.types)
    confusion = confusion_matrix(test.labels, called["model"], len(bank.tags))
    return {
        "kind": "part_of_speech",
        "quick": quick,
        "seed": seed,
        "treebank": {
            "name": bank.name,
            "test_file": None if test_file is None else str(test_file),
            "sentences": {"train": train.sentences, "dev": dev.sentences, "test": test.sentences},
            "words": {"train": len(train.words), "dev": len(dev.words), "test": len(test.words)},
            "searched_sentences": min(SEARCHED, train.sentences),
            "unk_share": float(np.mean([tokenizer.unk_id in kind for kind in test.types])),
        },
        "layers": [*lines, *untrained_lines],
        "best": _how(chosen["model"]),
        "table": _table(hits, chosen, sentence, np.isin(test.words, train.words)),
        "differences": [
            {"name": name, **difference(hits["model"], hit, sentence)} for name, hit in hits.items() if name != "model"
        ],
        "control": {**score(control_hits, sentence), "selectivity": difference(hits["model"], control_hits, sentence)},
        "learning_curve": final.curve,
        "confusion": {"tags": list(bank.tags), "counts": confusion.tolist()},
        "tags": [
            {"tag": tag, "n": int(row.sum()), "precision": float(p), "recall": float(r), "f1": float(f)}
            for tag, row, p, r, f in zip(bank.tags, confusion, *per_class(confusion), strict=True)
        ],
        "converged": final.converged and all(line["converged"] for line in (*lines, *untrained_lines)),
        "seconds": time.perf_counter() - begin,
    }


def _states(model: MiniBERT, layers: Sequence[int] | None) -> dict[int | str, str]:
    """The layers that are probed, ascending, and the names of their states, as a tap sees them."""
    L = model.config.num_hidden_layers
    asked = range(L + 1) if layers is None else sorted(set(layers))
    if not asked or not 0 <= asked[0] <= asked[-1] <= L:
        raise InvalidInputError("layers", got=list(asked), expected=f"some of 0 to {L}")
    names = state_names(model.config)
    return {layer: names[layer] for layer in asked}


def _parts(
    model: MiniBERT, bank: Treebank, test_file: str | Path | None, most: int, quick: bool, seed: int
) -> tuple[Part, Part, Part]:
    """Training, dev and test sentences as the model reads them, in an order drawn by `seed`."""
    few = QUICK if quick else None
    tested = bank.test if test_file is None else read_conllu(Path(test_file), bank.tags)
    tokenizer, length = tokenizer_of(model), model.config.max_position_embeddings

    def part(name: str, sentences: Sequence[TaggedSentence], most: int | None) -> Part:
        return Part.of(tokenizer, drawn(sentences, most, seed, name), bank.tags, length)

    return (
        part("train", bank.train, min(most, few or most)),
        part("dev", bank.dev, few),
        part("test", tested, few if test_file is None else None),
    )


def _chosen(lines: Sequence[Line], untrained_lines: Sequence[Line]) -> dict[str, Line]:
    """The best line of the model and that of the untrained one, and the pieces' own vectors, pooled as the best is."""
    best = max((line for line in lines if line["layer"] != "token"), key=_accuracy)
    token = next(line for line in lines if (line["layer"], line["pooling"]) == ("token", best["pooling"]))
    return {"model": best, "token": token, "untrained": max(untrained_lines, key=_accuracy)}


def _majorities(train: Part, test: Part) -> dict[str, Classes]:
    """What lists of words with their commonest tag call the test words [N]: no model at all."""
    per_word, per_type = majority_labels(train.words, train.labels), majority_labels(train.types, train.labels)
    return {
        "majority_per_word": per_word.predict(test.words),
        "majority_per_type": per_type.predict(test.types),
        "majority": np.full(len(test.labels), per_word.of_all),
    }


def _table(
    hits: Mapping[str, NDArray[np.bool_]],
    chosen: Mapping[str, Line],
    sentence: NDArray[np.int64],
    known: NDArray[np.bool_],
) -> list[Line]:
    """A line for each way to call the test words [N]: how it was chosen, and how often it is right."""
    return [
        {
            "name": name,
            **_how(chosen.get(name, {})),
            **score(hit, sentence),
            "known": score(hit[known], sentence[known]),
            "unknown": score(hit[~known], sentence[~known]),
        }
        for name, hit in hits.items()
    ]


def _how(line: Line) -> Line:
    """What was chosen; None where there was nothing to choose."""
    return {key: line.get(key) for key in ("layer", "pooling", "strength")}


def _accuracy(line: Line) -> float:
    return float(line["accuracy"])
