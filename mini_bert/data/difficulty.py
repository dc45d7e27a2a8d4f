"""How difficult is each row? By its length, the rarity of its pieces, or a model's loss; once, then from the cache.

length   `sentences` layout: tokens; `packed`: tokens of its sentences on average, since all rows are of one length
rarity   −log p(piece), averaged over the ordinary pieces; p from the counts of the training text       (CU.5)
loss     mean loss of a reference model at held-out-like masks (kind token, rate 0.15), in nats a token
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.data.kept_arrays import kept_arrays
from mini_bert.data.masking import Pieces, masked_batch
from mini_bert.data.packing import RowIndex
from mini_bert.data.piece_counts import piece_counts
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.text.wordpiece import WordPiece

Floats = NDArray[np.float32]

_ROWS_AT_ONCE = 4096
_SCORED_AT_ONCE = 64
"""Rows of which a model's losses are asked at once; fixed, for the last bits depend on how far rows are padded."""


class Reference(NamedTuple):
    """A model whose loss is a row's difficulty."""

    fingerprint: str
    """Of its weights: other weights, other losses."""
    losses: Callable[[Batch], NDArray[np.floating]]
    """[B] mean loss of each row of a batch, in nats a masked token."""


def row_difficulties(
    token_set: TokenSet,
    rows: RowIndex,
    config: Config,
    tokenizer: WordPiece,
    reference: Reference | None,
    progress: Progress,
) -> Floats:
    """The difficulty of each row as `curriculum.kind` says, [rows].

    Raises:
        ConfigError: kind loss without a reference model.
        InvalidInputError: the reference gives other than B finite losses.
        ChecksumError, StorageError: as `kept_arrays`.
    """
    kind = config.curriculum.kind
    key: tuple[object, ...] = ("difficulties 1", kind, token_set.fingerprint, token_set.layout, rows.length)
    if kind == "loss":
        if reference is None:
            raise ConfigError(
                "curriculum.kind",
                got="loss, where no reference model was loaded",
                expected="none, length or rarity; or a training, which loads it",
            )
        key += (reference.fingerprint, tokenizer.fingerprint, config.evaluation.mask_seed)

    def parts() -> Iterator[Floats]:
        if kind == "length":
            yield from _lengths(token_set, rows)
        elif kind == "rarity":
            yield from _rarities(rows, piece_counts(token_set, tokenizer, progress), tokenizer)
        else:
            assert reference is not None
            yield from _losses(rows, config, tokenizer, reference)

    def compute() -> dict[str, Floats]:
        difficulty, done = np.empty(len(rows), np.float32), 0
        for part in parts():
            difficulty[done : done + len(part)] = part
            done += len(part)
            progress("how difficult is each row", done, len(rows))
        return {"difficulty": difficulty}

    return kept_arrays("difficulties", key, compute, progress)["difficulty"]


def _numbers(rows: RowIndex, at_once: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(rows), at_once):
        yield np.arange(first, min(first + at_once, len(rows)))


def _lengths(token_set: TokenSet, rows: RowIndex) -> Iterator[Floats]:
    for numbers in _numbers(rows, _ROWS_AT_ONCE):
        difficulty = (rows.lengths(numbers) - 2).astype(np.float32)
        if token_set.layout == "packed":
            for text, mine in rows.texts(numbers):
                starts, lengths = text.layout.places(numbers[mine] - text.first_row)
                begun = np.searchsorted(text.store.sentence_offsets, starts, side="right")
                ended = np.searchsorted(text.store.sentence_offsets, starts + lengths, side="left")
                difficulty[mine] /= ended - begun + 1
        yield difficulty


def _rarities(rows: RowIndex, counts: NDArray[np.int64], tokenizer: WordPiece) -> Iterator[Floats]:
    ordinary = np.ones(len(counts), bool)
    ordinary[sorted(tokenizer.special_ids)] = False
    surprise = np.where(ordinary, np.log(max(1, counts.sum())) - np.log(np.maximum(counts, 1)), 0.0)
    for numbers in _numbers(rows, _ROWS_AT_ONCE):
        ids = rows.read(numbers)
        yield (surprise[ids].sum(axis=1) / np.maximum(1, ordinary[ids].sum(axis=1))).astype(np.float32)  # (CU.5)


def _losses(rows: RowIndex, config: Config, tokenizer: WordPiece, reference: Reference) -> Iterator[Floats]:
    from mini_bert.data.batches import held_out_masking

    pieces, masking = Pieces.of(tokenizer), held_out_masking()
    stream = RandomStream(config.evaluation.mask_seed, "curriculum/masking")
    for numbers in _numbers(rows, _SCORED_AT_ONCE):
        losses = np.asarray(
            reference.losses(masked_batch(rows.read(numbers), pieces, masking, stream, int(numbers[0])))
        )
        if losses.shape != numbers.shape or not np.isfinite(losses).all():
            got = f"shape {losses.shape}, {np.count_nonzero(~np.isfinite(losses))} not finite"
            raise InvalidInputError("reference", got=got, expected=f"{len(numbers)} finite losses")
        yield losses.astype(np.float32)
