"""Is the right piece among the k best?

Ties: a tie counts against the target. It is among the k best when fewer than k other pieces score at least as much. So
a model that gives every piece the same score is right about nothing; counting identical scores as right made a
word-frequency baseline look strong in published tables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.metrics.cross_entropy import check_scores


def target_ranks(scores: NDArray[np.floating], targets: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rank of each target [M] among the scores [M, V] of its row, from 1 (strictly the best) to V.

    Raises:
        InvalidInputError: the shapes do not fit, or a target lies outside [0, V).
        NonFiniteError: a score is NaN, which no order has a place for.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    check_scores(scores, targets, "scores")
    if np.isnan(scores).any():
        raise NonFiniteError("scores", got="NaN", expected="numbers that can be ordered")
    at_targets = scores[np.arange(len(targets)), targets]
    return np.count_nonzero(scores >= at_targets[:, None], axis=1).astype(np.int64)


def top_k_hits(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether each rank is among the `k` best.

    Raises:
        InvalidInputError: `k` is less than 1.
    """
    if k < 1:
        raise InvalidInputError("k", got=k, expected="an integer of at least 1")
    return ranks <= k
