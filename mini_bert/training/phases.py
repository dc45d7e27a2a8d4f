"""Which phase of learning is this? Named from measured losses, by rules that fit on a page.

Two losses of the training text itself, in nats, say where a model stands that cannot look at its neighbours:

    unigram loss         u = H(Y): knows how often each piece occurs, nothing else
    attention-free loss  f = H(Y | X): also reads the piece X that stands at the masked place itself, which is the
                             answer where the mask left it unchanged (10 %), a random one elsewhere (10 %)

with P(Y=y, X=[MASK]) = m p(y) and P(Y=y, X=x) = p(y) (k [x=y] + r / V'), where p are the pieces' frequencies, m, r and
k the shares that are masked, replaced and kept, and V' the number of pieces that a replacement may be. Post-LN BERTs
first fall to u, then sit for a while between u and f (the plateau that is so often reported as "MLM loss stuck"): each
place is read by itself, and a little by the average of its row. Only attention leads far below f.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEARNING_FREQUENCIES = "learning token frequencies"
PLATEAU = "plateau near the unigram loss"
WAKING = "attention wakes up"
REFINING = "refining"
OTHER_TASKS = "learning other tasks"
"""Where nothing is masked: no loss is to be compared with what frequencies alone can reach."""

_MARGIN = 0.1
"""Nats above u within which a loss counts as having reached it."""
_UNIFORM_ATTENTION = 0.3
"""Nats below f that a model still on the plateau may reach: attention that has not woken up averages over the row, and
which words the row is made of, wherever they stand, is worth about two tenths."""
_WAKING_RATE = 1.0
"""Nats lost per e-fold of steps above which attention is still waking up."""
_RECENT = 0.8
"""The rate is measured from this share of the steps on."""


class References(NamedTuple):
    """What the training text's piece frequencies alone can reach, in nats a masked token."""

    unigram_loss: float
    attention_free_loss: float


def references(counts: NDArray[np.integer], mask_share: float, random_share: float) -> References:
    """The two losses, from the number of times that each ordinary piece occurs (specials must count 0).

    Pieces that may replace others are taken to be those that occur; the error is far below the margin of the rules.
    """
    p = counts[counts > 0] / counts.sum()
    entropy = float(-(p * np.log(p)).sum())
    kept, each = max(0.0, 1.0 - mask_share - random_share), random_share / p.size
    visible = kept * p + each
    visible_share = kept + random_share
    if visible_share == 0:
        return References(entropy, entropy)
    # Given the visible piece x: P(y | x) = a at y = x, and b p(y) at every other y.
    with np.errstate(divide="ignore", invalid="ignore"):
        a = p * (kept + each) / visible
        b = np.where(visible > 0, each / visible, 0.0)
        others = b * (entropy + p * np.log(p)) - np.where(b > 0, b * np.log(b), 0.0) * (1 - p)
    conditional = float((visible * (others - a * np.log(a))).sum())
    return References(entropy, (1 - visible_share) * entropy + conditional)


def learning_phase(steps: Sequence[int], losses: Sequence[float], known: References) -> str:
    """The phase at the last of `steps`, from the losses so far (means over logging windows, in nats).

    1. above u + 0.1: `learning token frequencies`;
    2. from there down to f - 0.3: `plateau near the unigram loss`;
    3. below, and falling by more than 1 nat per e-fold of steps over the last fifth of the run: `attention wakes up`;
    4. below, and falling more slowly: `refining`.

    The loss that is compared is the mean over the last fifth of the run so far, at most its ten newest windows.
    """
    if not losses:
        return LEARNING_FREQUENCIES
    recent = [index for index, step in enumerate(steps) if step >= _RECENT * steps[-1]]
    newest = recent[-10:]
    loss = sum(losses[index] for index in newest) / len(newest)
    if loss > known.unigram_loss + _MARGIN:
        return LEARNING_FREQUENCIES
    if loss >= known.attention_free_loss - _UNIFORM_ATTENTION:
        return PLATEAU
    if len(recent) < 2:
        return WAKING
    x, y = np.log([steps[index] for index in recent]), np.array([losses[index] for index in recent])
    x, y = x - x.mean(), y - y.mean()
    return WAKING if -(x @ y) / (x @ x) > _WAKING_RATE else REFINING
