"""All tasks in one pass: the weighted sum's gradient, by slopes, by single tasks, and by full passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, full_pass, small_bert

from mini_bert.batch import Batch, Question
from mini_bert.config.schema import Config
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import HEAD_OF, draw_pieces, task_losses, task_losses_and_gradients, with_task_heads
from mini_bert.ops.contract import Array

HEADS = tuple(dict.fromkeys(HEAD_OF.values()))
WEIGHTS = {"masked_lm": 1.0, "next_sentence": 0.7, "sentence_order": 0.4, "token_order": 2.0, "replaced_token": 50.0}
REAL = np.flatnonzero(MASK)
SHOWN = np.setdiff1d(REAL, BATCH.masked_positions)


def question(task: str, positions: Any, labels: Any, weight: float | None = None) -> Question:
    weight = WEIGHTS[task] if weight is None else weight
    return Question(task, np.array(positions), np.array(labels), weight, len(positions))


QUESTIONS = (
    question("masked_lm", BATCH.masked_positions, BATCH.target_ids),
    question("next_sentence", [0, 6], [1, 0]),
    question("sentence_order", [6, 12], [0, 1]),
    question("token_order", SHOWN, np.arange(SHOWN.size) % 3 == 0),
    question("replaced_token", SHOWN, np.arange(SHOWN.size) % 4 == 1),
)
QUESTIONS = tuple(q._replace(labels=q.labels.astype(np.int64)) for q in QUESTIONS)
ALL = BATCH._replace(questions=QUESTIONS)


def model_of(dtype: Any = np.float64, **settings: Any) -> MiniBERT:
    return small_bert(dtype, heads=HEADS, **settings)


def gradient_of(model: MiniBERT, batch: Batch, dropout: Any = None) -> Array:
    grads = Parameters(model.config, model.dtype)
    task_losses_and_gradients(model, batch, grads, dropout)
    return grads.buffer


def surprises(logits: Array, labels: Array) -> float:
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return -float(np.log(probs[np.arange(labels.size), labels]).sum())


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["no dropout", "dropout"])
def test_losses_and_right_answers_are_those_of_full_passes(dropout: Any) -> None:
    model = model_of()
    sums = task_losses_and_gradients(model, ALL, Parameters(model.config, np.float64), dropout)
    assert list(sums) == [q.task for q in QUESTIONS]
    for q in QUESTIONS:
        logits, _ = full_pass(model, BATCH, HEAD_OF[q.task], dropout)
        rows = logits[q.positions // 6] if logits.ndim == 2 else logits.reshape(-1, logits.shape[-1])[q.positions]
        assert sums[q.task].loss == pytest.approx(surprises(rows, q.labels), rel=1e-12)
        assert sums[q.task][1:] == (q.positions.size, int((rows.argmax(axis=1) == q.labels).sum()))
    if dropout is None:
        assert task_losses(model, ALL) == sums


def test_gradient_is_that_of_full_passes_added_up() -> None:
    model = model_of()
    grads = MiniBERTGradients(model)
    for q in QUESTIONS:
        logits, cache = full_pass(model, BATCH, HEAD_OF[q.task], DROPOUT)
        dlogits = np.zeros_like(logits)
        flat = dlogits if logits.ndim == 2 else dlogits.reshape(-1, logits.shape[-1])
        values = logits.reshape(flat.shape)
        for position, label in zip(q.positions, q.labels, strict=True):
            row = position // 6 if logits.ndim == 2 else position
            probs = np.exp(values[row]) / np.exp(values[row]).sum()
            flat[row] = q.weight / q.positions.size * (probs - np.eye(probs.size)[label])
        grads.backward_from_logits(dlogits, cache)
    expected = grads.gradients.buffer
    assert np.linalg.norm(gradient_of(model, ALL, DROPOUT) - expected) <= 1e-12 * np.linalg.norm(expected)


def test_gradient_is_the_slope_of_the_weighted_mean_losses() -> None:
    model = model_of()
    gradient, start = gradient_of(model, ALL), model.parameters.buffer.copy()

    def total() -> float:
        sums = task_losses(model, ALL)
        return sum(WEIGHTS[task] * of.loss / of.items for task, of in sums.items())

    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=start.size)
        ends = []
        for step in (-2e-4, -1e-4, 1e-4, 2e-4):
            model.parameters.buffer[...] = start + step * direction
            ends.append(total())
        model.parameters.buffer[...] = start
        slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / 12e-4
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-7)


@pytest.mark.parametrize("tasks", [("masked_lm",), ("next_sentence",), ("token_order",), tuple(WEIGHTS)])
def test_weights_scale_gradients_and_tasks_add_up(tasks: tuple[str, ...]) -> None:
    model = model_of()
    chosen = tuple(q for q in QUESTIONS if q.task in tasks)
    alone = [gradient_of(model, ALL._replace(questions=(q._replace(weight=1.0),)), DROPOUT) for q in chosen]
    expected = sum(q.weight * gradient for q, gradient in zip(chosen, alone, strict=True))
    got = gradient_of(model, ALL._replace(questions=chosen), DROPOUT)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_masked_lm_alone_is_the_masked_language_model() -> None:
    model = model_of()
    expected = Parameters(model.config, np.float64)
    loss, count = model.mlm_loss_and_gradients(BATCH, expected, DROPOUT)
    grads = Parameters(model.config, np.float64)
    sums = task_losses_and_gradients(
        model, BATCH._replace(questions=(QUESTIONS[0]._replace(weight=3.0),)), grads, DROPOUT
    )
    assert sums["masked_lm"][:2] == (loss, count)
    np.testing.assert_allclose(grads.buffer, 3.0 / count * expected.buffer, rtol=1e-12, atol=1e-18)


def test_where_everything_is_asked_everything_is_computed() -> None:
    """No padding, and a token task beside the masks: the union is the whole."""
    everywhere = np.setdiff1d(np.arange(IDS.size), BATCH.masked_positions)
    asked = question("token_order", everywhere, np.arange(everywhere.size) % 2)
    batch = ALL._replace(attention_mask=None, questions=(QUESTIONS[0], asked))
    model, whole = model_of(), 0.0
    sums = task_losses(model, batch)
    logits = model.forward(IDS, None, BATCH.token_type_ids, head="std")[0].reshape(-1, 2)
    whole = surprises(logits[everywhere], asked.labels)
    assert sums["token_order"].loss == pytest.approx(whole, rel=1e-12)


def test_shards_sum_to_the_whole() -> None:
    """Row 0 has an answer of each row task, row 2 none of next sentence; each divides by the whole batch's numbers."""
    model = model_of()
    whole, parts = gradient_of(model, ALL, DROPOUT), Parameters(model.config, np.float64)
    sums = [task_losses_and_gradients(model, ALL.rows(b, b + 1), parts, DROPOUT) for b in range(3)]
    np.testing.assert_allclose(parts.buffer, whole, rtol=0, atol=1e-13 * np.abs(whole).max())
    expected = task_losses_and_gradients(model, ALL, Parameters(model.config, np.float64), DROPOUT)
    for task, of in expected.items():
        assert sum(part[task].loss for part in sums) == pytest.approx(of.loss, rel=1e-12)
        assert sum(part[task].items for part in sums) == of.items
        assert sum(part[task].correct for part in sums) == of.correct
    assert sums[2]["next_sentence"] == (0.0, 0, 0)


