"""What if the sums are narrow too?

Hardware multiplies sixteen-bit numbers and adds the products up in float32; softmax and LayerNorm are computed in
float32 whatever goes in and comes out. Here are the same operations on a machine that has nothing but the narrow
format: each elementary step is rounded, and sums run from the left, each partial sum rounded. A running sum of n terms
loses its tail: once it is 2^m times as large as the next term, adding that changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mini_bert.analysis.dataflow import block_of, inputs_of
from mini_bert.analysis.rounding import Format, relative_error, rounded
from mini_bert.model.bert import MiniBERT
from mini_bert.ops import layer_norm, softmax
from mini_bert.ops.contract import Array, Tap

GROWTH = tuple(2.0**k for k in range(0, 17, 2))
"""Factors on the input of LayerNorm: activations of larger models, and of training that goes wrong, are that large."""


_LINEAR_ROWS = 256
"""Rows of which the product with narrow sums is computed: it takes a pass over the whole result an input."""


class Reduction(NamedTuple):
    """One kind of operation with inputs in the format: ‖ŷ − y‖ / ‖y‖, root mean square over the model's places."""

    operation: str
    wide_sums: float
    """The result rounded, nothing else."""
    narrow_sums: float
    """Every step rounded; infinite where a place is not finite."""


class Broken(NamedTuple):
    """What LayerNorm does to inputs that are a factor larger; in exact arithmetic, nothing changes."""

    factor: float
    wide_sums: float
    """Share of the rows that are not finite or off by more than half, statistics in float64."""
    narrow_sums: float
    """The same, statistics in the format."""


def narrow_sum(x: Array, format: Format) -> Array:
    """Sum over the last axis, kept as an axis of 1: from the left, each partial sum rounded."""
    total = np.zeros_like(x[..., :1])
    for i in range(x.shape[-1]):
        total = rounded(total + x[..., i : i + 1], format)
    return total


def narrow_softmax(scores: Array, format: Format, *, shifted: bool = True) -> Array:
    """Softmax of the last axis, each step in `format`; without the shift by the maximum, as it should not be done."""
    if shifted:
        scores = rounded(scores - scores.max(axis=-1, keepdims=True), format)
    exponentials = rounded(np.exp(scores), format)
    return rounded(exponentials / narrow_sum(exponentials, format), format)


def narrow_layer_norm(x: Array, gamma: Array, beta: Array, eps: float, format: Format) -> Array:
    """LayerNorm of the last axis, each step in `format`."""
    H = x.shape[-1]
    mean = rounded(narrow_sum(x, format) / H, format)
    centred = rounded(x - mean, format)
    variance = rounded(narrow_sum(rounded(centred * centred, format), format) / H, format)
    root = rounded(np.sqrt(rounded(variance + rounded(np.asarray(eps, x.dtype), format), format)), format)
    x_hat = rounded(centred / root, format)
    return rounded(rounded(x_hat * gamma, format) + beta, format)


def narrow_linear(x: Array, W: Array, b: Array, format: Format) -> Array:
    """x W + b, products exact and partial sums in `format`: `x` [R, in], `W` [in, out]."""
    total = np.zeros((x.shape[0], W.shape[1]), x.dtype)
    for i in range(W.shape[0]):
        total = rounded(total + x[:, i : i + 1] * W[i], format)
    return rounded(total + b, format)


def narrow_sums_tap(model: MiniBERT, format: Format) -> Tap:
    """A tap that rounds, and does softmax and LayerNorm over again with each of their steps in `format`.

    For one forward pass of `model`: what goes into these operations is tapped just before what comes out.
    """
    norms = _norms(model)
    latest: list[Array] = []

    def tap(name: str, value: Array) -> Array:
        with np.errstate(all="ignore"):
            if name.endswith(".attention_weights"):
                value = narrow_softmax(latest[-1], format)
            elif name in norms:
                value = narrow_layer_norm(latest[-1], *norms[name], model.config.layer_norm_eps, format)
            value = rounded(value, format)
        latest[:] = [value]
        return value

    return tap


