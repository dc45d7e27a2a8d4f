"""What do PyTorch's own functions and its autograd say, in float64?

Operations and the whole network are put together here once more from `torch.nn.functional`: the only things taken from
this package are the weights, the inputs, and, where something is dropped out, the slow draw of what is kept. torch is
imported when a function is called, not before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.ops.contract import Array
from mini_bert.verification import torch_positions
from mini_bert.verification.oracles.operations import dropout_factors

if TYPE_CHECKING:
    from mini_bert.config.schema import ModelConfig
    from mini_bert.verification.scenario import Scenario

NOT_INSTALLED = "not installed"


def installed() -> bool:
    """Whether torch can be imported here."""
    return find_spec("torch") is not None


def version() -> str:
    """Its version, or that it is not installed."""
    from importlib.metadata import version

    return version("torch") if installed() else NOT_INSTALLED


@contextmanager
def _one_thread() -> Iterator[None]:
    """As everywhere in this package; and threads that wait for each other make small passes slow."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- operations -----------------------------------------------------------------------------------------------------


def operation(
    name: str, values: Sequence[Array], constants: Mapping[str, Any], cotangent: Array
) -> tuple[Array, list[Array]]:
    """The output of an operation, and the gradient of each of its inputs.

    Raises:
        NotImplementedError: nobody has said which function of PyTorch this operation is.
    """
    import torch

    if name not in _FUNCTIONS:
        raise NotImplementedError(f"no function of PyTorch is known for {name}")
    tensors = [torch.from_numpy(value.copy()).requires_grad_() for value in values]
    with _one_thread():
        output = _FUNCTIONS[name](*tensors, **constants)
        gradients = torch.autograd.grad(output, tensors, torch.from_numpy(cotangent.copy()))
    return output.detach().numpy(), [gradient.numpy() for gradient in gradients]


def _linear(x: Any, W: Any, b: Any = None) -> Any:
    from torch.nn import functional as F

    return F.linear(x, W.T, b)


def _embedding(E: Any, *, ids: Array) -> Any:
    import torch
    from torch.nn import functional as F

    return F.embedding(torch.from_numpy(np.asarray(ids, np.int64)), E)


def _layer_norm(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-12) -> Any:
    from torch.nn import functional as F

    return F.layer_norm(x, x.shape[-1:], gamma, beta, eps)


def _rms_norm(x: Any, gamma: Any, *, eps: float = 1e-12) -> Any:
    from torch.nn import functional as F

    return F.rms_norm(x, x.shape[-1:], gamma, eps)


def _cross_entropy(logits: Any, *, targets: Any) -> Any:
    import torch
    from torch.nn import functional as F

    return F.cross_entropy(logits, torch.from_numpy(np.asarray(targets, np.int64)), reduction="sum")


def _squared_error(z: Any, *, targets: Any) -> Any:
    import torch
    from torch.nn import functional as F

    return F.mse_loss(z[:, 0], torch.from_numpy(np.asarray(targets, np.float64)), reduction="sum")