def test_a_batch_that_asks_nothing_has_no_gradient() -> None:
    model = model_of()
    batch = BATCH._replace(questions=(question("next_sentence", np.empty(0, int), np.empty(0, int)),))
    assert not gradient_of(model, batch).any()
    assert task_losses(model, batch) == {"next_sentence": (0.0, 0, 0)}


# --- the model's own guesses ----------------------------------------------------------------------------------------


def guessing(draws: Any) -> Batch:
    asked = question("replaced_token", REAL, np.zeros(REAL.size, int))
    return ALL._replace(questions=(*QUESTIONS[:4], asked), draws=np.array(draws))


DRAWS = [0.1, 0.999, 0.5, 0.3, 0.0, 0.7]


def filled_by_hand(model: MiniBERT) -> tuple[Array, Array]:
    """The rows with guesses in place of masks, and which tokens are another piece than the original."""
    logits = model.mlm_logits(BATCH)
    ids, labels = IDS.copy(), np.zeros(IDS.size, int)
    for row, (position, draw) in enumerate(zip(BATCH.masked_positions, DRAWS, strict=True)):
        shares, piece = np.exp(logits[row]) / np.exp(logits[row]).sum(), 0
        while shares[: piece + 1].sum() <= draw:
            piece += 1
        ids.ravel()[position] = piece
        labels[position] = piece != BATCH.target_ids[row]
    return ids, labels[REAL]


