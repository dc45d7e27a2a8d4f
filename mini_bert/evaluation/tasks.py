"""How well does a model answer what the extra tasks ask, on held-out text?

The rows are made as in training (`mini_bert.data.questions`), once for all. Masked language modelling is scored on rows
of its own (`masked_lm.py`), which are the same whatever else is learned: its numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mini_bert.batch import Batch
from mini_bert.errors import NonFiniteError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.model.tasks import TaskSum, task_losses

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenSet
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

ROWS_AT_ONCE = 16
"""Rows scored at a time: all of a row's tokens may be read."""


class HeldOut:
    """The held-out rows of a configuration; called with a model, it makes an evaluation record.

    Args:
        token_set: the held-out side of a corpus.
        config: of the run.
        tokenizer: that made the ids.
    """

    def __init__(self, token_set: TokenSet, config: Config, tokenizer: WordPiece) -> None:
        from mini_bert.data.batches import held_out_batches, held_out_task_batches

        self._weights = config.tasks
        self._masked = held_out_batches(token_set, config, tokenizer)
        self._tasks = held_out_task_batches(token_set, config, tokenizer)

    def __call__(self, model: MiniBERT) -> dict[str, Any]:
        """Plain values for JSON: what `MaskedLMResult.to_dict` has, and loss and accuracy of each extra task.

        Where `masked_lm` has no weight, `loss` is `total_loss`, the weighted sum of the tasks' losses.

        Raises:
            NonFiniteError: a score is not finite.
        """
        tasks = evaluate_tasks(model, self._tasks)
        if not self._weights.masked_lm:
            total = sum(getattr(self._weights, task) * of.loss / of.items for task, of in tasks.items() if of.items)
            return {"loss": total, "total_loss": total, **_named(tasks)}
        return {**evaluate_masked_lm(model, self._masked).to_dict(), **_named(tasks)}


def evaluate_tasks(model: MiniBERT, batches: Sequence[Batch]) -> dict[str, TaskSum]:
    """Sums over all batches of each task that they ask, masked language modelling left out.

    Raises:
        NonFiniteError: the model overflows.
        InvalidInputError: the model lacks a head.
    """
    sums: dict[str, TaskSum] = {}
    for batch in batches:
        for start in range(0, len(batch.input_ids), ROWS_AT_ONCE):
            try:
                measured = task_losses(model, batch.rows(start, min(start + ROWS_AT_ONCE, len(batch.input_ids))))
            except FloatingPointError as error:
                raise NonFiniteError(
                    "model",
                    got=f"{error} on the way to the answers",
                    expected="weights with which all stays finite",
                    advice="Training has diverged: start anew with a lower --train.lr.",
                ) from error
            for task, of in measured.items():
                if task != "masked_lm":
                    before = sums.get(task, TaskSum(0.0, 0, 0))
                    sums[task] = TaskSum(before.loss + of.loss, before.items + of.items, before.correct + of.correct)
    return sums


def scored_tasks(model: MiniBERT, config: Config, token_set: TokenSet, tokenizer: WordPiece) -> list[dict[str, Any]]:
    """For each extra task that has a weight, plain values for JSON: `task`, `loss`, `accuracy`, `guessing`, `answers`.

    `guessing` is the share of the more frequent answer; None where the model's own draws make the answers.

    Raises:
        NonFiniteError, InvalidInputError: as `evaluate_tasks`.
    """
    from mini_bert.data.batches import held_out_task_batches

    batches = held_out_task_batches(token_set, config, tokenizer)
    ones: dict[str, int] = {}
    for question in (question for batch in batches for question in batch.questions):
        ones[question.task] = ones.get(question.task, 0) + int((question.labels == 1).sum())
    drawn = {"replaced_token"} if config.tasks.replacements == "model" else set()
    return [
        {
            "task": task,
            "loss": of.loss / of.items,
            "accuracy": of.correct / of.items,
            "guessing": None if task in drawn else max(ones[task], of.items - ones[task]) / of.items,
            "answers": of.items,
        }
        for task, of in evaluate_tasks(model, batches).items()
        if of.items
    ]


def _named(tasks: dict[str, TaskSum]) -> dict[str, float]:
    named = {}
    for task, of in tasks.items():
        if of.items:
            named[f"{task}_loss"], named[f"{task}_accuracy"] = of.loss / of.items, of.correct / of.items
    return named