def layer_norm_of_large_inputs(x: Array, gamma: Array, beta: Array, eps: float, format: Format) -> list[Broken]:
    """How many rows LayerNorm breaks when its input is a factor larger, with wide and with narrow sums."""
    exact, _ = layer_norm.forward(x, gamma, beta, eps=eps)
    results = []
    with np.errstate(all="ignore"):
        for factor in GROWTH:
            large = rounded(x * factor, format)
            wide = rounded(layer_norm.forward(large, gamma, beta, eps=eps)[0], format)
            narrow = narrow_layer_norm(large, gamma, beta, eps, format)
            results.append(Broken(factor, _broken_rows(wide, exact), _broken_rows(narrow, exact)))
    return results


def compare(model: MiniBERT, forward: dict[str, Array], format: Format) -> list[Reduction]:
    """Softmax, LayerNorm and a linear layer with wide and with narrow sums, on the model's own exact intermediates.

    Args:
        model: whose LayerNorms and W1.
        forward: the exact intermediates by name, in order of computation.
        format: of inputs, of every step with narrow sums, of the result alone with wide ones.
    """
    norms, eps = _norms(model), model.config.layer_norm_eps
    places: dict[str, list[tuple[float, float]]] = {}

    def compared(operation: str, exact: Array, narrow: Array) -> None:
        errors = relative_error(rounded(exact, format), exact), relative_error(narrow, exact)
        places.setdefault(operation, []).append(errors)

    with np.errstate(all="ignore"):
        for name, x in _inputs(model, forward):
            x = rounded(x, format)
            if name.endswith(".attention_weights"):
                exact, _ = softmax.forward(x)
                compared("softmax", exact, narrow_softmax(x, format))
                compared("softmax without its shift", exact, narrow_softmax(x, format, shifted=False))
            elif name in norms:
                exact, _ = layer_norm.forward(x, *norms[name], eps=eps)
                compared("LayerNorm", exact, narrow_layer_norm(x, *norms[name], eps, format))
            elif name.endswith("feed_forward.pre_activation"):
                layer = model.parameters.layers[block_of(name) or 0].feed_forward
                rows, W, b = (
                    x.reshape(-1, x.shape[-1])[:_LINEAR_ROWS],
                    rounded(layer.W1, format),
                    rounded(layer.b1, format),
                )
                compared("linear: W1", rows @ W + b, narrow_linear(rows, W, b, format))
    return [
        Reduction(operation, *map(_root_mean_square, zip(*errors, strict=True))) for operation, errors in places.items()
    ]


def _inputs(model: MiniBERT, forward: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """Name of an intermediate that has one input, and that input."""
    for name in forward:
        inputs = inputs_of(name, model.config.num_hidden_layers)
        if len(inputs) == 1:
            yield name, forward[inputs[0]]


def _norms(model: MiniBERT) -> dict[str, tuple[Array, Array]]:
    """Name of each output of a LayerNorm → its γ and β."""
    parameters = model.parameters
    norms = {"embeddings.output": (parameters["gamma_embeddings"], parameters["beta_embeddings"])}
    for i in range(model.config.num_hidden_layers):
        norms[f"layer_{i}.attention.output"] = (parameters[f"gamma1_{i}"], parameters[f"beta1_{i}"])
        norms[f"layer_{i}.output"] = (parameters[f"gamma2_{i}"], parameters[f"beta2_{i}"])
    return norms | {"mlm.output": (parameters["gamma_mlm"], parameters["beta_mlm"])}


def _broken_rows(y: Array, exact: Array) -> float:
    """Share of the rows that are not finite, or further from the exact one than half of its norm."""
    distance = np.linalg.norm(y - exact, axis=-1)
    return float(np.mean(~(distance <= 0.5 * np.linalg.norm(exact, axis=-1))))


def _root_mean_square(errors: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(errors)))))
