"""Which hidden pieces does a model find, and does it know how sure it may be?

The loss of the held-out set (`masked_lm.py`) is a mean over pieces of very different kinds. Here the same positions are
taken apart:

    frequency         rank of the right piece among all by how often it occurs in the training text
    piece             whether it is a word of its own, begins a longer one, or goes on with one
    shown             whether [MASK] stands there, a random piece, or the right piece itself
    position          where in the row
    part of speech    tag of the word, in a treebank's sentences that are masked in the same way

Baselines are scored at the same positions. Calibration is that of the piece scored best, with its probability as
confidence, where [MASK] stands: what is shown unchanged is no guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.masked_lm import MaskedLMScorer, bounded_parts, scores_at_masks
from mini_bert.inference.hidden_states import WordRows, word_rows
from mini_bert.metrics.calibration import Calibration, calibration
from mini_bert.metrics.clustered_means import clustered_mean, sums_by_cluster
from mini_bert.metrics.cross_entropy import token_losses
from mini_bert.metrics.interval import OF_A_LOSS
from mini_bert.metrics.proportions import clustered_wilson_interval
from mini_bert.metrics.top_k import target_ranks, top_k_hits
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.data.task_sets.treebanks import TaggedSentence
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

RANKS = (10, 100, 1000, 10_000)
"""Ends of the bands of frequency."""

POSITION_BANDS = 8
PIECES = ("a whole word", "the first piece of a word", "a further piece of a word")
SHOWN = ("[MASK]", "a random piece", "the piece itself")

_ROWS_AT_ONCE = 64


class MaskedTokens(NamedTuple):
    """What is known of each of M masked positions of a held-out set, in its order."""

    row: NDArray[np.int64]
    """Number of the row in the set."""
    column: NDArray[np.int64]
    target: NDArray[np.int64]
    """Id of the right piece."""
    shown: NDArray[np.int64]
    """Place in `SHOWN`."""
    piece: NDArray[np.int64]
    """Place in `PIECES`."""


class TokenScores(NamedTuple):
    """How a scorer did at each of M masked positions."""

    loss: NDArray[np.float64]
    """nats"""
    top1: NDArray[np.bool_]
    top5: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    """Probability of the piece that is scored best."""


def masked_tokens(batches: Iterable[Batch], tokenizer: WordPiece) -> MaskedTokens:
    """The masked positions of `batches`.

    Raises:
        InvalidInputError: a batch has no masked positions or targets, or nothing is masked.
    """
    parts = []
    rows = 0
    for batch in batches:
        B, T = batch.input_ids.shape
        if batch.masked_positions is None or batch.target_ids is None:
            raise InvalidInputError("batch", got="no masked_positions or target_ids", expected="both")
        positions, targets = batch.masked_positions, batch.target_ids.astype(np.int64)
        shown_ids = batch.input_ids.reshape(-1)[positions]
        original = np.full((B, T + 1), tokenizer.sep_id, np.int64)
        original[:, :T] = batch.input_ids
        row, column = np.divmod(positions, T)
        original[row, column] = targets
        goes_on = tokenizer.continuation[original]
        piece = np.where(goes_on[row, column], 2, np.where(goes_on[row, column + 1], 1, 0))
        shown = np.where(shown_ids == tokenizer.mask_id, 0, np.where(shown_ids == targets, 2, 1))
        parts.append(MaskedTokens(rows + row, column, targets, shown, piece))
        rows += B
    if not any(len(part.row) for part in parts):
        raise InvalidInputError("batches", got="no masked position", expected="at least one")
    return MaskedTokens(*map(np.concatenate, zip(*parts, strict=True)))


def token_scores(
    model: MaskedLMScorer, batches: Iterable[Batch], progress: Callable[[int], None] | None = None
) -> TokenScores:
    """Score each masked position by itself, as `evaluate_masked_lm` does in sum; memory is bounded in the same way.

    Raises:
        InvalidInputError: a batch has no masked positions or targets, or the scores have another shape than [M, V].
        NonFiniteError: a score is NaN or gives an infinite loss, or the model overflows on the way to it.
    """
    parts = []
    for part in bounded_parts(batches, progress):
        assert part.masked_positions is not None
        assert part.target_ids is not None
        if part.masked_positions.size:
            logits = scores_at_masks(model, part)
            ranks = target_ranks(logits, part.target_ids)
            confidence = np.exp(-token_losses(logits, logits.argmax(axis=1)))
            hits = top_k_hits(ranks, 1), top_k_hits(ranks, 5)
            parts.append(TokenScores(token_losses(logits, part.target_ids), *hits, confidence))
    if not parts:
        raise InvalidInputError("batches", got="no masked position", expected="at least one")
    return TokenScores(*map(np.concatenate, zip(*parts, strict=True)))


def masked_lm_breakdown(
    model: MaskedLMScorer,
    batches: Sequence[Batch],
    tokenizer: WordPiece,
    *,
    counts: NDArray[np.integer] | None = None,
    baselines: Mapping[str, MaskedLMScorer] | None = None,
    tagged: Sequence[TaggedSentence] = (),
    length: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take the held-out loss apart.

    Args:
        model: what is scored.
        batches: the held-out set, with its masks.
        tokenizer: that made the ids.
        counts: [V] how often each piece occurs in the training text; without it no bands of frequency.
        baselines: name → scorer, for the same positions.
        tagged: sentences for the breakdown by part of speech; none: without it.
        length: of a row of `tagged`; by default that of the longest batch.
        seed: of the masks of `tagged`.
        progress: told how far it is.

    Returns:
        Plain values for JSON, of kind `masked_lm_breakdown`; `mini_bert.reports.masked_lm_breakdown` draws them.

    Raises:
        InvalidInputError, NonFiniteError: as `token_scores`; or `counts` is not [V].
    """
    if counts is not None and counts.shape != (tokenizer.vocab_size,):
        raise InvalidInputError("counts", got=list(counts.shape), expected=f"[{tokenizer.vocab_size}]")
    tokens = masked_tokens(batches, tokenizer)
    scorers = {"model": model, **(baselines or {})}
    scores = {name: _told_scores(name, scorer, batches, progress) for name, scorer in scorers.items()}
    longest = max(batch.input_ids.shape[1] for batch in batches)
    groups = []
    if counts is not None:
        band, labels = _frequency_bands(counts, tokens.target)
        groups.append(_group("frequency", labels, band, tokens.row, scores))
    groups.append(_group("piece", PIECES, tokens.piece, tokens.row, scores))
    groups.append(_group("shown", SHOWN, tokens.shown, tokens.row, scores))
    bands = min(POSITION_BANDS, longest)
    edges = longest * np.arange(bands + 1) // bands
    labels = [f"{low + 1} to {high}" for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
    band = np.searchsorted(edges, tokens.column, side="right") - 1
    groups.append(_group("position", labels, band, tokens.row, scores))
    if tagged:
        groups.append(_by_part_of_speech(scorers, tokenizer, tagged, length or longest, seed, progress))
    hidden = tokens.shown == 0
    return {
        "kind": "masked_lm_breakdown",
        "n_masked": len(tokens.row),
        "n_rows": sum(len(batch.input_ids) for batch in batches),
        "baselines": list(baselines or {}),
        "groups": groups,
        "calibration": {name: _calibration(found, tokens.row, hidden) for name, found in scores.items()},
    }


def masked_sentences(
    tokenizer: WordPiece, sentences: Sequence[Sequence[str]], *, length: int, seed: int = 0
) -> tuple[list[Batch], WordRows]:
    """Rows of whole sentences, masked once as held-out rows are, and where their words stand; row n is row n of both.

    Raises:
        InvalidInputError: as `word_rows`.
    """
    from mini_bert.data.batches import held_out_masking
    from mini_bert.data.masking import Pieces, masked_batch

    words = word_rows(tokenizer, sentences, length=length)
    pieces, masking, stream = Pieces.of(tokenizer), held_out_masking(), RandomStream(seed, "held_out/treebank")
    batches = []
    for start in range(0, len(words.rows), _ROWS_AT_ONCE):
        rows = words.rows[start : start + _ROWS_AT_ONCE]
        ids = np.full((len(rows), length), tokenizer.pad_id, np.int32)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = row.ids
        batches.append(masked_batch(ids, pieces, masking, stream, start))
    return batches, words


def _by_part_of_speech(
    scorers: Mapping[str, MaskedLMScorer],
    tokenizer: WordPiece,
    tagged: Sequence[TaggedSentence],
    length: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    tags = [tag for sentence in tagged for tag in sentence.tags]
    labels = sorted(set(tags))
    batches, words = masked_sentences(tokenizer, [sentence.words for sentence in tagged], length=length, seed=seed)
    tokens = masked_tokens(batches, tokenizer)
    scores = {name: _told_scores(name, scorer, batches, progress) for name, scorer in scorers.items()}
    begins = words.row * length + words.begin
    word = np.searchsorted(begins, tokens.row * length + tokens.column, side="right") - 1
    number = {label: place for place, label in enumerate(labels)}
    member = np.array([number[tag] for tag in tags], np.int64)[word]
    return _group("part of speech", labels, member, tokens.row, scores)


def _told_scores(name: str, scorer: MaskedLMScorer, batches: Sequence[Batch], progress: Progress | None) -> TokenScores:
    rows = sum(len(batch.input_ids) for batch in batches)
    return token_scores(scorer, batches, progress and (lambda done: progress(f"scoring by piece: {name}", done, rows)))


def _frequency_bands(
    counts: NDArray[np.integer], targets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Sequence[str]]:
    """The band of each target, and the labels of the bands."""
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts.astype(np.int64), kind="stable")] = np.arange(len(counts))
    begins = (0, *RANKS[:-1])
    labels = [f"{low + 1:,} to {high:,}" for low, high in zip(begins, RANKS, strict=True)]
    band = np.searchsorted(RANKS, rank, side="right")
    band[counts == 0] = len(RANKS) + 1
    return band[targets], (*labels, f"from {RANKS[-1] + 1:,}", "never seen in training")


