"""Where does a fine-tuned model err? By length, negation and rare words, and the worst cases one by one.

Each pattern parts the texts that were scored into groups, with the share of right ones (of scores: the mean miss) and
its interval. Groups are compared with the rest of the texts, not with each other's causes: long texts have more
negations, and rare words make texts longer in pieces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.task_sets.labelled import LabelledExample, LabelledSet
from mini_bert.metrics.clustered_means import clustered_mean
from mini_bert.metrics.proportions import wilson_interval

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece

WORST = 10
"""Cases that are listed."""
_PARTS = ("shortest third", "middle third", "longest third")
_RARITY = ("commonest third", "middle third", "rarest third")
_NEGATION = re.compile(
    r"\b(?:no|not|never|nothing|none|nobody|nowhere|neither|nor|without|hardly|cannot"
    r"|(?:ai|are|ca|could|did|do|does|had|has|have|is|must|need|should|was|were|wo|would)nt)\b|n['’]t\b",
    re.IGNORECASE,
)


def error_patterns(outputs: NDArray[np.float64], examples: LabelledSet, tokenizer: WordPiece) -> dict[str, Any]:
    """Groups with their scores, and the worst cases, as plain values for JSON, of kind `error_patterns`.

    Args:
        outputs: [n, C] of the model for the examples.
        examples: that were scored.
        tokenizer: of the model; a text is rare when a word of it falls into many pieces.
    """
    lengths, pieces, negated = [], [], []
    for example in examples.examples:
        text = example.text if example.pair is None else f"{example.text} {example.pair}"
        words = text.split()
        lengths.append(len(words))
        pieces.append(len(tokenizer.encode_ids(text)) / len(words))
        negated.append(has_negation(text))
    measured = _measured(outputs, examples)
    groups = [
        *_thirds("length", lengths, _PARTS, measured),
        *_groups("negation", ["with" if has else "without" for has in negated], ("without", "with"), measured),
        *_thirds("pieces a word", pieces, _RARITY, measured),
    ]
    if not examples.regression:
        names = [examples.classes[int(label)] for label in examples.labels]
        groups += _groups("class", names, examples.classes, measured)
    return {
        "kind": "error_patterns",
        "task": examples.name,
        "n": len(examples.examples),
        "measure": "mean miss" if examples.regression else "accuracy",
        "groups": groups,
        "worst": worst_cases(outputs, examples),
    }


def has_negation(text: str) -> bool:
    """Whether a word of negation stands in the text.

    >>> has_negation("it is n't funny"), has_negation("Don't!"), has_negation("dont")
    (True, True, True)
    >>> has_negation("a notable knot"), has_negation("a brilliant moment")
    (False, False)
    """
    return _NEGATION.search(text) is not None


def worst_cases(outputs: NDArray[np.float64], examples: LabelledSet, most: int = WORST) -> list[dict[str, Any]]:
    """The wrong answers that were given with most confidence, or the scores that miss by most; the worst first."""
    if examples.regression:
        misses = np.abs(outputs[:, 0] - examples.labels.astype(np.float64))
        order = np.argsort(-misses, kind="stable")[:most]
        return [
            {**_case(examples.examples[i]), "label": float(examples.labels[i]), "given": float(outputs[i, 0])}
            for i in order
        ]
    labels, called = examples.labels.astype(np.int64), outputs.argmax(axis=1)
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    confidence = np.where(called == labels, -1.0, shares[np.arange(len(labels)), called])
    order = [i for i in np.argsort(-confidence, kind="stable")[:most] if confidence[i] >= 0]
    return [
        {
            **_case(examples.examples[i]),
            "label": examples.classes[labels[i]],
            "given": examples.classes[called[i]],
            "probability": float(confidence[i]),
        }
        for i in order
    ]


def _case(example: LabelledExample) -> dict[str, Any]:
    return {"text": example.text, "pair": example.pair}


def _measured(outputs: NDArray[np.float64], examples: LabelledSet) -> NDArray[np.float64]:
    """What groups are compared by, of each text [n]: 1 for the right class and 0 for another; of a score, the miss."""
    if examples.regression:
        return np.abs(outputs[:, 0] - examples.labels.astype(np.float64))
    return (outputs.argmax(axis=1) == examples.labels).astype(np.float64)


def _thirds(
    pattern: str, values: Sequence[float], names: tuple[str, ...], measured: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Three groups by size; equal values stay together, so that they are no thirds where many are equal."""
    if min(values) == max(values):
        return []
    cuts = np.quantile(values, [1 / 3, 2 / 3])
    parts = [names[int((value > cuts).sum())] for value in values]
    found = _groups(pattern, parts, names, measured)
    for group in found:
        mine = [value for value, part in zip(values, parts, strict=True) if part == group["group"]]
        group["from"], group["to"] = float(min(mine)), float(max(mine))
    return found


def _groups(
    pattern: str, parts: Sequence[str], names: Sequence[str], measured: NDArray[np.float64]
) -> list[dict[str, Any]]:
    groups, of = [], np.array(parts)
    binary = bool(np.isin(measured, (0.0, 1.0)).all())
    for name in names:
        mine = measured[of == name]
        if not mine.size:
            continue
        interval = (
            wilson_interval(mine.sum(), mine.size) if binary else clustered_mean(mine, np.ones(mine.size)).interval
        )
        groups.append(
            {
                "pattern": pattern,
                "group": name,
                "n": int(mine.size),
                "value": float(mine.mean()),
                "interval": interval.ends(),
            }
        )
    return groups
