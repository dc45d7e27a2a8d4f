"""Values of the parameters before training: BERT's truncated normal, or one scaled to each matrix.

    truncated_normal   normal(0, r) cut at 2 r, not rescaled: deviation 0.880 r   r = `initializer_range`   (INIT.1)
    xavier_normal      normal(0, √(2 / (in + out)))      Glorot and Bengio 2010                             (INIT.2)
    he_normal          normal(0, √(2 / in))              He et al. 2015                                     (INIT.3)
    lecun_normal       normal(0, √(1 / in))              LeCun et al. 1998                                  (INIT.4)
    orthogonal         Q of a normal matrix's QR         Saxe, McClelland and Ganguli 2014                  (INIT.5)

(INIT.2-5) are for matrices of linear maps; tables are truncated normals always. `scale_residual_init` divides W_O and
W2, through which every sublayer adds to the residual stream, by √(2 L) (Radford et al. 2019, section 2.3)    (INIT.6)
`decoder_bias_init: unigram` begins the decoder's bias with log((c + 1) / Σ (c + 1)), c a piece's count       (INIT.7)
Derivation: docs/derivations/initialization.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError
from mini_bert.model.parameters import ParameterRow, Parameters
from mini_bert.random_streams import RandomStream


def initialize(parameters: Parameters, seed: int, unigram: Any = None) -> None:
    """Fill the buffer: matrices and tables as configured, biases 0, gains of the norms 1.

    Truncated normals are those of TensorFlow's BERT: what falls outside is drawn again, and the result is not rescaled.
    Each tensor's values depend on the seed, its name and its shape alone.

    Args:
        parameters: filled in place.
        seed: of all draws.
        unigram: [V] how often each piece stands in the training text, for `decoder_bias_init: unigram`; 0 for those
            that are never predicted, as [CLS], [SEP] and [PAD].

    Raises:
        InvalidInputError: `unigram` is not there and should be, or does not hold V counts.
    """
    config = parameters.config
    for row in parameters.table:
        view = parameters[row.name]
        if row.initializer == "truncated_normal":
            stream = RandomStream(seed, f"initialization/{row.name}")
            view[...] = _drawn(stream, row, config)
        else:
            view[...] = 1.0 if row.initializer == "ones" else 0.0
    if "mlm" in config.heads and config.decoder_bias_init == "unigram":
        parameters["b_vocabulary"][...] = unigram_log_frequencies(unigram, config.vocab_size)  # (INIT.7)


def _drawn(stream: RandomStream, row: ParameterRow, config: ModelConfig) -> NDArray[np.float64]:
    """First values of a matrix or a table."""
    size = math.prod(row.shape)
    linear_map = row.transposed  # tables lie the same way round everywhere
    if config.initializer == "orthogonal" and linear_map:
        values = orthogonal(stream, row.shape)
    elif config.initializer in DEVIATIONS and linear_map:
        inputs, outputs = row.shape
        values = normal(stream, size, DEVIATIONS[config.initializer](inputs, outputs)).reshape(row.shape)
    else:
        values = truncated_normal(stream, size, config.initializer_range).reshape(row.shape)
    if config.scale_residual_init and row.name.startswith(_ADDS_TO_THE_STREAM):
        values /= math.sqrt(2 * config.num_hidden_layers)  # (INIT.6)
    return values


DEVIATIONS = {
    "xavier_normal": lambda inputs, outputs: math.sqrt(2.0 / (inputs + outputs)),
    "he_normal": lambda inputs, outputs: math.sqrt(2.0 / inputs),
    "lecun_normal": lambda inputs, outputs: math.sqrt(1.0 / inputs),
}
"""(INIT.2-4), by `initializer` of the configuration."""

_ADDS_TO_THE_STREAM = ("W_O_", "W2_")


def truncated_normal(stream: RandomStream, size: int, deviation: float) -> NDArray[np.float64]:
    """`size` draws from normal(0, deviation) given that they lie within two deviations (INIT.1)."""
    values = np.empty(size)
    missing = np.arange(size)
    while missing.size:
        z = normal(stream, missing.size)
        inside = np.abs(z) <= 2.0
        values[missing[inside]] = deviation * z[inside]
        missing = missing[~inside]
        stream = stream._replace(step=stream.step + 1)
    return values


def normal(stream: RandomStream, size: int, deviation: float = 1.0) -> NDArray[np.float64]:
    """`size` draws from normal(0, deviation), by the transform of Box and Muller (1958)."""
    u, v = stream.uniform(2, size)
    z = np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)
    return np.asarray(deviation * z)


def orthogonal(stream: RandomStream, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A matrix [in, out] whose columns, or rows where there are fewer of these, are orthonormal (INIT.5).

    Uniform among all such matrices, since the diagonal of R is made positive (Mezzadri 2007). The decomposition is
    LAPACK's: two machines may differ in the last bits of a float64, and so, now and then, in one of a float32.
    """
    inputs, outputs = shape
    tall = normal(stream, inputs * outputs).reshape(max(shape), min(shape))
    Q, R = np.linalg.qr(tall)
    Q *= np.sign(np.diagonal(R))
    return np.ascontiguousarray(Q if inputs >= outputs else Q.T)


def unigram_log_frequencies(counts: Any, vocab_size: int) -> NDArray[np.float64]:
    """The logarithm of each piece's share of `counts` [V], each raised by one (INIT.7).

    Raises:
        InvalidInputError: it does not hold V counts.
    """
    array = None if counts is None else np.asarray(counts)
    if array is None or array.shape != (vocab_size,) or array.dtype.kind not in "iu" or array.min() < 0:
        got = None if array is None else f"{array.dtype} of shape {list(array.shape)}"
        raise InvalidInputError(
            "unigram",
            got=got,
            expected=f"the counts of all {vocab_size} pieces, which decoder_bias_init unigram begins with",
            advice="decoder_bias_init zeros needs none.",
        )
    raised = array.astype(np.float64) + 1.0
    return np.asarray(np.log(raised / raised.sum()))
