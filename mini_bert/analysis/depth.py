"""How does the error grow with the number of blocks?

Each block adds roundings of its own to what it inherits. Were they all in one direction, the error would grow with the
number of blocks L; as they are independent, their squares add up, and it grows with √L.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mini_bert.analysis.narrow_pass import Recording, forward, rounding_tap, with_rounded_parameters
from mini_bert.analysis.rounding import Format, relative_error
from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT


class Depth(NamedTuple):
    """Error behind each block of a deep model."""

    errors: list[float]
    """‖x̂ − x‖ / ‖x‖ of the residual stream behind block 1, 2, …"""
    exponent: float
    """p in error ∝ Lᵖ, by least squares of logarithms over the second half of the blocks; NaN where something broke."""


def error_by_depth(config: ModelConfig, batch: Batch, format: Format, *, blocks: int, seed: int = 0) -> Depth:
    """Errors in a freshly initialised model of `config` with so many blocks, float64 beside `format`."""
    model = MiniBERT(config.model_copy(update={"num_hidden_layers": blocks}), dtype=np.float64, seed=seed)
    exact, narrow = Recording(), Recording(rounding_tap(format))
    forward(model, batch, exact)
    forward(with_rounded_parameters(model, format), batch, narrow)
    names = [f"layer_{i}.output" for i in range(blocks)]
    errors = [relative_error(narrow.after[name], exact.after[name]) for name in names]
    return Depth(errors, _exponent(errors))


def _exponent(errors: list[float]) -> float:
    if not all(map(math.isfinite, errors)) or not all(errors):
        return math.nan
    first = len(errors) // 2
    blocks, logarithms = np.log(np.arange(first, len(errors)) + 1.0), np.log(errors[first:])
    blocks -= blocks.mean()
    return float(blocks @ logarithms / (blocks @ blocks))