def test_the_second_pass_sees_the_guesses_and_knows_which_are_wrong() -> None:
    model = model_of()
    ids, labels = filled_by_hand(model)
    assert 0 < labels.sum() <= 6
    second = BATCH._replace(input_ids=ids, questions=(question("replaced_token", REAL, labels),))
    batch = guessing(DRAWS)
    sums = task_losses(model, batch)
    assert sums == {**task_losses(model, ALL._replace(questions=QUESTIONS[:4])), **task_losses(model, second)}
    expected = gradient_of(model, ALL._replace(questions=QUESTIONS[:4])) + gradient_of(model, second)
    np.testing.assert_allclose(gradient_of(model, batch), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_a_guess_that_hits_the_original_is_an_original() -> None:
    model = model_of()
    logits = model.mlm_logits(BATCH)
    best = logits.argmax(axis=1)
    targets = best.copy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    middle = np.array([shares[m, :piece].sum() + shares[m, piece] / 2 for m, piece in enumerate(best)])
    masked = question("masked_lm", BATCH.masked_positions, targets)
    asked = question("replaced_token", REAL, np.zeros(REAL.size, int))
    batch = BATCH._replace(target_ids=targets, questions=(masked, asked), draws=middle)
    ids = IDS.copy()
    ids.ravel()[BATCH.masked_positions] = best
    expected = task_losses(model, BATCH._replace(input_ids=ids, questions=(asked,)))
    assert task_losses(model, batch)["replaced_token"] == expected["replaced_token"]


def test_the_guesses_of_shards_are_those_of_the_batch() -> None:
    model, batch = model_of(), guessing(DRAWS)
    whole, parts = gradient_of(model, batch, DROPOUT), Parameters(model.config, np.float64)
    for b in range(3):
        task_losses_and_gradients(model, batch.rows(b, b + 1), parts, DROPOUT)
    np.testing.assert_allclose(parts.buffer, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


def test_pieces_are_drawn_as_their_weights_say() -> None:
    weights = np.array([1.0, 0.0, 3.0, 4.0, 2.0])
    draws = (np.arange(10_000) + 0.5) / 10_000
    drawn = draw_pieces(np.broadcast_to(weights, (10_000, 5)), draws)
    np.testing.assert_array_equal(np.bincount(drawn, minlength=5), [1000, 0, 3000, 4000, 2000])
    assert draw_pieces(weights[None].astype(np.float32), np.array([1 - 2**-53])) == 4
    assert draw_pieces(np.array([[0.0, 1.0]]), np.array([0.0])) == 1


# --- heads and refusals ---------------------------------------------------------------------------------------------


def test_a_weight_gives_the_model_a_head_and_takes_none() -> None:
    config = Config.model_validate({"tasks": {"next_sentence": 1.0, "token_order": 0.5}})
    assert with_task_heads(config).model.heads == ("mlm", "nsp", "std")
    assert with_task_heads(with_task_heads(config)) == with_task_heads(config)
    plain = Config()
    assert with_task_heads(plain) is plain
    bare = Config.model_validate({"model": {"heads": ["classifier"]}, "tasks": {"masked_lm": 0, "replaced_token": 1}})
    assert with_task_heads(bare).model.heads == ("classifier", "rtd")


REFUSED = {
    "batch.questions: got none": BATCH,
    "question.task: got 'cloze'": BATCH._replace(questions=(QUESTIONS[0]._replace(task="cloze"),)),
    "each task once": BATCH._replace(questions=(QUESTIONS[0], QUESTIONS[0])),
    "positions of token_order": BATCH._replace(questions=(question("token_order", [3, 2], [0, 1]),)),
    "below 18": BATCH._replace(questions=(question("token_order", [3, 18], [0, 1]),)),
    "labels of token_order: got 2; expected 0 to 1": BATCH._replace(
        questions=(question("token_order", [2, 3], [0, 2]),)
    ),
    r"labels of next_sentence: got int64 \[1\]": BATCH._replace(questions=(question("next_sentence", [0, 6], [0]),)),
    "items of token_order: got 1": BATCH._replace(
        questions=(question("token_order", [2, 3], [0, 1])._replace(items=1),)
    ),
    "batch.draws: got 5": guessing(DRAWS[:5]),
    "masked positions that replaced_token does not ask about": guessing(DRAWS)._replace(questions=QUESTIONS),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        gradient_of(model_of(), REFUSED[message])


def test_a_model_without_the_head_says_so() -> None:
    with pytest.raises(InvalidInputError, match="'nsp', which this model does not have"):
        gradient_of(small_bert(heads=("mlm",)), ALL)
    with pytest.raises(InvalidInputError, match="gradients"):
        task_losses_and_gradients(model_of(), ALL, Parameters(small_bert().config, np.float64))


# --- labels of whole texts --------------------------------------------------------------------------------------------

CLASSES = Question("classification", np.array([0, 12]), np.array([2, 0]), 1.0, 2)
SCORES = Question("regression", np.array([0, 6]), np.array([4.75, -0.5]), 0.5, 3)


def labelled_model(question: Question, **settings: Any) -> MiniBERT:
    outputs = 1 if question.task == "regression" else 3
    return small_bert(heads=("mlm", "classifier"), num_labels=outputs, **settings)


@pytest.mark.parametrize("asked", [CLASSES, SCORES], ids=["classification", "regression"])
def test_labels_of_texts_by_the_full_pass_and_by_the_slope(asked: Question) -> None:
    model = labelled_model(asked)
    batch = BATCH._replace(questions=(asked,))
    grads = Parameters(model.config, np.float64)
    (sums,) = task_losses_and_gradients(model, batch, grads).values()
    logits = full_pass(model, BATCH, "classifier", None)[0][asked.positions // 6]
    if asked.task == "regression":
        expected = sum((float(z[0]) - float(y)) ** 2 for z, y in zip(logits, asked.labels, strict=True))
    else:
        expected = surprises(logits, asked.labels)
    assert sums.loss == pytest.approx(expected, rel=1e-12)
    start, direction = model.parameters.buffer.copy(), np.random.default_rng(0).normal(size=grads.buffer.size)
    ends = []
    for step in (-2e-4, -1e-4, 1e-4, 2e-4):
        model.parameters.buffer[...] = start + step * direction
        ends.append(asked.weight / asked.items * task_losses(model, batch)[asked.task].loss)
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / 12e-4
    assert slope == pytest.approx(float(grads.buffer @ direction), rel=1e-7)


def test_dropout_of_a_label_depends_on_its_row_and_not_on_which_other_rows_are_asked() -> None:
    model = labelled_model(CLASSES, hidden_dropout_prob=0.5)
    both = task_losses_and_gradients(
        model, BATCH._replace(questions=(CLASSES,)), Parameters(model.config, np.float64), DROPOUT
    )["classification"].loss
    apart = [
        task_losses_and_gradients(
            model,
            BATCH._replace(
                questions=(CLASSES._replace(positions=CLASSES.positions[i : i + 1], labels=CLASSES.labels[i : i + 1]),)
            ),
            Parameters(model.config, np.float64),
            DROPOUT,
        )["classification"].loss
        for i in range(2)
    ]
    assert sum(apart) == pytest.approx(both, rel=1e-12)


def test_a_score_counts_as_right_when_it_misses_by_less_than_a_half() -> None:
    model = labelled_model(SCORES)
    near = full_pass(model, BATCH, "classifier", None)[0][[0, 1], 0] + [0.49, -0.51]
    asked = BATCH._replace(questions=(SCORES._replace(labels=near),))
    assert task_losses(model, asked)["regression"].correct == 1


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (CLASSES._replace(labels=np.array([3, 0])), "labels of classification: got 3; expected 0 to 2"),
        (CLASSES._replace(labels=np.array([-1, 0])), "labels of classification: got -1"),
        (CLASSES._replace(labels=np.array([0.5, 0])), "labels of classification"),
        (SCORES._replace(labels=np.array([np.nan, 0])), "labels of regression"),
        (SCORES._replace(labels=np.array([1.0])), "labels of regression"),
    ],
)
def test_labels_that_no_head_can_have_are_refused(asked: Question, what: str) -> None:
    with pytest.raises(InvalidInputError, match=what):
        task_losses(labelled_model(asked), BATCH._replace(questions=(asked,)))


def test_scores_need_one_output() -> None:
    with pytest.raises(InvalidInputError, match=r"model\.num_labels: got 3; expected 1"):
        task_losses(labelled_model(CLASSES), BATCH._replace(questions=(SCORES,)))
