"""Which tokens are hidden from the model, and by what (Devlin et al. 2019, section 3.1, Task 1).

In a row of n ordinary tokens, k are chosen, with k the rate times n rounded up or down at random so that its mean is
exact (9.3 becomes 9 or 10), and at least 1:

    k = min(n, max(1, ⌊rate · n + u⌋)),  u uniform in [0, 1)                                              (MA.1)

Which ones is a matter of `masking.kind`, see `masking_kinds.py`: tokens at random, words, spans, … Of the chosen, 80 %
become [MASK], 10 % a random ordinary piece and 10 % stay as they are; all are to be predicted. Special tokens, [UNK]
and [PAD] included, are never chosen and never put in.

Each element depends on (seed, step, number of the row in the global batch, column) and on nothing else: not on
threads, shards or the rows beside it. A new step is a new draw, so that a row is masked differently each epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.batch import Batch
from mini_bert.data.masking_facts import NO_FACTS, MaskingFacts
from mini_bert.data.masking_kinds import KINDS, tokens
from mini_bert.data.masking_units import Choice, Rows
from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import MaskingConfig
    from mini_bert.text.wordpiece import WordPiece

IGNORED = -100
"""The target of a token that is not to be predicted, in the dense form."""


class Pieces(NamedTuple):
    """What masking has to know of a vocabulary."""

    mask_id: int
    pad_id: int
    special: NDArray[np.bool_]
    """[V] True at [PAD], [UNK], [CLS], [SEP] and [MASK]."""
    ordinary_ids: NDArray[np.int32]
    """[V - specials] ids of all other pieces, ascending."""
    continuation: NDArray[np.bool_]
    """[V] True at pieces that go on with a word (##)."""

    @classmethod
    def of(cls, tokenizer: WordPiece) -> Pieces:
        """The facts of a tokenizer's vocabulary."""
        special = np.zeros(tokenizer.vocab_size, bool)
        special[sorted(tokenizer.special_ids)] = True
        return cls(
            tokenizer.mask_id,
            tokenizer.pad_id,
            special,
            np.flatnonzero(~special).astype(np.int32),
            np.asarray(tokenizer.continuation),
        )


class MaskedRows(NamedTuple):
    """Rows with tokens hidden, and the sparse list of what was hidden."""

    input_ids: NDArray[np.int32]
    """[B, T] corrupted where masked."""
    masked_positions: NDArray[np.int64]
    """[M] ascending positions b * T + t."""
    target_ids: NDArray[np.int32]
    """[M] the original ids there."""


def mask_rows(
    input_ids: NDArray[np.integer],
    pieces: Pieces,
    masking: MaskingConfig,
    stream: RandomStream,
    first_row: int = 0,
    *,
    rate: float | None = None,
    facts: MaskingFacts = NO_FACTS,
) -> MaskedRows:
    """Hide tokens of `input_ids` [B, T]; row b is number `first_row + b` of the global batch.

    Args:
        input_ids: [B, T] token ids.
        pieces: of the vocabulary.
        masking: kind and shares; the rate where `rate` is None.
        stream: of the step.
        first_row: number in the global batch of row 0.
        rate: share of the ordinary tokens that is chosen.
        facts: of the training text, as `masking_facts.facts_for` gives them to the kinds that need them.

    Raises:
        InvalidInputError: the kind needs facts that are not there.
    """
    facts.demand(masking.kind)
    return _mask(
        input_ids,
        pieces,
        stream,
        first_row,
        rate=masking.rate if rate is None else rate,
        mask_share=masking.mask_share,
        random_share=masking.random_share,
        choose=lambda rows: KINDS[masking.kind](rows, masking, facts),
    )


def masked_batch(
    ids: NDArray[np.int32],
    pieces: Pieces,
    masking: MaskingConfig,
    stream: RandomStream,
    first_row: int,
    *,
    rate: float | None = None,
    facts: MaskingFacts = NO_FACTS,
) -> Batch:
    """Mask rows at their full length, then cut off what is padding in all of them; arguments as in `mask_rows`."""
    columns = ids.shape[1]
    real = ids != pieces.pad_id
    longest = columns if real[:, -1].any() else int(real.sum(axis=1).max())
    masked = mask_rows(ids, pieces, masking, stream, first_row, rate=rate, facts=facts)
    row, column = np.divmod(masked.masked_positions, columns)
    return Batch(
        np.ascontiguousarray(masked.input_ids[:, :longest]),
        attention_mask=None if real.all() else np.ascontiguousarray(real[:, :longest]),
        masked_positions=row * longest + column,
        target_ids=masked.target_ids,
    )


def mask_tokens(
    batch: ArrayLike, vocab_size: int, mask_id: int, mask_prob: float = 0.15, seed: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Hide tokens 80/10/10 and return dense arrays, all [B, T]: (input_ids, target_ids, mask_pos).

    `target_ids` holds the original id where `mask_pos` is True and -100 elsewhere. Ids 0 to 4 ([PAD] [UNK] [CLS] [SEP]
    [MASK] in a vocabulary of ours) and `mask_id` are special: never chosen, never put in at random.

    Args:
        batch: [B, T] token ids.
        vocab_size: V.
        mask_id: the id of [MASK].
        mask_prob: share of the ordinary tokens of a row that is chosen, at least one.
        seed: makes the call a pure function; without it, a seed is drawn from NumPy's global state, so that
            `np.random.seed` decides.

    Raises:
        InvalidInputError: ids are not integers `[B, T]` in 0..V-1, or another argument is out of bounds.
    """
    try:
        ids = np.asarray(batch)
    except ValueError as error:
        raise InvalidInputError("batch", got="rows of unequal lengths", expected="integer ids [B, T]") from error
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise InvalidInputError(
            "batch", got=f"{ids.dtype} array of shape {ids.shape}", expected="integer token ids of shape [B, T]"
        )
    whole = all(isinstance(value, int | np.integer) for value in (mask_id, vocab_size))
    if not whole or not 6 <= vocab_size <= 2**31 or not 0 <= mask_id < vocab_size:
        raise InvalidInputError(
            "mask_id, vocab_size",
            got=f"{mask_id!r}, {vocab_size!r}",
            expected="whole numbers, 0 <= mask_id < vocab_size, from 6 to 2**31",
        )
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        raise InvalidInputError(
            "batch", got=f"ids from {ids.min()} to {ids.max()}", expected=f"ids in 0..{vocab_size - 1}"
        )
    if not isinstance(mask_prob, float | np.floating) or not 0 < mask_prob < 1:
        raise InvalidInputError("mask_prob", got=repr(mask_prob), expected="a number between 0 and 1")
    special = np.zeros(vocab_size, bool)
    special[:5] = special[mask_id] = True
    pieces = Pieces(mask_id, 0, special, np.flatnonzero(~special).astype(np.int32), np.zeros(vocab_size, bool))
    chosen_seed = int(np.random.randint(0, 2**31)) if seed is None else seed
    stream = RandomStream(chosen_seed, "mask_tokens")
    masked = _mask(ids, pieces, stream, 0, rate=mask_prob, mask_share=0.8, random_share=0.1, choose=tokens)
    mask_pos = np.zeros(ids.shape, bool)
    mask_pos.flat[masked.masked_positions] = True
    target_ids = np.full(ids.shape, IGNORED, np.int32)
    target_ids.flat[masked.masked_positions] = masked.target_ids
    return masked.input_ids, target_ids, mask_pos


def _mask(
    input_ids: NDArray[np.integer],
    pieces: Pieces,
    stream: RandomStream,
    first_row: int,
    *,
    rate: float,
    mask_share: float,
    random_share: float,
    choose: Callable[[Rows], Choice],
) -> MaskedRows:
    rows, columns = input_ids.shape
    ids = np.array(input_ids, np.int32, order="C")
    ordinary = ~pieces.special[ids]
    counts = ordinary.sum(axis=1)
    rounding = stream.at("count").uniform(rows, first_row=first_row)[:, 0]
    wanted = np.minimum(counts, np.maximum(1, np.floor(rate * counts + rounding).astype(np.int64)))
    chosen, fate_columns = choose(Rows(ids, ordinary, wanted, pieces, stream, first_row))

    positions = np.flatnonzero(chosen)
    targets = ids.ravel()[positions]
    fates = stream.at("fate").row_words(first_row, rows, columns).ravel()
    fate = fates[positions]
    if fate_columns is None:
        deciding = fate
    else:
        deciding = fates[positions - positions % columns + fate_columns.ravel()[positions]]
    share = (deciding >> np.uint64(32)).astype(np.float64) * 2.0**-32
    piece = ((fate & np.uint64(0xFFFFFFFF)) * np.uint64(len(pieces.ordinary_ids))) >> np.uint64(32)
    shown = np.where(share < mask_share + random_share, pieces.ordinary_ids[piece.astype(np.int64)], targets)
    ids.ravel()[positions] = np.where(share < mask_share, np.int32(pieces.mask_id), shown)
    return MaskedRows(ids, positions, targets)
