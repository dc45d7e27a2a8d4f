"""One pass of the model as a machine with a narrow format would compute it.

The parameters are rounded once. Every named intermediate is rounded when it is complete, forward and backward: as a
fused kernel does that computes in registers and stores its result in the narrow format. Sums within one operation (a
matrix product, the statistics of LayerNorm, the denominators of softmax) stay wide, as they do on hardware;
`reductions.py` shows what happens where they do not.

The pass is that of training: behind the keys and values of the last block only what the loss reads. NumPy's errors are
ignored in it: what overflows is there to be counted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.analysis.rounding import Format, rounded
from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import EncoderSaved, MiniBERT
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.heads import HEADS
from mini_bert.model.parameters import Parameters
from mini_bert.ops import cross_entropy
from mini_bert.ops.contract import Array, Tap, identity
from mini_bert.random_streams import RandomStream


class Forward(NamedTuple):
    """A forward pass, and what its backward pass needs."""

    logits_MV: Array
    encoder: EncoderSaved
    head: Any


def with_rounded_parameters(model: MiniBERT, format: Format, stream: RandomStream | None = None) -> MiniBERT:
    """The same model with its parameters in `format`, carried in the dtype that they have; a buffer of its own."""
    buffer = rounded(model.parameters.buffer, format, stream).copy()
    return MiniBERT.from_parameters(Parameters(model.config, buffer=buffer), model.tokenizer)


def rounding_tap(format: Format, stream: RandomStream | None = None, only: str | None = None) -> Tap:
    """A tap that rounds every intermediate, or the one of the name `only`; stochastically where there is a stream."""

    def tap(name: str, value: Array) -> Array:
        if only is not None and name != only:
            return value
        return rounded(value, format, None if stream is None else stream.at(name))

    return tap


class Recording:
    """A tap that keeps a copy of each intermediate before and after another tap, in order of computation."""

    def __init__(self, tap: Tap = identity) -> None:
        self._tap = tap
        self.before: dict[str, Array] = {}
        self.after: dict[str, Array] = {}

    def __call__(self, name: str, value: Array) -> Array:
        """Record, and hand on what the other tap returns."""
        tapped = self._tap(name, value)
        self.after[name] = tapped.copy()
        self.before[name] = self.after[name] if tapped is value else value.copy()
        return tapped


class NarrowScorer:
    """A model in a narrow format, for whoever scores models: parameters rounded, and what `tap` does.

    Args:
        model: carries the rounded numbers in its own dtype.
        format: of the parameters and, without a `tap`, of every intermediate.
        tap: what is done with each intermediate; `identity` leaves them as they are.

    Fields: `best`, the id with the highest score at each masked position that was scored, batch by batch.
    """

    def __init__(self, model: MiniBERT, format: Format, tap: Tap | None = None) -> None:
        self._model = with_rounded_parameters(model, format)
        self._tap = tap or rounding_tap(format)
        self.best: list[NDArray[np.int64]] = []

    def mlm_logits(self, batch: Batch) -> Array:
        """Scores [M, V] of every piece at the masked positions."""
        with np.errstate(all="ignore"):
            logits_MV = forward(self._model, batch, self._tap).logits_MV
        self.best.append(logits_MV.argmax(axis=-1))
        return logits_MV


def forward(model: MiniBERT, batch: Batch, tap: Tap = identity) -> Forward:
    """Logits [M, V] at the masked positions of a batch that fits the model."""
    positions = batch.masked_positions
    if positions is None or not positions.size:
        raise InvalidInputError("batch", got="no masked position", expected="at least one")
    B, T = batch.input_ids.shape
    run = Pass(B, T, batch.attention_mask, first_row=batch.first_row, tap=tap)
    with np.errstate(all="ignore"):
        x_MH, encoder = model.encode_forward(batch.input_ids, batch.token_type_ids, run, Reading.of(positions, B, T))
        logits_MV, head = HEADS["mlm"][0](x_MH, model.parameters, model.config, run)
    return Forward(logits_MV, encoder, head)


def loss(logits_MV: Array, targets: Array) -> tuple[float, Array]:
    """The mean loss in nats and its gradient [M, V], computed in float64 and returned in the dtype of the logits."""
    with np.errstate(all="ignore"):
        total, saved = cross_entropy.forward(logits_MV.astype(np.float64), targets=targets)
        (dlogits_MV,) = cross_entropy.backward(np.asarray(1.0 / len(targets)), saved)
    return float(total) / len(targets), dlogits_MV.astype(logits_MV.dtype)


def backward(model: MiniBERT, done: Forward, dlogits_MV: Array, gradients: Parameters, tap: Tap = identity) -> None:
    """Set `gradients` to those of every parameter, given the gradient of the logits."""
    gradients.buffer[...] = 0
    with np.errstate(all="ignore"):
        run = done.encoder.run._replace(tap=tap)
        dx_MH = HEADS["mlm"][1](dlogits_MV, done.head, model.parameters, gradients, model.config, run)
        model.encode_backward(dx_MH, done.encoder, gradients, tap)
