"""A fine-tuned model on a labelled file of the user's own: scores, where it errs, and its worst cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.data.task_sets.labelled import read_labelled
from mini_bert.data.task_sets.labelled_files import rows_of_file
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.classification import classes_of, model_outputs, scores
from mini_bert.evaluation.error_patterns import error_patterns
from mini_bert.inference.tokenizer_of import tokenizer_of

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT


def evaluate_task_file(model: MiniBERT, path: str | Path) -> dict[str, Any]:
    """Plain values for JSON: `results`, of the kinds `labelled` and `error_patterns`.

    Args:
        model: with the head `classifier` and a tokenizer.
        path: .tsv, .csv or .jsonl, with the model's names of classes, or their numbers, as labels.

    Raises:
        InvalidInputError: the model lacks head or tokenizer.
        DataError: the file cannot be read so, or has a label that the model does not know.
        NonFiniteError: it overflows.
    """
    path = Path(path)
    if "classifier" not in model.config.heads:
        rows_of_file(path)  # what is wrong with the file comes first
        raise InvalidInputError(
            "model",
            got=f"a model with the heads {', '.join(model.config.heads) or 'none'}",
            expected="one that was fine-tuned: a head classifier",
            advice=f"Fine-tune it first: mini-bert finetune NAME --train-file {path.name}.",
        )
    examples = read_labelled(path, classes_of(model))
    outputs = model_outputs(model, examples)
    return {"results": [scores(outputs, examples), error_patterns(outputs, examples, tokenizer_of(model))]}
