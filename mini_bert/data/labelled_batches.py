"""Labelled texts as batches: rows of similar length together, every example once an epoch, each batch by its number.

The rows of all examples are sorted by length and cut into as many batches as are needed, of B rows or one fewer. In
every epoch neighbouring batches exchange their rows at random, and the batches come in random order, as in the
`sentences` layout of running text (order.py): pure functions of the seed and the number of the step.

Where the model is not to forget what it was pre-trained on, every batch holds some rows of running text as well, with
hidden pieces to find (replay: Robins 1995; for language models de Masson d'Autume et al. 2019). They stand at even
distances between the others, so that each shard gets its share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch, Question
from mini_bert.data.order import exchanged_rows
from mini_bert.data.text_rows import TextRow, padded, text_row
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.batches import BatchStream
    from mini_bert.data.task_sets.labelled import LabelledSet
    from mini_bert.text.wordpiece import WordPiece

REPLAYED = 4
"""A batch has one row of running text for so many labelled ones."""


class LabelledStream:
    """The training batches of a fine-tuning.

    Fields: `rows_per_epoch`, `steps_per_epoch`; `tokens`, of an epoch, specials included; `steps`, those of the run.

    Args:
        examples: what is learned.
        config: batch size, seed, and the weight of `classification` or `regression`.
        tokenizer: of the model.
        replay: running text beside it, whose weight is that of `masked_lm`.
    """

    changes = False

    def __init__(
        self, examples: LabelledSet, config: Config, tokenizer: WordPiece, replay: BatchStream | None = None
    ) -> None:
        T = config.model.max_position_embeddings
        self._rows = [_compact(text_row(tokenizer, e.text, e.pair, length=T)) for e in examples.examples]
        self._task = "regression" if examples.regression else "classification"
        self._weight = getattr(config.tasks, self._task)
        self._labels = examples.labels
        self._pad, self._seed = tokenizer.pad_id, config.run.seed
        self._by_length = np.argsort([len(row.ids) for row in self._rows], kind="stable")
        self._replay, self._masked_weight = replay, config.tasks.masked_lm
        self.batch_size = config.train.batch_size
        self.rows_per_epoch = len(self._rows)
        self.steps_per_epoch = -(-self.rows_per_epoch // self.batch_size)
        self.tokens = sum(len(row.ids) for row in self._rows)
        self.steps = config.train.steps

    def epoch(self, step: int) -> int:
        """The epoch, from 0, of a batch."""
        return step // self.steps_per_epoch

    def rate(self, step: int) -> float:
        """The share of tokens that is hidden in the rows that are replayed; 0 where there are none."""
        return 0.0 if self._replay is None else self._replay.rate(step)

    def row_numbers(self, step: int) -> NDArray[np.int64]:
        """Numbers of the examples in a batch.

        Raises:
            InvalidInputError: a negative step.
        """
        if step < 0:
            raise InvalidInputError("step", got=step, expected="a number from 0")
        epoch, position = divmod(step, self.steps_per_epoch)
        return exchanged_rows(self._by_length, self.steps_per_epoch, self._seed, epoch, position)

    def batch(self, step: int, rate: float | None = None) -> Batch:
        """Batch number `step`, from 0: rows padded to the longest, and the question about them."""
        numbers = self.row_numbers(step)
        batch = padded([self._rows[number] for number in numbers], self._pad)
        labels, first_tokens = self._labels[numbers], np.arange(len(numbers)) * batch.input_ids.shape[1]
        question = Question(self._task, first_tokens, labels, self._weight, len(numbers))
        if self._replay is None:
            return batch._replace(questions=(question,))
        return _beside(batch, question, self._replay.batch(step, rate), self._masked_weight)


def _compact(row: TextRow) -> TextRow:
    """The same in arrays: tens of thousands of rows are kept."""
    return TextRow(np.array(row.ids, np.int32), None if row.types is None else np.array(row.types, np.int8))


def _beside(batch: Batch, question: Question, other: Batch, weight: float) -> Batch:
    """Labelled rows with rows of running text between them, and both questions."""
    assert other.masked_positions is not None
    assert other.target_ids is not None
    own, added = len(batch.input_ids), len(other.input_ids)
    T = max(batch.input_ids.shape[1], other.input_ids.shape[1])
    places = (np.arange(added) * 2 + 1) * (own + added) // (2 * added)
    others = np.setdiff1d(np.arange(own + added), places)

    def laid(mine: NDArray[np.generic], theirs: NDArray[np.generic]) -> NDArray[np.generic]:
        whole = np.zeros((own + added, T), mine.dtype)
        whole[others, : mine.shape[1]] = mine
        whole[places, : theirs.shape[1]] = theirs
        return whole

    def real(part: Batch) -> NDArray[np.bool_]:
        return np.ones(part.input_ids.shape, bool) if part.attention_mask is None else part.attention_mask

    row, column = np.divmod(other.masked_positions, other.input_ids.shape[1])
    masked = places[row] * T + column
    mask = laid(real(batch), real(other))
    types = batch.token_type_ids
    return Batch(
        laid(batch.input_ids, other.input_ids.astype(np.int32)),
        attention_mask=None if mask.all() else mask,
        token_type_ids=None if types is None else laid(types, np.zeros_like(other.input_ids, np.int32)),
        masked_positions=masked,
        target_ids=other.target_ids,
        questions=(
            Question("masked_lm", masked, other.target_ids, weight, masked.size),
            question._replace(positions=others * T),
        ),
    )
