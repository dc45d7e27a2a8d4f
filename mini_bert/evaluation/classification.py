"""How good is a fine-tuned model on labelled texts, beside what needs no model?

Of classes: accuracy, F1 of the second class where there are two, Matthews' correlation, the confusion matrix; beside
what always naming one class reaches: of accuracy and Matthews' correlation the most frequent class of the very texts
that are scored, of F1 the second class, so that no blind guess can beat it.
Of scores: Pearson's and Spearman's correlation and the mean squared error; beside the mean of the very scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.task_sets.labelled import LabelledSet
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference.text_labels import label_scores
from mini_bert.metrics.classification import accuracy, confusion_matrix, f1, matthews
from mini_bert.metrics.correlations import pearson, spearman
from mini_bert.ops import cross_entropy

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT


def evaluate_labelled(model: MiniBERT, examples: LabelledSet) -> dict[str, Any]:
    """Scores of a fine-tuned model on labelled texts, as plain values for JSON, of kind `labelled`.

    Args:
        model: with the head `classifier` and a tokenizer.
        examples: read with the model's names of classes (`read_labelled(path, classes_of(model))`).

    Raises:
        InvalidInputError: the model lacks head or tokenizer, or has another number of classes.
        NonFiniteError: it overflows.
    """
    return scores(model_outputs(model, examples), examples)


def classes_of(model: MiniBERT) -> tuple[str, ...]:
    """The names of a fine-tuned model's classes; none where its one output is a score."""
    return () if model.config.num_labels == 1 else model.config.label_names


def model_outputs(model: MiniBERT, examples: LabelledSet) -> NDArray[np.float64]:
    """The classifier's outputs [n, C] for the examples.

    Raises:
        InvalidInputError, NonFiniteError: as `evaluate_labelled`.
    """
    outputs = max(1, len(examples.classes))
    if model.config.num_labels != outputs:
        raise InvalidInputError(
            "model",
            got=f"{model.config.num_labels} outputs",
            expected=f"{outputs}, for {', '.join(examples.classes) or 'a score'}",
            advice="A model is scored by labels such as it was fine-tuned on.",
        )
    return label_scores(model, [(example.text, example.pair) for example in examples.examples])


def scores(outputs: NDArray[np.float64], examples: LabelledSet) -> dict[str, Any]:
    """As `evaluate_labelled`, from the outputs [n, C] of whatever makes such.

    Raises:
        NonFiniteError: an output is not finite.
    """
    if not np.isfinite(outputs).all():
        raise NonFiniteError("outputs", got="NaN or infinity", expected="finite numbers")
    common = {"kind": "labelled", "task": examples.name, "n": len(examples.examples), "metric": examples.metric}
    measured = _of_scores(outputs, examples) if examples.regression else _of_classes(outputs, examples)
    found = {**common, "classes": list(examples.classes), **measured}
    return {**found, "score": found[examples.metric], "interval": found[f"{examples.metric}_interval"]}


def _of_classes(outputs: NDArray[np.float64], examples: LabelledSet) -> dict[str, Any]:
    labels, C = examples.labels.astype(np.int64), len(examples.classes)
    confusion = confusion_matrix(labels, outputs.argmax(axis=1), C)
    majority = int(np.bincount(labels, minlength=C).argmax())
    blind = _by_confusion(confusion_matrix(labels, np.full(len(labels), majority), C))
    if C == 2:
        of_second = _by_confusion(confusion_matrix(labels, np.ones_like(labels), C))
        blind |= {"f1": of_second["f1"], "f1_interval": of_second["f1_interval"], "f1_class": examples.classes[1]}
    return {
        "loss": float(cross_entropy.forward(outputs, targets=labels)[0]) / len(labels),
        **_by_confusion(confusion),
        "confusion": confusion.tolist(),
        "majority": {"class": examples.classes[majority], **blind},
    }


def _by_confusion(confusion: NDArray[np.int64]) -> dict[str, Any]:
    measured = {"accuracy": accuracy(confusion), "matthews": matthews(confusion)}
    if len(confusion) == 2:
        measured["f1"] = f1(confusion)
    return {
        key: value
        for name, score in measured.items()
        for key, value in ((name, score.value), (f"{name}_interval", list(score.interval)))
    }


def _of_scores(outputs: NDArray[np.float64], examples: LabelledSet) -> dict[str, Any]:
    found, right = outputs[:, 0], examples.labels.astype(np.float64)
    error = float(((found - right) ** 2).mean())
    by_value, by_rank = pearson(found, right), spearman(found, right)
    return {
        "loss": error,
        "pearson": by_value.value,
        "pearson_interval": list(by_value.interval),
        "spearman": by_rank.value,
        "spearman_interval": list(by_rank.interval),
        "mean": {"score": float(right.mean()), "loss": float(right.var()), "pearson": 0.0, "spearman": 0.0},
    }
