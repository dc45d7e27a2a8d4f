"""Which layer tells most of a word, and how much? Probes of many layers on dev; those that are chosen, on test.

What is chosen, is chosen on the dev part (`Search`). The test part is looked at once, with what was chosen (`Final`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mini_bert.inference.hidden_states import word_states
from mini_bert.probing.base import (
    Classes,
    Floats,
    Items,
    LinearProbe,
    difference,
    fit_linear_probe,
    majority_labels,
    score,
)
from mini_bert.probing.tagged_words import Part

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

CURVE = (100, 300, 1000, 3000)
"""Training sentences of the learning curve, and all."""

ControlTask = Callable[[Sequence[Hashable]], Classes]
"""Word types [N] → labels [N] (`control_labels`)."""


class Search(NamedTuple):
    """Layers and poolings, compared on the dev part."""

    train: Part
    dev: Part
    strengths: Sequence[float]
    """Of which each line takes the one that suits it."""
    poolings: Sequence[str]
    pad_id: int
    told: Progress

    def lines(
        self,
        of: str,
        model: MiniBERT,
        states: Mapping[int | str, str],
        control: ControlTask | None = None,
    ) -> list[dict[str, Any]]:
        """A line for each layer and pooling: accuracy on dev with the strength that suits it; with `control`, more.

        Args:
            of: what the lines call the model.
            model: whose states are read.
            states: layer → the name of its state, as a tap sees it.
            control: the control task; the same probe learns it too, and the line has its accuracy and the selectivity.
        """
        train, dev = (
            word_states(model, part.rows, list(states.values()), self.poolings, pad_id=self.pad_id, progress=self.told)
            for part in (self.train, self.dev)
        )
        sentence = self.dev.rows.sentence
        found: list[dict[str, Any]] = []
        for layer, name in states.items():
            for pooling in self.poolings:
                self.told(f"probing: {of}", len(found), len(states) * len(self.poolings))
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
        control: ControlTask | None = None,
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