def _activation(name: str, x: Any) -> Any:
    import torch
    from torch.nn import functional as F

    if name == "gelu_new":
        return F.gelu(x, approximate="tanh")
    functions: dict[str, Any] = {"gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    return functions[name](x)


def _softmax(x: Any) -> Any:
    return x.softmax(dim=-1)


def _dropout(x: Any, *, p: float, stream: Any, first_row: int = 0) -> Any:
    import torch

    if stream is None or p == 0.0:
        return x
    rows = range(first_row, first_row + x.numel() // x.shape[-1])
    factors = dropout_factors(list(rows), x.shape[-1], p=p, stream=stream)
    return x * torch.tensor(factors, dtype=x.dtype).reshape(x.shape)


def _attention(
    Q: Any,
    K: Any,
    V: Any,
    bias: Any = None,
    *,
    mask_BS: Any = None,
    p: float = 0.0,
    stream: Any = None,
    first_row: int = 0,
) -> Any:
    import torch
    from torch.nn import functional as F

    mask = None if mask_BS is None else torch.as_tensor(mask_BS)[:, None, None, :]
    somebody_to_see = mask is None or bool(mask.any(dim=-1).all())
    if somebody_to_see and (stream is None or p == 0.0) and bias is None:
        return F.scaled_dot_product_attention(Q, K, V, attn_mask=mask)
    scores = Q @ K.transpose(-1, -2) / math.sqrt(Q.shape[-1])
    scores = scores if bias is None else scores + bias
    scores = scores if mask is None else scores.masked_fill(~mask, -1e9)
    return _dropout(scores.softmax(dim=-1), p=p, stream=stream, first_row=first_row) @ V


_FUNCTIONS: dict[str, Any] = {
    "attention": _attention,
    "cross_entropy": _cross_entropy,
    "dropout": _dropout,
    "embedding": _embedding,
    "gelu": lambda x: _activation("gelu", x),
    "gelu_new": lambda x: _activation("gelu_new", x),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "relu": lambda x: _activation("relu", x),
    "rms_norm": _rms_norm,
    "sigmoid": lambda x: _activation("sigmoid", x),
    "softmax": _softmax,
    "squared_error": _squared_error,
    "tanh": lambda x: _activation("tanh", x),
    **torch_positions.FUNCTIONS,
}


# --- the network ----------------------------------------------------------------------------------------------------


def model_readings_and_gradients(scenario: Scenario) -> tuple[dict[str, Array], dict[str, Array]]:
    """The readings of a scenario, and the gradient of its objective for every parameter by our names."""
    import torch

    weights = {
        name: torch.from_numpy(value.copy()).requires_grad_() for name, value in scenario.model.parameters.items()
    }
    with _one_thread():
        network = _Network(scenario.model.config, weights, scenario)
        found = {reading: network.reading(reading) for reading in scenario.cotangents}
        objective = sum((found[name] * torch.from_numpy(value)).sum() for name, value in scenario.cotangents.items())
        slopes = torch.autograd.grad(objective, list(weights.values()), allow_unused=True)
    return (
        {name: value.detach().numpy() for name, value in found.items()},
        {
            name: np.zeros(tuple(weight.shape)) if slope is None else slope.numpy()
            for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        },
    )


class _Network:
    """BERT, every position computed (Devlin et al. 2019); w[…] are tensors by our names, in our orientation."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], scenario: Scenario) -> None:
        import torch

        self.config, self.w, self.batch, self.stream = config, weights, scenario.batch, scenario.dropout
        self.ids = torch.from_numpy(np.asarray(self.batch.input_ids, np.int64))
        types = self.batch.token_type_ids
        self.types = torch.zeros_like(self.ids) if types is None else torch.from_numpy(np.asarray(types, np.int64))
        self.hidden = self.encode()

    def affine(self, x: Any, suffix: str) -> Any:
        return _linear(x, self.w[f"W{suffix}"], self.w.get(f"b{suffix}"))

    def normalise(self, x: Any, suffix: str) -> Any:
        gamma, eps = self.w[f"gamma{suffix}"], self.config.layer_norm_eps
        if self.config.norm == "rms_norm":
            return _rms_norm(x, gamma, eps=eps)
        return _layer_norm(x, gamma, self.w.get(f"beta{suffix}"), eps=eps)

    def drop(self, x: Any, site: str, first_row: int) -> Any:
        stream = None if self.stream is None else self.stream.at(site)
        return _dropout(x, p=self.config.hidden_dropout_prob, stream=stream, first_row=first_row)

    def encode(self) -> Any:
        T = self.ids.shape[1]
        first = self.batch.first_row * T
        x = self.w["token_embeddings"][self.ids]
        if "position_embeddings" in self.w:
            x = x + self.w["position_embeddings"][:T]
        x = self.normalise(x + self.w["segment_embeddings"][self.types], "_embeddings")
        x = self.drop(x, "embeddings", first)
        for i in range(self.config.num_hidden_layers):
            if self.config.norm_placement == "pre":
                attended = self.attend(self.normalise(x, f"1_{i}"), i)
                x = x + self.drop(attended, f"layer_{i}.attention", first)
                forwarded = self.feed_forward(self.normalise(x, f"2_{i}"), i)
                x = x + self.drop(forwarded, f"layer_{i}.feed_forward", first)
            else:
                x = self.normalise(x + self.drop(self.attend(x, i), f"layer_{i}.attention", first), f"1_{i}")
                x = self.normalise(x + self.drop(self.feed_forward(x, i), f"layer_{i}.feed_forward", first), f"2_{i}")
        return self.normalise(x, "_final") if self.config.norm_placement == "pre" else x

    def feed_forward(self, x: Any, i: int) -> Any:
        inner = _activation(self.config.hidden_act, self.affine(x, f"1_{i}"))
        if self.config.feed_forward == "gated":
            inner = inner * self.affine(x, f"3_{i}")
        return self.affine(inner, f"2_{i}")

    def attend(self, x: Any, i: int) -> Any:
        heads, (_, T, H) = self.config.num_attention_heads, x.shape
        Q, K, V = (
            self.affine(x, f"_{letter}_{i}").unflatten(-1, (heads, H // heads)).transpose(1, 2) for letter in "QKV"
        )
        Q, K, bias = torch_positions.positioned(self.config, self.w, i, Q, K)
        context = _attention(
            Q,
            K,
            V,
            bias,
            mask_BS=self.batch.attention_mask,
            p=self.config.attention_probs_dropout_prob,
            stream=None if self.stream is None else self.stream.at(f"layer_{i}.attention.attention_weights"),
            first_row=self.batch.first_row * heads * T,
        )
        context = context.transpose(1, 2).flatten(2)
        if self.config.attention_gate != "none":
            context = torch_positions.gate(context, _activation("sigmoid", self.affine(x, f"_G_{i}")))
        return self.affine(context, f"_O_{i}")

    def reading(self, name: str) -> Any:
        import torch

        if name == "hidden":
            return self.hidden
        if name == "loss":
            rows = self.logits("mlm").flatten(0, 1)[torch.from_numpy(self.batch.masked_positions)]
            return _cross_entropy(rows, targets=self.batch.target_ids)
        if name == "tasks":
            return sum(self.mean_loss(*question) for question in self.batch.questions)
        return self.logits(name)

    def mean_loss(self, task: str, positions: Array, labels: Array, weight: float, items: int) -> Any:
        import torch

        heads = {"masked_lm": "mlm", "next_sentence": "nsp", "sentence_order": "sop", "token_order": "std"}
        heads |= {"classification": "classifier", "regression": "classifier"}
        logits, asked = self.logits(heads.get(task, "rtd")), torch.from_numpy(positions)
        rows = logits[asked // self.ids.shape[1]] if logits.ndim == 2 else logits.flatten(0, 1)[asked]
        if task == "regression":
            return _squared_error(rows, targets=labels) * (weight / items)
        return _cross_entropy(rows, targets=labels) * (weight / items)

    def logits(self, head: str) -> Any:
        if head == "mlm":
            from torch.nn import functional as F

            n = self.normalise(_activation(self.config.hidden_act, self.affine(self.hidden, "_mlm")), "_mlm")
            return F.linear(n, self.w["token_embeddings"], self.w["b_vocabulary"])
        if head == "token_classifier":
            x = self.drop(self.hidden, head, self.batch.first_row * self.ids.shape[1])
            return self.affine(x, "_token_classifier")
        if head in ("std", "rtd"):
            return self.affine(self.hidden, f"_{head}")
        pooled = _activation("tanh", self.affine(self.hidden[:, 0], "_pooler"))
        return self.affine(
            self.drop(pooled, head, self.batch.first_row) if head == "classifier" else pooled, f"_{head}"
        )
