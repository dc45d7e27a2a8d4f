"""Among how many equally likely pieces does a model seem to choose?"""

from __future__ import annotations

import math

from mini_bert.errors import InvalidInputError


def perplexity(loss: float) -> float:
    """exp(loss) for a mean cross-entropy in nats; infinity where that is more than a float holds (loss > 709.78).

    Perplexity at masked positions, which see both sides, is not comparable with that of a left-to-right model.

    Raises:
        InvalidInputError: `loss` is NaN.

    >>> round(perplexity(math.log(8192)))
    8192
    """
    if math.isnan(loss):
        raise InvalidInputError("loss", got=loss, expected="a number of nats")
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