def _group(
    by: str,
    labels: Sequence[str],
    member: NDArray[np.int64],
    rows: NDArray[np.int64],
    scores: Mapping[str, TokenScores],
) -> dict[str, Any]:
    lines = []
    for place, label in enumerate(labels):
        chosen = member == place
        if n := int(chosen.sum()):
            found = {name: _scored(of, rows, chosen) for name, of in scores.items()}
            lines.append({"label": label, "n": n, "share": n / len(member), "scores": found})
    return {"by": by, "n": len(member), "lines": lines}


def _scored(scores: TokenScores, rows: NDArray[np.int64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    loss = clustered_mean(*sums_by_cluster(scores.loss[chosen], rows[chosen]), bounds=OF_A_LOSS)
    top1 = clustered_wilson_interval(*sums_by_cluster(scores.top1[chosen], rows[chosen]))
    return {
        "loss": loss.mean,
        "loss_interval": loss.interval.ends(),
        "top1": float(scores.top1[chosen].mean()),
        "top1_interval": list(top1),
        "top5": float(scores.top5[chosen].mean()),
    }


def _calibration(scores: TokenScores, rows: NDArray[np.int64], hidden: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Error, its floor, the reliability table, and by how much confidence is above accuracy on the whole."""
    if not hidden.any():
        return None
    confidence, hits = scores.confidence[hidden], scores.top1[hidden]
    found: Calibration = calibration(confidence, hits)
    over = clustered_mean(*sums_by_cluster(confidence - hits, rows[hidden]))
    return {
        "n": len(hits),
        "error": found.error,
        "floor": found.floor,
        "overconfidence": over.mean,
        "overconfidence_interval": over.interval.ends(),
        "bins": [{**bin._asdict(), "interval": list(bin.interval)} for bin in found.bins],
    }
