"""Which layer knows a word's part of speech? A linear probe on every layer, with the controls that it needs.

What is chosen, is chosen on the dev part: strength of the penalty, layer, pooling. The test part is looked at once, for
the lines of the table. Every layer is searched with a part of the training sentences (`SEARCHED`), drawn from the whole
treebank, since its sentences are sorted by genre; the lines of the table are trained on all of them.

    majority tag per word     what a list of words with their commonest tag reaches: no model at all
    the same per type         such a list of words as the tokenizer reads them: without capitals, if it drops them
    pieces' own vectors       the embedding table, before position and context
    untrained model           the same architecture with its first values: what a random network of attention gives
    control task              a random tag for each word type: what the probe learns by heart (base.py)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mini_bert.data.task_sets.treebanks import TaggedSentence, Treebank, read_conllu, treebank
from mini_bert.errors import InvalidInputError
from mini_bert.inference.hidden_states import POOLINGS, TOKEN, state_names, word_states
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.classification import confusion_matrix, per_class
from mini_bert.model.bert import MiniBERT
from mini_bert.probing.base import (
    STRENGTHS,
    Classes,
    Floats,
    Items,
    LinearProbe,
    control_labels,
    difference,
    fit_linear_probe,
    majority_labels,
    score,
)
from mini_bert.probing.tagged_words import Part, drawn

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

SEARCHED = 2500
"""Training sentences with which layers and strengths are compared: 41,000 words of English-EWT, 4 s a fit."""

QUICK = 300
"""Training, dev and test sentences of a quick look, which tries one strength and one pooling."""

MOST = 15_000
"""Training sentences where nothing else is asked: all of English-EWT, a third of Brown (1 GB of features)."""

CURVE = (100, 300, 1000, 3000)
"""Training sentences of the learning curve, and all."""


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
        quick: 300 sentences of each part, one strength, the mean of pieces alone.
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
    tokenizer, config = _tokenizer(model), model.config
    if max_sentences is not None and max_sentences < 1:
        raise InvalidInputError("max_sentences", got=max_sentences, expected="at least 1")
    L = config.num_hidden_layers
    layers = range(L + 1) if layers is None else sorted(set(layers))
    if not layers or not 0 <= layers[0] <= layers[-1] <= L:
        raise InvalidInputError("layers", got=list(layers), expected=f"some of 0 to {L}")
    told("reading sentences", 0, 0)
    bank = treebank(bank) if isinstance(bank, str) else bank
    tested = bank.test if test_file is None else read_conllu(Path(test_file), bank.tags)
    few = QUICK if quick else None
    most = max_sentences or MOST

    def part(name: str, sentences: Sequence[TaggedSentence], most: int | None) -> Part:
        return Part.of(tokenizer, drawn(sentences, most, seed, name), bank.tags, config.max_position_embeddings)

    train = part("train", bank.train, min(most, few or most))
    dev, test = part("dev", bank.dev, few), part("test", tested, few if test_file is None else None)
    untrained = untrained_like(model, seed)
    names: dict[int | str, str] = {n: name for n, name in enumerate(state_names(config)) if n in layers}
    control = control_labels(train.labels, seed)

    search = Search(train.upto(SEARCHED), dev, STRENGTHS[1:2] if quick else STRENGTHS, tokenizer.pad_id, told)
    lines = search.lines("trained", model, {**names, "token": TOKEN}, POOLINGS[1:] if quick else POOLINGS, control)
    best = max((line for line in lines if line["layer"] != "token"), key=_accuracy)
    own = next(line for line in lines if (line["layer"], line["pooling"]) == ("token", best["pooling"]))
    untrained_lines = search.lines("untrained", untrained, names, POOLINGS[1:] if quick else POOLINGS)
    best_untrained = max(untrained_lines, key=_accuracy)

    final = Final(train, test, tokenizer.pad_id, told)
    chosen = {"model": best, "token": own, "untrained": best_untrained}
    called: dict[str, Classes] = {}
    called["model"], called["token"] = final.predictions(model, {names[best["layer"]]: best, TOKEN: own}, control)
    (called["untrained"],) = final.predictions(untrained, {names[best_untrained["layer"]]: best_untrained})
    majority = majority_labels(train.words, train.labels)
    called["majority_per_word"] = majority.predict(test.words)
    called["majority_per_type"] = majority_labels(train.types, train.labels).predict(test.types)
    called["majority"] = np.full(len(test.labels), majority.of_all)

    known, sentence = np.isin(test.words, train.words), test.rows.sentence
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
        "best": {key: best[key] for key in ("layer", "pooling", "strength")},
        "table": [
            {
                "name": name,
                **{key: chosen[name][key] if name in chosen else None for key in ("layer", "pooling", "strength")},
                **score(hit, sentence),
                "known": score(hit[known], sentence[known]),
                "unknown": score(hit[~known], sentence[~known]),
            }
            for name, hit in hits.items()
        ],
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


class Search(NamedTuple):
    """What is compared on the dev part."""

    train: Part
    dev: Part
    strengths: Sequence[float]
    pad_id: int
    told: Progress

    def lines(
        self,
        of: str,
        model: MiniBERT,
        names: Mapping[int | str, str],
        poolings: Sequence[str],
        control: Callable[[Sequence[Hashable]], Classes] | None = None,
    ) -> list[dict[str, Any]]:
        """A line for each layer and pooling: accuracy on dev with the strength that suits it; with `control`, more.

        Then the same probe also learns the control task, and the line has its accuracy and the selectivity.
        """
        train, dev = (
            word_states(model, part.rows, list(names.values()), poolings, pad_id=self.pad_id, progress=self.told)
            for part in (self.train, self.dev)
        )
        sentence = self.dev.rows.sentence
        found: list[dict[str, Any]] = []
        for layer, name in names.items():
            for pooling in poolings:
                self.told(f"probing: {of}", len(found), len(names) * len(poolings))
                x, x_dev = train.pop((name, pooling)), dev.pop((name, pooling))
                probe = fit_linear_probe(Items(x, self.train.labels), self.strengths, Items(x_dev, self.dev.labels))
                hits = probe.predict(x_dev) == self.dev.labels
                line = {
                    "of": of,
                    "layer": layer,
                    "pooling": pooling,
                    "strength": probe.strength,
                    "updates": probe.updates,
                    "converged": probe.converged,
                    **score(hits, sentence),
                }
                if control:
                    by_heart, converged = _by_heart(x, control(self.train.types), x_dev, probe.strength)
                    control_hits = by_heart == control(self.dev.types)
                    line["converged"] &= converged
                    line["control"] = score(control_hits, sentence)
                    line["selectivity"] = difference(hits, control_hits, sentence)
                found.append(line)
        return found


class Final:
    """What was chosen, trained on all training sentences and looked at on the test part."""

    def __init__(self, train: Part, test: Part, pad_id: int, told: Progress) -> None:
        self._train, self._test, self._pad_id, self._told = train, test, pad_id, told
        self.control: Classes = np.zeros(0, np.int64)
        """[N] what the probe of the control task calls the test words."""
        self.curve: list[dict[str, Any]] = []
        """Accuracy by number of training sentences."""
        self.converged = True

    def predictions(
        self,
        model: MiniBERT,
        chosen: Mapping[str, Mapping[str, Any]],
        control: Callable[[Sequence[Hashable]], Classes] | None = None,
    ) -> list[Classes]:
        """What the probe of each line calls the test words [N]; with `control`, fill in `control` and `curve` too.

        Args:
            model: whose states are read.
            chosen: the name of a state, as a tap sees it, and the line of the search that says how it is read.
            control: the control task; it and the curve are those of the first of `chosen`.
        """
        poolings = sorted({line["pooling"] for line in chosen.values()})
        train, test = (
            word_states(model, part.rows, list(chosen), poolings, pad_id=self._pad_id, progress=self._told)
            for part in (self._train, self._test)
        )
        called: list[Classes] = []
        for name, line in chosen.items():
            x, x_test = train.pop((name, line["pooling"])), test.pop((name, line["pooling"]))
            called.append(self._fit(x, self._train.labels, line).predict(x_test))
            if control and not self.curve:
                self._curve(x, x_test, line, called[0])
                self.control, converged = _by_heart(x, control(self._train.types), x_test, line["strength"])
                self.converged &= converged
        return called

    def _fit(self, x: Floats, labels: Classes, line: Mapping[str, Any]) -> LinearProbe:
        self._told(f"probing: {len(x):,} words", 0, 0)
        probe = fit_linear_probe(Items(x, labels), [line["strength"]])
        self.converged &= probe.converged
        return probe

    def _curve(self, x: Floats, x_test: Floats, line: Mapping[str, Any], of_all: Classes) -> None:
        sentence, labels = self._train.rows.sentence, self._train.labels
        for sentences in [*(n for n in CURVE if n < self._train.sentences), self._train.sentences]:
            n = int(np.searchsorted(sentence, sentences))
            if n == len(x):
                predictions = of_all
            elif len(np.unique(labels[:n])) > 1:
                predictions = self._fit(x[:n], labels[:n], line).predict(x_test)
            else:
                continue
            majority = majority_labels(self._train.words[:n], labels[:n]).predict(self._test.words)
            self.curve.append(
                {
                    "sentences": sentences,
                    "words": n,
                    **score(predictions == self._test.labels, self._test.rows.sentence),
                    "majority_per_word": score(majority == self._test.labels, self._test.rows.sentence),
                }
            )


def _by_heart(x: Floats, labels: Classes, x_test: Floats, strength: float) -> tuple[Classes, bool]:
    """What a probe of the control task calls `x_test`, and whether it converged; of few words all may be one class."""
    if (labels == labels[0]).all():
        return np.full(len(x_test), labels[0]), True
    probe = fit_linear_probe(Items(x, labels), [strength])
    return probe.predict(x_test), probe.converged


def _accuracy(line: Mapping[str, Any]) -> float:
    return float(line["accuracy"])


def _tokenizer(model: MiniBERT) -> WordPiece:
    if model.tokenizer is None:
        raise InvalidInputError("model", got="no tokenizer", expected="one with a vocabulary: vocab.txt beside it")
    return model.tokenizer
