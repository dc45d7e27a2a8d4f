"""Cross-entropy of softmax probabilities with integer targets, in nats, summed over rows.

    p_m     = exp(z_m − max z_m) / Σ exp(z_m − max z_m)                      (CE.1)
    loss    = −Σ_m log p_m[target_m]                                         (CE.2)
    dz_m    = dloss (p_m − onehot(target_m))                                 (CE.3)

The sum, not the mean: shards of a batch then simply add, and whoever wants the mean divides once by the number of
targets of the whole batch. Derivation: docs/derivations/cross_entropy.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, Case, Cost, row_maxima, row_sums

IGNORED = -100
"""The target of a position that the loss does not read, as everywhere in the field."""


class Saved(NamedTuple):
    """The softmax as numerators and denominators: the division waits for (CE.3), where a product is due anyway."""

    exponentials: Array
    """[M, V] exp(z − max z)"""
    totals: Array
    """[M, 1] their sums"""
    targets: Array
    """[M]"""


def forward(logits: Array, *, targets: Array) -> tuple[Array, Saved]:
    """Return the summed loss, a scalar array: `logits` [M, V], `targets` [M] in [0, V) (CE.2)."""
    shifted = logits - row_maxima(logits)
    at_targets = shifted[np.arange(targets.size), targets]
    exponentials = np.exp(shifted, out=shifted)
    totals = row_sums(exponentials)  # (CE.1)
    return np.asarray((np.log(totals[:, 0]) - at_targets).sum()), Saved(exponentials, totals, targets)


def backward(dloss: Array, saved: Saved) -> tuple[Array]:
    """Return dlogits [M, V] (CE.3)."""
    exponentials, totals, targets = saved
    dlogits = exponentials * (dloss / totals)
    dlogits[np.arange(targets.size), targets] -= dloss
    return (dlogits,)


def mlm_cross_entropy(logits: Array, target_ids: Array, mask_pos: Array | None = None) -> tuple[float, Array]:
    """Mean masked-language-model loss and its gradient with respect to the logits.

    Args:
        logits: [B, T, V] floats.
        target_ids: [B, T] integers; the original id where the loss is read, −100 elsewhere.
        mask_pos: [B, T] bool, where the loss is read; by default wherever `target_ids` is not −100.

    Returns:
        The mean over the masked positions in nats, and its gradient [B, T, V], zero elsewhere. With no masked position
        both are zero.

    Raises:
        InvalidInputError: shapes or dtypes do not fit, or a target that is read lies outside [0, V).
    """
    logits, target_ids = np.asarray(logits), np.asarray(target_ids)
    if logits.ndim < 2 or logits.dtype.kind not in "fc":
        raise InvalidInputError(
            "logits", got=f"{logits.dtype} {list(logits.shape)}", expected="floats of shape [B, T, V]"
        )
    if target_ids.shape != logits.shape[:-1] or target_ids.dtype.kind not in "iu":
        raise InvalidInputError(
            "target_ids",
            got=f"{target_ids.dtype} {list(target_ids.shape)}",
            expected=f"integers of shape {list(logits.shape[:-1])}",
        )
    read = target_ids != IGNORED if mask_pos is None else _as_bool_mask(mask_pos, target_ids.shape)
    targets = target_ids[read]
    V = logits.shape[-1]
    if targets.size and not (targets.min() >= 0 and targets.max() < V):
        worst = targets[(targets < 0) | (targets >= V)][0]
        raise InvalidInputError(
            "target_ids",
            got=f"{worst} at a masked position",
            expected=f"an id from 0 to {V - 1}",
            advice="-100 marks positions that are not read; mask_pos must be False there.",
        )
    dlogits = np.zeros_like(logits)
    if targets.size == 0:
        return 0.0, dlogits
    loss, saved = forward(logits[read], targets=targets)
    (dlogits[read],) = backward(np.asarray(1.0 / targets.size, logits.dtype), saved)
    return float(loss.real) / targets.size, dlogits


def _as_bool_mask(mask_pos: Any, shape: tuple[int, ...]) -> Array:
    mask = np.asarray(mask_pos)
    if (
        mask.shape != shape
        or mask.dtype.kind not in "biu"
        or (mask.dtype.kind != "b" and np.any((mask != 0) & (mask != 1)))
    ):
        raise InvalidInputError(
            "mask_pos", got=f"{mask.dtype} {list(mask.shape)}", expected=f"bool (or 0/1) of shape {list(shape)}"
        )
    return mask.astype(bool)


def cost(rows: int, width: int) -> Cost:
    """Cost for `logits` [rows, width]."""
    return Cost(4 * rows * width, rows * width, 4 * rows * (width + 1))


def _case(name: str, scale: float, *targets: int) -> Case:
    def make(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, object]]:
        return (scale * rng.normal(size=(len(targets), 6)),), {"targets": np.array(targets)}

    return Case(name, make)


CASES = (_case("three rows", 1.0, 0, 5, 5), _case("confident", 10.0, 2, 3))
