"""Rows, masked and stacked: the batches that training and evaluation read.

Batch number `step` is a pure function of the configuration and the seed: nothing is carried from one batch to the next,
so any of them can be made at any time, in any process.

Packed rows are an endless sequence, one epoch behind the other, and a batch is the next B of it, over the end of an
epoch too. In the `sentences` layout rows of similar length make a batch: the rows of an epoch are sorted by length and
cut into as many batches as are needed, of B rows or one fewer; 32 neighbouring batches exchange their rows at random,
and the batches come in random order. Every row comes once an epoch either way (or as often as its corpus' weight says).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.data.masking import Pieces, mask_rows
from mini_bert.data.order import permuted, sample_numbers, visited_rows, visits_per_epoch
from mini_bert.data.packing import RowIndex
from mini_bert.data.questions import Questions, are_asked
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, MaskingConfig
    from mini_bert.data.tokens import TokenSet
    from mini_bert.text.wordpiece import WordPiece

_EXCHANGING = 32
"""Batches of similar length among which rows are exchanged."""
_SORTED_AT_ONCE = 1 << 18


class BatchStream:
    """The training batches of a run.

    Fields: `rows`, the row index; `rows_per_epoch`; `steps_per_epoch`, rounded up.
    """

    def __init__(self, token_set: TokenSet, config: Config, tokenizer: WordPiece) -> None:
        self._questions = Questions(token_set, config, tokenizer) if are_asked(config.tasks) else None
        length = config.model.max_position_embeddings
        self.rows: RowIndex = token_set.rows(length) if self._questions is None else self._questions.rows
        self.rows_per_epoch = sum(visits_per_epoch(self.rows.counts, self.rows.weights))
        self.batch_size = config.train.batch_size
        self.steps_per_epoch = -(-self.rows_per_epoch // self.batch_size)
        self._bucketed = token_set.layout == "sentences"
        self._seed = config.run.seed
        self._masking = config.masking
        self._pieces = Pieces.of(tokenizer)
        self._sorted_epoch: tuple[int, NDArray[np.integer]] = (-1, np.empty(0, np.int64))

    def epoch(self, step: int) -> int:
        """The epoch, from 0, of the first row of a batch."""
        return step // self.steps_per_epoch if self._bucketed else step * self.batch_size // self.rows_per_epoch

    def row_numbers(self, step: int) -> NDArray[np.int64]:
        """Numbers in `rows` of the rows of a batch.

        Raises:
            InvalidInputError: a negative step.
        """
        if step < 0:
            raise InvalidInputError("step", got=step, expected="a number from 0")
        return self._bucketed_rows(step) if self._bucketed else self._packed_rows(step)

    def batch(self, step: int) -> Batch:
        """Batch number `step`, from 0, masked for this step."""
        numbers, stream = self.row_numbers(step), RandomStream(self._seed, "masking", step)
        if self._questions is not None:
            tasks = RandomStream(self._seed, "tasks", step)
            return self._questions.batch(
                numbers, lambda ids: mask_rows(ids, self._pieces, self._masking, stream), tasks
            )
        return _masked_batch(self.rows.read(numbers), self._pieces, self._masking, stream, 0)

    def _packed_rows(self, step: int) -> NDArray[np.int64]:
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, positions = np.divmod(positions, self.rows_per_epoch)
        rows = np.empty(self.batch_size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            chosen = epochs == epoch
            slots = sample_numbers(self.rows_per_epoch, self._seed, epoch, positions[chosen])
            rows[chosen] = visited_rows(self.rows.counts, self.rows.weights, self._seed, epoch, slots)
        return rows

    def _bucketed_rows(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self.steps_per_epoch)
        by_length = self._rows_by_length(epoch)
        batches, rows = self.steps_per_epoch, len(by_length)
        place = int(permuted(batches, RandomStream(self._seed, "order/batches", epoch), [position])[0])
        bucket = place // _EXCHANGING
        first = bucket * _EXCHANGING * rows // batches
        last = min((bucket + 1) * _EXCHANGING, batches) * rows // batches
        mine = np.arange(place * rows // batches, (place + 1) * rows // batches) - first
        exchanged = permuted(last - first, RandomStream(self._seed, f"order/bucket_{bucket}", epoch), mine)
        return by_length[first + exchanged].astype(np.int64)

    def _rows_by_length(self, epoch: int) -> NDArray[np.integer]:
        if self._sorted_epoch[0] != epoch:
            self._sorted_epoch = (epoch, self._sorted_by_length(epoch))
        return self._sorted_epoch[1]

    def _sorted_by_length(self, epoch: int) -> NDArray[np.integer]:
        """The rows of an epoch, short ones first: counted, then put in their places, in 4 to 8 bytes a row."""

        def visited() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
            for first in range(0, self.rows_per_epoch, _SORTED_AT_ONCE):
                slots = np.arange(first, min(first + _SORTED_AT_ONCE, self.rows_per_epoch))
                rows = visited_rows(self.rows.counts, self.rows.weights, self._seed, epoch, slots)
                yield rows, self.rows.lengths(rows)

        counts = sum(np.bincount(lengths, minlength=self.rows.length + 1) for _, lengths in visited())
        place = np.cumsum(counts) - counts
        by_length = np.empty(self.rows_per_epoch, np.min_scalar_type(len(self.rows)))
        for rows, lengths in visited():
            order = np.argsort(lengths, kind="stable")
            here = np.bincount(lengths, minlength=self.rows.length + 1)
            behind = np.arange(len(rows)) - np.repeat(np.cumsum(here) - here, here)
            by_length[np.repeat(place, here) + behind] = rows[order]
            place += here
        return by_length


def held_out_batches(token_set: TokenSet, config: Config, tokenizer: WordPiece) -> list[Batch]:
    """The batches that every model and baseline is scored on: at most `data.held_out_rows` rows with fixed masks.

    Which rows and which masks depends on the text, the tokenizer and `evaluation.mask_seed`, not on the run's seed.
    """
    rows = token_set.rows(config.model.max_position_embeddings)
    seed, size = config.evaluation.mask_seed, config.evaluation.batch_size
    wanted = min(config.data.held_out_rows, len(rows))
    numbers = np.sort(permuted(len(rows), RandomStream(seed, "held_out/rows"), np.arange(wanted)))
    if token_set.layout == "sentences":
        numbers = numbers[np.argsort(rows.lengths(numbers), kind="stable")]
    pieces, stream = Pieces.of(tokenizer), RandomStream(seed, "held_out/masking")
    return [
        _masked_batch(rows.read(numbers[first : first + size]), pieces, config.masking, stream, first)
        for first in range(0, wanted, size)
    ]


def _masked_batch(
    ids: NDArray[np.int32], pieces: Pieces, masking: MaskingConfig, stream: RandomStream, first_row: int
) -> Batch:
    """Mask rows at their full length, then cut off what is padding in all of them."""
    columns = ids.shape[1]
    real = ids != pieces.pad_id
    longest = columns if real[:, -1].any() else int(real.sum(axis=1).max())
    masked = mask_rows(ids, pieces, masking, stream, first_row)
    row, column = np.divmod(masked.masked_positions, columns)
    return Batch(
        np.ascontiguousarray(masked.input_ids[:, :longest]),
        attention_mask=None if real.all() else np.ascontiguousarray(real[:, :longest]),
        masked_positions=row * longest + column,
        target_ids=masked.target_ids,
    )
