"""All tasks of a batch at once: one forward and one backward pass, whatever they ask.

    L    = Σ_k w_k / N_k Σ_i L_ki                                            (TASK.1)
    dx_r = Σ_k dx_kr                                                         (TASK.2)
    R    = ∪_k R_k                                                           (TASK.3)

Task k asks at the positions R_k of its own, N_k of them in the whole global batch, and weighs w_k. Its head reads the
rows R_k of the last hidden states, of which the last block computes the union R. Every shard divides by the N_k of the
whole, so that gradients of shards add up to that of L.

Where the model itself makes the replacements (`replaced_token` with guesses), there is a second pass, over rows whose
masks it has filled by draws from its own distribution; no gradient goes through a draw (TOKEN.3).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.batch import Batch, Question
from mini_bert.config.schema import Config
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import FLOAT_ERRORS, EncoderSaved, MiniBERT
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.heads import HEADS
from mini_bert.model.inputs import as_array, check_inputs
from mini_bert.model.parameters import Parameters
from mini_bert.ops import cross_entropy, squared_error
from mini_bert.ops.contract import Array, Tap, identity, rows_of
from mini_bert.random_streams import RandomStream

HEAD_OF = {
    "masked_lm": "mlm",
    "next_sentence": "nsp",
    "sentence_order": "sop",
    "token_order": "std",
    "replaced_token": "rtd",
    "classification": "classifier",
    "regression": "classifier",
}
"""The head of each task in the section `tasks`."""

LOSS_OF: dict[str, Any] = dict.fromkeys(HEAD_OF, cross_entropy) | {"regression": squared_error}
"""The operation that measures each task's answers."""


class TaskSum(NamedTuple):
    """What one task measured on a batch, or on a shard of it."""

    loss: float
    """Sum over its positions, nats; not weighted."""
    items: int
    """How many positions those were."""
    correct: int
    """At how many the likeliest class, or piece, was the right one; of numbers, how many missed by less than a half."""


class _Answer(NamedTuple):
    """What the backward pass needs of one task."""

    question: Question
    rows: Array | slice
    """Which of the rows that are read are its own."""
    head: Any
    loss: Any


def with_task_heads(config: Config) -> Config:
    """The configuration whose model has a head for every task with a weight above 0; heads that it has stay."""
    asked = [head for task, head in HEAD_OF.items() if getattr(config.tasks, task) > 0]
    missing = tuple(head for head in dict.fromkeys(asked) if head not in config.model.heads)
    if not missing:
        return config
    model = config.model.model_dump() | {"heads": (*config.model.heads, *missing)}
    return config.model_copy(update={"model": type(config.model)(**model)})


def task_losses(model: MiniBERT, batch: Batch) -> dict[str, TaskSum]:
    """The sums of every task in `batch.questions`, by its name: forward passes only, no dropout.

    Raises:
        FloatingPointError, InvalidInputError: as `task_losses_and_gradients`.
    """
    batch = _checked(model, batch)
    with np.errstate(**FLOAT_ERRORS):
        sums, _, answers = _forward(model, _first(batch), None, identity)
        if batch.draws is not None:
            sums |= _forward(model, _second(batch, answers), None, identity)[0]
    return sums


def task_losses_and_gradients(
    model: MiniBERT,
    batch: Batch,
    gradients: Parameters | MiniBERTGradients,
    dropout: RandomStream | None = None,
    tap: Tap = identity,
    backward_tap: Tap = identity,
    *,
    activation_checkpointing: bool = False,
) -> dict[str, TaskSum]:
    """The sums of every task in `batch.questions`, by its name; the gradient of L (TASK.1) is added to `gradients`.

    Args:
        model: with a head for each task (`with_task_heads`).
        batch: with `questions`; where it has `draws`, a second pass asks `replaced_token`.
        gradients: parameters of the same shape, or a MiniBERTGradients; added to, never cleared.
        dropout: random numbers for dropout; None: no dropout.
        tap: sees the intermediates of the forward pass.
        backward_tap: sees their gradients.
        activation_checkpointing: as in `mlm_loss_and_gradients`.

    Raises:
        FloatingPointError: an overflow or an invalid operation on the way, as NumPy's errstate finds it.
        InvalidInputError: the batch does not fit the model, or the model lacks a head.
    """
    grads = gradients.gradients if isinstance(gradients, MiniBERTGradients) else gradients
    if grads.table != model.parameters.table:
        raise InvalidInputError("gradients", got=repr(grads), expected=f"the layout of {model.parameters!r}")
    batch = _checked(model, batch)
    with np.errstate(**FLOAT_ERRORS):
        return passes(model, batch, grads, dropout, tap, backward_tap, activation_checkpointing)


