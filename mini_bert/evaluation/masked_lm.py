"""How well does a model fill in the held-out masks?

A scorer is anything with `mlm_logits(batch) -> [M, V]`: scores of every piece at the batch's masked positions, of which
the softmax is the probability. A model has it, and so have the baselines of `ngram_baselines.py`; all go through the
same few lines here and stand in one table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.metrics.clustered_means import ClusteredMean, clustered_difference, clustered_mean
from mini_bert.metrics.cross_entropy import token_losses
from mini_bert.metrics.interval import OF_A_LOSS, Interval
from mini_bert.metrics.perplexity import perplexity
from mini_bert.metrics.proportions import clustered_wilson_interval
from mini_bert.metrics.top_k import target_ranks, top_k_hits

MASKED_AT_ONCE = 1024
"""Masked positions scored at a time: 32 MiB of float32 logits at V = 8192, whatever the batch size."""


class MaskedLMScorer(Protocol):
    """What can be evaluated."""

    def mlm_logits(self, batch: Batch) -> NDArray[np.floating]:
        """Scores [M, V] of every piece at `batch.masked_positions`."""
        ...


class RowSums(NamedTuple):
    """What was counted in each of R rows: all that a result, an interval or a comparison needs."""

    loss: NDArray[np.float64]
    """[R] nats, summed over the row's masked positions"""
    top1: NDArray[np.int64]
    top5: NDArray[np.int64]
    masked: NDArray[np.int64]


@dataclass(frozen=True)
class MaskedLMResult:
    """Scores at the masked positions of a held-out set, each with its interval (95 %, tokens clustered by row)."""

    loss: float
    """Mean cross-entropy in nats a masked token."""
    loss_interval: Interval
    perplexity: float
    perplexity_interval: Interval
    top1: float
    """Share of masked tokens whose piece is scored best; the masked (token-level) accuracy."""
    top1_interval: Interval
    top5: float
    top5_interval: Interval
    n_masked: int
    n_rows: int
    rows: RowSums = field(repr=False, compare=False)

    @classmethod
    def of(cls, rows: RowSums) -> MaskedLMResult:
        """Sum up R rows.

        Raises:
            InvalidInputError: no position is masked in any row.
        """
        if not rows.masked.any():
            raise InvalidInputError("batches", got="no masked position", expected="at least one")
        loss = clustered_mean(rows.loss, rows.masked, bounds=OF_A_LOSS)
        return cls(
            loss=loss.mean,
            loss_interval=loss.interval,
            perplexity=perplexity(loss.mean),
            perplexity_interval=Interval(*map(perplexity, loss.interval)),
            top1=int(rows.top1.sum()) / loss.tokens,
            top1_interval=clustered_wilson_interval(rows.top1, rows.masked),
            top5=int(rows.top5.sum()) / loss.tokens,
            top5_interval=clustered_wilson_interval(rows.top5, rows.masked),
            n_masked=loss.tokens,
            n_rows=len(rows.masked),
            rows=rows,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows; what is not finite becomes None."""
        return {
            name: [_finite(end) for end in value] if isinstance(value, tuple) else _finite(value)
            for name, value in vars(self).items()
            if name != "rows"
        }


def evaluate_masked_lm(
    model: MaskedLMScorer, batches: Iterable[Batch], progress: Callable[[int], None] | None = None
) -> MaskedLMResult:
    """Score `model` at the masked positions of `batches`; sums in float64, in the order of the rows.

    Memory stays bounded by `MASKED_AT_ONCE`, whatever the batches' size. `progress` is called after each part with the
    number of rows scored so far.

    Raises:
        InvalidInputError: a batch has no masked positions or targets, or the scores have another shape than [M, V].
        NonFiniteError: a score is NaN or gives an infinite loss, or the model overflows on the way to it.
    """
    parts = [_score(model, part) for part in bounded_parts(batches, progress)]
    return MaskedLMResult.of(RowSums(*map(np.concatenate, zip(*parts, strict=True))))


def compare(first: MaskedLMResult, second: MaskedLMResult) -> ClusteredMean:
    """Mean loss of `first` minus that of `second` in nats, paired token by token: negative where `first` is better.

    Raises:
        InvalidInputError: the two were not scored at the same masked positions.
    """
    if not np.array_equal(first.rows.masked, second.rows.masked):
        raise InvalidInputError("second", got="other rows or masks", expected="the same held-out batches as the first")
    return clustered_difference(first.rows.loss, second.rows.loss, first.rows.masked)


def bounded_parts(batches: Iterable[Batch], progress: Callable[[int], None] | None = None) -> Iterator[Batch]:
    """Batches cut between rows so that no part has more than `MASKED_AT_ONCE` masked positions, if rows allow it.

    `progress` is called with the number of rows so far when the next part is asked for.

    Raises:
        InvalidInputError: a batch has no masked positions or targets, or there is none.
    """
    rows = 0
    for batch in batches:
        for part in _parts(batch):
            yield part
            rows += len(part.input_ids)
            if progress:
                progress(rows)
    if not rows:
        raise InvalidInputError("batches", got="no batch", expected="at least one")


def _parts(batch: Batch) -> Iterator[Batch]:
    B, T = batch.input_ids.shape
    if batch.masked_positions is None or batch.target_ids is None:
        raise InvalidInputError("batch", got="no masked_positions or target_ids", expected="both")
    first = np.searchsorted(batch.masked_positions, np.arange(B + 1) * T)
    start = 0
    while start < B:
        stop = int(np.searchsorted(first, first[start] + MASKED_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), B)
        yield batch.rows(start, stop)
        start = stop


def _score(model: MaskedLMScorer, batch: Batch) -> RowSums:
    B, T = batch.input_ids.shape
    positions, targets = batch.masked_positions, batch.target_ids
    assert positions is not None
    assert targets is not None
    row = positions // T
    masked = np.bincount(row, minlength=B)
    if not positions.size:
        return RowSums(np.zeros(B), masked, masked, masked)
    logits = scores_at_masks(model, batch)
    losses = token_losses(logits, targets)
    ranks = target_ranks(logits, targets)
    top1, top5 = (np.bincount(row[top_k_hits(ranks, k)], minlength=B) for k in (1, 5))
    return RowSums(np.bincount(row, losses, B), top1, top5, masked)


def scores_at_masks(model: MaskedLMScorer, batch: Batch) -> NDArray[np.floating]:
    """The model's scores [M, V] at the masked positions.

    Raises:
        NonFiniteError: it overflows on the way.
    """
    try:
        return model.mlm_logits(batch)
    except FloatingPointError as error:
        raise NonFiniteError(
            "model",
            got=f"{error} on the way to the scores",
            expected="weights with which all stays finite",
            advice="Training has diverged: start anew with a lower --train.lr or a higher --train.warmup-ratio.",
        ) from error


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
