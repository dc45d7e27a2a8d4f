"""Rows, masked and stacked: the batches that training and evaluation read.

Batch number `step` is a pure function of the configuration and the seed: nothing is carried from one batch to the next,
so any of them can be made at any time, in any process.

Packed rows are an endless sequence, one epoch behind the other, and a batch is the next B of it, over the end of an
epoch too. In the `sentences` layout rows of similar length make a batch: the rows of an epoch are sorted by length and
cut into as many batches as are needed, of B rows or one fewer; 32 neighbouring batches exchange their rows at random,
and the batches come in random order. Every row comes once an epoch either way (or as often as its corpus' weight says).
A curriculum has its say before: see `curriculum.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.data.curriculum import Curriculum
from mini_bert.data.difficulty import Reference, row_difficulties
from mini_bert.data.masking import MaskedRows, Pieces, mask_rows, masked_batch
from mini_bert.data.masking_facts import facts_for
from mini_bert.data.masking_rate import HELD_OUT_RATE, scheduled_rate
from mini_bert.data.order import EXCHANGING, exchanged_rows, permuted, sample_numbers, visited_rows, visits_per_epoch
from mini_bert.data.packing import RowIndex
from mini_bert.data.questions import Questions, are_asked, held_out_questions
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, MaskingConfig
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

_SORTED_AT_ONCE = 1 << 18


class BatchStream:
    """The training batches of a run.

    Fields: `rows`, the row index; `rows_per_epoch`; `steps_per_epoch`, rounded up; `steps`, those of the run, which
    scheduled rates and curricula count in: set it where `train.steps` was not known yet.

    Args:
        token_set: the text.
        config: the run's.
        tokenizer: of the text.
        reference: the model whose loss is a row's difficulty, for `curriculum.kind` loss.
        progress: told how far the counting is that some kinds of masking and curricula begin with.

    Raises:
        ConfigError, DataError, StorageError: as `facts_for`, `row_difficulties`, `Curriculum`, `Questions`.
    """

    def __init__(
        self,
        token_set: TokenSet,
        config: Config,
        tokenizer: WordPiece,
        *,
        reference: Reference | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.steps = config.train.steps
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
        told = progress or (lambda what, done, total: None)
        self._facts = facts_for(config.masking, token_set, tokenizer, told)
        self._curriculum: Curriculum | None = None
        if config.curriculum.kind != "none":
            self._curriculum = Curriculum(
                config.curriculum,
                row_difficulties(token_set, self.rows, config, tokenizer, reference, told),
                self.rows,
                seed=self._seed,
                batch_size=self.batch_size,
                at_once=EXCHANGING if self._bucketed else 1,
            )

    def epoch(self, step: int) -> int:
        """The epoch, from 0, of the first row of a batch; with a curriculum, rows drawn before by rows of an epoch."""
        return step // self.steps_per_epoch if self._bucketed else step * self.batch_size // self.rows_per_epoch

    def row_numbers(self, step: int) -> NDArray[np.int64]:
        """Numbers in `rows` of the rows of a batch.

        Raises:
            InvalidInputError: a negative step.
        """
        if step < 0:
            raise InvalidInputError("step", got=step, expected="a number from 0")
        if self._curriculum is not None:
            first = self._curriculum.batches(self.steps)
            if first is None or step < first:
                return self._curriculum.row_numbers(step, self.steps)
            step -= first
        return self._bucketed_rows(step) if self._bucketed else self._packed_rows(step)

    def rate(self, step: int) -> float:
        """The share of tokens that is hidden in batch number `step`, as scheduled."""
        return scheduled_rate(self._masking, step, self.steps)

    @property
    def word_list_sha256(self) -> str | None:
        """The hash of the words that masking prefers by a list; None where there is no list."""
        return self._facts.preferred.list_sha256

    @property
    def changes(self) -> bool:
        """Whether batches late in a run are longer, or more of them hidden, than early ones."""
        return self._curriculum is not None or self._masking.rate_schedule in ("linear", "cosine")

    def share(self, step: int) -> float:
        """The share of the rows that batch number `step` is drawn from; below 1 in a curriculum only."""
        return 1.0 if self._curriculum is None else self._curriculum.share(step, self.steps)

    def batch(self, step: int, rate: float | None = None) -> Batch:
        """Batch number `step`, from 0, masked for this step; at another rate than the scheduled one, if it is given."""
        numbers, stream = self.row_numbers(step), RandomStream(self._seed, "masking", step)
        rate = self.rate(step) if rate is None else rate
        if self._questions is None:
            ids = self.rows.read(numbers)
            return masked_batch(ids, self._pieces, self._masking, stream, 0, rate=rate, facts=self._facts)

        def mask(ids: NDArray[np.int32]) -> MaskedRows:
            return mask_rows(ids, self._pieces, self._masking, stream, rate=rate, facts=self._facts)

        return self._questions.batch(numbers, mask, RandomStream(self._seed, "tasks", step))

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
        return exchanged_rows(self._rows_by_length(epoch), self.steps_per_epoch, self._seed, epoch, position)

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

    Which rows and which masks depends on the text, the tokenizer and `evaluation.mask_seed`; not on the run's seed, and
    not on how it masks what it learns from.
    """
    rows = token_set.rows(config.model.max_position_embeddings)
    seed, size = config.evaluation.mask_seed, config.evaluation.batch_size
    wanted = min(config.data.held_out_rows, len(rows))
    numbers = np.sort(permuted(len(rows), RandomStream(seed, "held_out/rows"), np.arange(wanted)))
    if token_set.layout == "sentences":
        numbers = numbers[np.argsort(rows.lengths(numbers), kind="stable")]
    pieces, masking, stream = Pieces.of(tokenizer), held_out_masking(), RandomStream(seed, "held_out/masking")
    return [
        masked_batch(rows.read(numbers[first : first + size]), pieces, masking, stream, first)
        for first in range(0, wanted, size)
    ]


def held_out_masking() -> MaskingConfig:
    """How held-out rows are masked, however a run masks its own: so all runs sit the same exam."""
    from mini_bert.config.schema import MaskingConfig

    return MaskingConfig(kind="token", rate=HELD_OUT_RATE, mask_share=0.8, random_share=0.1)


def held_out_task_batches(token_set: TokenSet, config: Config, tokenizer: WordPiece) -> list[Batch]:
    """Batches of held-out rows that the extra tasks are scored on, as `held_out_questions` says; empty without any."""
    stream = RandomStream(config.evaluation.mask_seed, "held_out/masking")
    pieces, masking = Pieces.of(tokenizer), held_out_masking()
    return held_out_questions(
        token_set, config, tokenizer, lambda ids, first: mask_rows(ids, pieces, masking, stream, first)
    )