def passes(
    model: MiniBERT,
    batch: Batch,
    grads: Parameters,
    dropout: RandomStream | None,
    tap: Tap,
    backward_tap: Tap,
    activation_checkpointing: bool = False,
) -> dict[str, TaskSum]:
    """`task_losses_and_gradients` of a batch that is trusted, with the float errors that NumPy is set to."""
    sums, encoder_saved, answers = _forward(model, _first(batch), dropout, tap, activation_checkpointing)
    _backward(model, grads, encoder_saved, answers, backward_tap)
    if batch.draws is not None:
        second = _second(batch, answers)
        del encoder_saved, answers
        again, encoder_saved, answers = _forward(
            model, second, dropout and dropout.at("second_pass"), tap, activation_checkpointing
        )
        _backward(model, grads, encoder_saved, answers, backward_tap)
        sums |= again
    return sums


def _forward(
    model: MiniBERT, batch: Batch, dropout: RandomStream | None, tap: Tap, activation_checkpointing: bool = False
) -> tuple[dict[str, TaskSum], EncoderSaved | None, list[_Answer]]:
    B, T = batch.input_ids.shape
    sums = {question.task: TaskSum(0.0, 0, 0) for question in batch.questions}
    asked = [question for question in batch.questions if question.positions.size]
    if not asked:
        return sums, None, []
    run = Pass(B, T, batch.attention_mask, dropout, batch.first_row, tap)
    positions = np.unique(np.concatenate([question.positions for question in asked]))  # (TASK.3)
    read = None if positions.size == B * T else Reading.of(positions, B, T)
    x, encoder_saved = model.encode_forward(
        batch.input_ids, batch.token_type_ids, run, read, activation_checkpointing=activation_checkpointing
    )
    x_RH = rows_of(x)
    answers = []
    for question in asked:
        same = question.positions.size == positions.size
        rows = slice(None) if same else np.searchsorted(positions, question.positions)
        x_NH, head = x_RH[rows], HEAD_OF[question.task]
        x_head = x_NH[:, None] if head in _READ_ONE_TOKEN else x_NH
        of_task = run._replace(tap=_of_task(question.task, tap), pooled=question.positions // T)
        logits, head_saved = HEADS[head][0](x_head, model.parameters, model.config, of_task)
        loss, loss_saved = LOSS_OF[question.task].forward(logits, targets=question.labels)
        tap(f"{question.task}.loss", loss)
        if question.task == "regression":
            correct = int((abs(logits[:, 0].real - question.labels) < _NEAR).sum())
        else:
            correct = int((logits.real.argmax(axis=-1) == question.labels).sum())
        sums[question.task] = TaskSum(float(loss.real), question.positions.size, correct)
        answers.append(_Answer(question, rows, head_saved, loss_saved))
    return sums, encoder_saved, answers


def _of_task(task: str, tap: Tap) -> Tap:
    """What a head's intermediates are called where there are several heads: `next_sentence.pooler.output`."""
    return identity if tap is identity else lambda name, value: tap(f"{task}.{name}", value)


_READ_ONE_TOKEN = ("nsp", "sop", "classifier")
"""Heads over the pooler: they take rows [N, T, H] and look at the first token of each."""
_NEAR = 0.5
"""A number that misses by less counts as right."""


def _backward(
    model: MiniBERT, grads: Parameters, encoder_saved: EncoderSaved | None, answers: list[_Answer], tap: Tap
) -> None:
    """Undo `_forward`, last head first, and add all gradients to `grads`."""
    if encoder_saved is None:
        return
    run, read = encoder_saved.run._replace(tap=tap), encoder_saved.read
    R = run.B * run.T if read is None else read.positions.size
    dx_RH = np.zeros((R, model.config.hidden_size), model.dtype)
    for question, rows, head_saved, loss_saved in reversed(answers):
        scale = np.asarray(question.weight / question.items, model.dtype)  # (TASK.1)
        (dlogits,) = LOSS_OF[question.task].backward(scale, loss_saved)
        backward = HEADS[HEAD_OF[question.task]][1]
        of_task = run._replace(tap=_of_task(question.task, tap))
        dx = backward(dlogits, head_saved, model.parameters, grads, model.config, of_task)
        dx_RH[rows] += rows_of(dx)  # (TASK.2): none occurs twice in one task
    model.encode_backward(dx_RH if read is not None else dx_RH.reshape(run.B, run.T, -1), encoder_saved, grads, tap)


# --- the model's own guesses ------------------------------------------------------------------------------------------


def _first(batch: Batch) -> Batch:
    """What the first pass is asked: all, but for replacements that are still to be made."""
    if batch.draws is None:
        return batch
    return batch._replace(questions=tuple(q for q in batch.questions if q.task != "replaced_token"))


def _second(batch: Batch, answers: list[_Answer]) -> Batch:
    """The rows with the model's guesses in the masked places, and which of these are wrong."""
    assert batch.draws is not None
    (asked,) = (question for question in batch.questions if question.task == "replaced_token")
    ids, labels = np.array(batch.input_ids), np.array(asked.labels)
    for question, _, _, saved in answers:
        if question.task == "masked_lm":
            guesses = draw_pieces(saved.exponentials, batch.draws)
            ids.ravel()[question.positions] = guesses
            labels[np.searchsorted(asked.positions, question.positions)] = guesses != question.labels  # (TOKEN.2)
    return batch._replace(input_ids=ids, questions=(asked._replace(labels=labels),))


_DRAWN_AT_ONCE = 64
"""Positions, so that the sums in float64 need little memory beside the logits."""


def draw_pieces(weights: Array, draws: Array) -> Array:
    """Pieces [M] with probabilities in proportion to `weights` [M, V]: the first at which the sum so far exceeds its
    share `draws` [M] of the whole (TOKEN.3)."""
    pieces = np.empty(draws.size, np.int64)
    for first in range(0, draws.size, _DRAWN_AT_ONCE):
        part = slice(first, first + _DRAWN_AT_ONCE)
        sums = np.cumsum(weights[part].real, axis=-1, dtype=np.float64)
        pieces[part] = (sums <= draws[part, None] * sums[:, -1:]).sum(axis=-1)
    return pieces


# --- is this something that can be asked? -----------------------------------------------------------------------------


def _checked(model: MiniBERT, batch: Batch) -> Batch:
    config = model.config
    ids_BT, mask_BT, types_BT = check_inputs(config, batch.input_ids, batch.attention_mask, batch.token_type_ids)
    if not batch.questions:
        raise InvalidInputError("batch.questions", got="none", expected="a task")
    questions = tuple(_checked_question(model, question, ids_BT.size) for question in batch.questions)
    tasks = [question.task for question in questions]
    if len(set(tasks)) != len(tasks):
        raise InvalidInputError("batch.questions", got=f"{tasks}", expected="each task once")
    if batch.draws is not None:
        masked = [question.positions.size for question in questions if question.task == "masked_lm"]
        if "replaced_token" not in tasks or [batch.draws.size] != masked:
            raise InvalidInputError(
                "batch.draws",
                got=f"{batch.draws.size} for {tasks}",
                expected="one for each position of masked_lm, and a replaced_token that asks about them",
            )
        asked = next(question.positions for question in questions if question.task == "replaced_token")
        guessed = next(question.positions for question in questions if question.task == "masked_lm")
        if not np.isin(guessed, asked).all():
            raise InvalidInputError(
                "batch.questions", got="masked positions that replaced_token does not ask about", expected="all of them"
            )
    return batch._replace(input_ids=ids_BT, attention_mask=mask_BT, token_type_ids=types_BT, questions=questions)


def _checked_question(model: MiniBERT, question: Question, size: int) -> Question:
    if question.task not in HEAD_OF:
        raise InvalidInputError("question.task", got=f"{question.task!r}", expected=f"one of {', '.join(HEAD_OF)}")
    head = HEAD_OF[question.task]
    model.parameters.require_head(head)
    classes = {"mlm": model.config.vocab_size, "classifier": model.config.num_labels}.get(head, 2)
    positions, labels = (
        as_array(f"positions of {question.task}", question.positions),
        as_array(f"labels of {question.task}", question.labels),
    )
    ascending = positions.ndim == 1 and positions.dtype.kind in "iu" and bool(np.all(positions[1:] > positions[:-1]))
    if not ascending or (positions.size and not (positions[0] >= 0 and positions[-1] < size)):
        raise InvalidInputError(
            f"positions of {question.task}",
            got=f"{positions.dtype} {list(positions.shape)}",
            expected=f"ascending integer positions b * T + t below {size}",
        )
    if question.task == "regression":
        _check_numbers(labels, positions.shape, classes)
    elif labels.shape != positions.shape or labels.dtype.kind not in "iu":
        raise InvalidInputError(
            f"labels of {question.task}",
            got=f"{labels.dtype} {list(labels.shape)}",
            expected=f"integers of shape {list(positions.shape)}",
        )
    elif labels.size and not (labels.min() >= 0 and labels.max() < classes):
        worst = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise InvalidInputError(f"labels of {question.task}", got=worst, expected=f"0 to {classes - 1}")
    if question.items < positions.size:
        raise InvalidInputError(
            f"items of {question.task}",
            got=question.items,
            expected=f"those of the whole batch, at least {positions.size}",
        )
    return question._replace(positions=positions, labels=labels)


def _check_numbers(labels: Array, shape: tuple[int, ...], outputs: int) -> None:
    """Of `regression`: finite numbers, one a position, for a head with one output."""
    if labels.shape != shape or labels.dtype.kind not in "iuf" or not np.isfinite(labels).all():
        raise InvalidInputError(
            "labels of regression",
            got=f"{labels.dtype} {list(labels.shape)}",
            expected=f"finite numbers of shape {list(shape)}",
        )
    if outputs != 1:
        raise InvalidInputError("model.num_labels", got=outputs, expected="1, the number that regression is about")
