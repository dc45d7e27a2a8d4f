"""What a model reads in one step: the arrays that `data` hands to `model`, which do not know each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Question(NamedTuple):
    """What one task asks of a batch: a class, or the right piece, at each of N positions."""

    task: str
    """Its name among the weights of the section `tasks`: `masked_lm`, `next_sentence`, …"""
    positions: NDArray[np.int64]
    """[N] ascending positions b * T + t."""
    labels: NDArray[Any]
    """[N] the answers: classes, or pieces; of `regression`, numbers."""
    weight: float = 1.0
    """Of the task's mean loss in the sum that is minimised."""
    items: int = 0
    """How many positions it asks in the whole global batch, over which the mean is taken."""

    def rows(self, first: int, last: int) -> Question:
        """Of the positions first..last-1, numbered from `first`."""
        start, stop = np.searchsorted(self.positions, [first, last])
        return self._replace(positions=self.positions[start:stop] - first, labels=self.labels[start:stop])


class Batch(NamedTuple):
    """A batch of B rows of T token ids, and what is asked about them.

    Masked positions are kept sparse, as row numbers of the flattened batch: the loss reads only them, and so the model
    computes only them. A batch without padding has `attention_mask=None`, which is not the same work as a mask of ones.
    """

    input_ids: NDArray[np.integer]
    """[B, T] token ids, corrupted where masked."""
    attention_mask: NDArray[np.bool_] | None = None
    """[B, T] True on real tokens; None where every token is real."""
    token_type_ids: NDArray[np.integer] | None = None
    """[B, T] segment 0 or 1; None where all is segment 0."""
    masked_positions: NDArray[np.int64] | None = None
    """[M] ascending positions b * T + t of the tokens to predict."""
    target_ids: NDArray[np.integer] | None = None
    """[M] the original ids at `masked_positions`."""
    first_row: int = 0
    """Number of this batch's row 0 in the global batch; random streams count from it."""
    questions: tuple[Question, ...] = ()
    """What all tasks ask, the masked language model among them; none: that one alone asks, with weight 1."""
    draws: NDArray[np.float64] | None = None
    """[M] uniform numbers in [0, 1): by these the model itself guesses at `masked_positions`, for `replaced_token`."""

    def rows(self, start: int, stop: int) -> Batch:
        """The rows start..stop-1 as a batch of their own, which remembers where in the global batch it stood."""
        tokens = self.input_ids.shape[1]
        masked, targets, draws = self.masked_positions, self.target_ids, self.draws
        if masked is not None:
            first, last = np.searchsorted(masked, [start * tokens, stop * tokens])
            masked = masked[first:last] - start * tokens
            targets = None if targets is None else targets[first:last]
            draws = None if draws is None else draws[first:last]
        return Batch(
            self.input_ids[start:stop],
            None if self.attention_mask is None else self.attention_mask[start:stop],
            None if self.token_type_ids is None else self.token_type_ids[start:stop],
            masked,
            targets,
            self.first_row + start,
            tuple(question.rows(start * tokens, stop * tokens) for question in self.questions),
            draws,
        )
