"""Attention with linear biases: scores fall with the distance, in each head at another rate (Press et al. 2022).

    N[a, t, s] = −m_a |p_t − s|                                              (ALIBI.1)
    m_a = 2^(−8a/A)                      a = 1 … A, A a power of two         (ALIBI.2)

Nothing is learned, so there is no backward pass: the gradient of the scores goes past (ATT.11). Derivation:
docs/derivations/alibi.md.

Differs from the paper: its models look back only; here keys on both sides are as far as they are.
"""

from __future__ import annotations

import numpy as np

from mini_bert.ops.contract import Array


def slopes(heads: int) -> Array:
    """m_a of each head, steepest first (ALIBI.2), [A] in float64.

    For A that is no power of two, as in the paper's code: those of the next smaller power P, and behind them the 1st,
    3rd, 5th … of 2 P heads, which lie between.

    >>> slopes(4).tolist(), slopes(3).tolist()
    ([0.25, 0.0625, 0.015625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    power = 1 << (heads.bit_length() - 1)
    whole = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-8.0 * np.arange(1, 2 * (heads - power), 2) / (2 * power))
    return np.concatenate([whole, between])


def bias(heads: int, keys: int, positions: Array | None = None) -> Array:
    """N [1, A, S, S], the same for all rows, or [B, A, T, S], to be added to the scores (ALIBI.1), in float64.

    Args:
        heads: A.
        keys: S.
        positions: [B, 1, T], places of the queries of each row; None: 0 … S − 1 in every row.
    """
    places = np.arange(keys)[None, None, :] if positions is None else positions
    distances = np.abs(places[..., None] - np.arange(keys))
    return np.asarray(-slopes(heads)[:, None, None] * distances)
