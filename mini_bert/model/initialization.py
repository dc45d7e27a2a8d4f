"""Values of the parameters before training: BERT's truncated normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mini_bert.model.parameters import Parameters
from mini_bert.random_streams import RandomStream


def initialize(parameters: Parameters, seed: int) -> None:
    """Fill the buffer: normal(0, `initializer_range`) cut at two deviations, biases 0, LayerNorm 1 and 0.

    As TensorFlow's BERT does it: what falls outside is drawn again, and the result is not rescaled, so its deviation is
    0.88 of the nominal one. Each tensor's values depend on the seed, its name and its shape alone.
    """
    for row in parameters.table:
        view = parameters[row.name]
        if row.initializer == "truncated_normal":
            stream = RandomStream(seed, f"initialization/{row.name}")
            view[...] = truncated_normal(stream, view.size, parameters.config.initializer_range).reshape(view.shape)
        else:
            view[...] = 1.0 if row.initializer == "ones" else 0.0


def truncated_normal(stream: RandomStream, size: int, deviation: float) -> NDArray[np.float64]:
    """`size` draws from normal(0, deviation) given that they lie within two deviations (Box and Muller 1958)."""
    values = np.empty(size)
    missing = np.arange(size)
    while missing.size:
        u, v = stream.uniform(2, missing.size)
        z = np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)
        inside = np.abs(z) <= 2.0
        values[missing[inside]] = deviation * z[inside]
        missing = missing[~inside]
        stream = stream._replace(step=stream.step + 1)
    return values
