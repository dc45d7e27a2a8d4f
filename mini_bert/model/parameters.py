"""Which parameters there are, and where they lie: one table, one contiguous buffer, named views into it.

The parameter table is the one place that lists the parameters. Memory layout, initialisation, weight decay, import and
export read it. Decayed tensors come first, so that weight decay is a slice of the buffer; W_Q, W_K and W_V of a layer
lie one behind the other, so that `W_QKV` [3, H, H] is a view. Parameters and gradients are the same type.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.ops.contract import Array


class ParameterRow(NamedTuple):
    """One parameter."""

    name: str
    """The symbol of the derivations with the layer behind it: `W_Q_0`."""
    shape: tuple[int, ...]
    layer: int | None
    component: Literal[
        "embeddings",
        "attention",
        "feed_forward",
        "final",
        "mlm",
        "pooler",
        "nsp",
        "sop",
        "std",
        "rtd",
        "classifier",
        "token_classifier",
    ]
    initializer: Literal["truncated_normal", "zeros", "ones"]
    decay: bool
    """Whether weight decay acts on it: matrices and embedding tables yes, biases and LayerNorm no."""
    hugging_face: str
    """Its name in a Hugging Face checkpoint."""
    transposed: bool
    """Hugging Face stores weights of linear layers as [out, in]; ours are [in, out]."""


@lru_cache(maxsize=64)
def parameter_table(config: ModelConfig) -> tuple[ParameterRow, ...]:
    """All parameters of a model of this configuration, in the order of the buffer."""
    H, I, V, A = config.hidden_size, config.intermediate_size, config.vocab_size, config.num_attention_heads
    base = "bert." if config.heads else ""  # a bare encoder is a BertModel, whose names have no prefix
    rows: list[ParameterRow] = []

    def table(name: str, size: int, hugging_face: str) -> None:
        path = f"{base}embeddings.{hugging_face}.weight"
        rows.append(ParameterRow(name, (size, H), None, "embeddings", "truncated_normal", True, path, False))

    def linear(W: str, b: str, shape: tuple[int, int], layer: int | None, component: Any, path: str) -> None:
        rows.append(ParameterRow(W, shape, layer, component, "truncated_normal", True, f"{path}.weight", True))
        if config.use_bias or component not in ("attention", "feed_forward", "mlm"):
            rows.append(ParameterRow(b, shape[1:], layer, component, "zeros", False, f"{path}.bias", False))

    def norm(gamma: str, beta: str, layer: int | None, component: Any, path: str) -> None:
        rows.append(ParameterRow(gamma, (H,), layer, component, "ones", False, f"{path}.weight", False))
        if config.use_bias and config.norm == "layer_norm":
            rows.append(ParameterRow(beta, (H,), layer, component, "zeros", False, f"{path}.bias", False))

    table("token_embeddings", V, "word_embeddings")
    if config.position_embedding_type == "absolute":
        table("position_embeddings", config.max_position_embeddings, "position_embeddings")
    table("segment_embeddings", config.type_vocab_size, "token_type_embeddings")
    norm("gamma_embeddings", "beta_embeddings", None, "embeddings", f"{base}embeddings.LayerNorm")
    if config.position_embedding_type == "t5_bias":
        shape, path = (config.relative_attention_num_buckets, A), f"{base}encoder.relative_attention_bias.weight"
        rows.append(ParameterRow("relative_bias", shape, None, "attention", "truncated_normal", True, path, False))
    for i in range(config.num_hidden_layers):
        path = f"{base}encoder.layer.{i}"
        for letter, name in (("Q", "query"), ("K", "key"), ("V", "value")):
            linear(f"W_{letter}_{i}", f"b_{letter}_{i}", (H, H), i, "attention", f"{path}.attention.self.{name}")
        if config.position_embedding_type == "relative_key":
            name, shape = f"relative_keys_{i}", (2 * config.max_position_embeddings - 1, config.head_size)
            hugging_face = f"{path}.attention.self.distance_embedding.weight"
            rows.append(ParameterRow(name, shape, i, "attention", "truncated_normal", True, hugging_face, False))
        if config.attention_gate != "none":
            width = A if config.attention_gate == "head" else H
            linear(f"W_G_{i}", f"b_G_{i}", (H, width), i, "attention", f"{path}.attention.self.gate")
        linear(f"W_O_{i}", f"b_O_{i}", (H, H), i, "attention", f"{path}.attention.output.dense")
        norm(f"gamma1_{i}", f"beta1_{i}", i, "attention", f"{path}.attention.output.LayerNorm")
        linear(f"W1_{i}", f"b1_{i}", (H, I), i, "feed_forward", f"{path}.intermediate.dense")
        if config.feed_forward == "gated":
            linear(f"W3_{i}", f"b3_{i}", (H, I), i, "feed_forward", f"{path}.intermediate.gated")
        linear(f"W2_{i}", f"b2_{i}", (I, H), i, "feed_forward", f"{path}.output.dense")
        norm(f"gamma2_{i}", f"beta2_{i}", i, "feed_forward", f"{path}.output.LayerNorm")
    if config.norm_placement == "pre":
        norm("gamma_final", "beta_final", None, "final", f"{base}encoder.LayerNorm")
    if has_pooler(config):
        linear("W_pooler", "b_pooler", (H, H), None, "pooler", f"{base}pooler.dense")
    if "mlm" in config.heads:
        linear("W_mlm", "b_mlm", (H, H), None, "mlm", "cls.predictions.transform.dense")
        norm("gamma_mlm", "beta_mlm", None, "mlm", "cls.predictions.transform.LayerNorm")
        rows.append(ParameterRow("b_vocabulary", (V,), None, "mlm", "zeros", False, "cls.predictions.bias", False))
    if "nsp" in config.heads:
        linear("W_nsp", "b_nsp", (H, 2), None, "nsp", "cls.seq_relationship")
    for head, path in (("sop", "sentence_order"), ("std", "shuffled_token"), ("rtd", "replaced_token")):
        if head in config.heads:
            linear(f"W_{head}", f"b_{head}", (H, 2), None, head, f"cls.{path}")
    for head in ("classifier", "token_classifier"):
        if head in config.heads:
            linear(f"W_{head}", f"b_{head}", (H, config.num_labels), None, head, "classifier")
    return tuple(sorted(rows, key=lambda row: not row.decay))  # stable: keeps W_Q, W_K, W_V and b_Q, b_K, b_V together


def has_pooler(config: ModelConfig) -> bool:
    """Whether the tanh pooler over [CLS] exists: for heads that read it, and in a bare encoder that has one."""
    return (not config.heads and config.pooler) or bool({"nsp", "sop", "classifier"} & set(config.heads))


@dataclass(frozen=True)
class EmbeddingParameters:
    """Three tables and the norm over their sum. There is no table of positions where attention tells them apart."""

    token_embeddings: Array
    position_embeddings: Array | None
    segment_embeddings: Array
    gamma: Array
    beta: Array | None


@dataclass(frozen=True)
class GateParameters:
    """The affine map of a sigmoid gate on attention's context."""

    W: Array
    """[H, A] or [H, H]"""
    b: Array | None


@dataclass(frozen=True)
class AttentionParameters:
    """Projections of one layer's attention; W_Q, W_K, W_V are the three slices of W_QKV.

    Biases are None where `use_bias` is off; what belongs to a variant is None in the others.
    """

    W_QKV: Array
    """[3, H, H]"""
    b_QKV: Array | None
    """[3, H]"""
    W_O: Array
    b_O: Array | None
    gate: GateParameters | None = None
    relative_bias: Array | None = None
    """[buckets, A], of t5_bias: one table, the same memory in every layer"""
    relative_keys: Array | None = None
    """[2 T - 1, K], of relative_key"""

    @property
    def W_Q(self) -> Array:
        """[H, H]"""
        return np.asarray(self.W_QKV[0])

    @property
    def W_K(self) -> Array:
        """[H, H]"""
        return np.asarray(self.W_QKV[1])

    @property
    def W_V(self) -> Array:
        """[H, H]"""
        return np.asarray(self.W_QKV[2])


@dataclass(frozen=True)
class FeedForwardParameters:
    """H → I → H."""

    W1: Array
    b1: Array | None
    W2: Array
    b2: Array | None


@dataclass(frozen=True)
class GatedFeedForwardParameters:
    """H → I, twice, → H."""

    W1: Array
    b1: Array | None
    W3: Array
    b3: Array | None
    W2: Array
    b2: Array | None


@dataclass(frozen=True)
class BlockParameters:
    """Attention and feed-forward, with the norm behind each, or before it."""

    attention: AttentionParameters
    gamma1: Array
    beta1: Array | None
    feed_forward: FeedForwardParameters | GatedFeedForwardParameters
    gamma2: Array
    beta2: Array | None


@dataclass(frozen=True)
class NormParameters:
    """The norm at the end of a pre-LN encoder."""

    gamma: Array
    beta: Array | None


@dataclass(frozen=True)
class MLMHeadParameters:
    """Dense, LayerNorm and the decoder's bias; the decoder's matrix is the table of token embeddings."""

    W: Array
    b: Array | None
    gamma: Array
    beta: Array | None
    b_vocabulary: Array


@dataclass(frozen=True)
class LinearParameters:
    """One affine map: the pooler, or a classifier."""

    W: Array
    b: Array


def add_gradient(gradient: Array | None, part: Array | None) -> None:
    """Add `part` to `gradient` in place; both are None for a bias that the model does not have."""
    if gradient is not None and part is not None:
        gradient += part


class Parameters(Mapping[str, Array]):
    """Named views into one contiguous buffer; as a Mapping by name, as attributes by structure.

    `parameters["W_Q_0"]` and `parameters.layers[0].attention.W_Q` are the same memory.
    """

    def __init__(self, config: ModelConfig, dtype: Any = np.float32, buffer: Array | None = None) -> None:
        """Lay the parameters of `config` out in `buffer`, or in a new buffer of zeros."""
        self.config = config
        self.table = parameter_table(config)
        sizes = [math.prod(row.shape) for row in self.table]
        self.buffer: Array = _zeros(sum(sizes), np.dtype(dtype)) if buffer is None else buffer
        if self.buffer.shape != (sum(sizes),):
            raise InvalidInputError("buffer", got=f"shape {self.buffer.shape}", expected=f"({sum(sizes)},)")
        self.decayed = sum(size for row, size in zip(self.table, sizes, strict=True) if row.decay)
        """Length of the prefix of the buffer on which weight decay acts."""
        self._offsets: dict[str, int] = {}
        self._views: dict[str, Array] = {}
        offset = 0
        for row, size in zip(self.table, sizes, strict=True):
            self._offsets[row.name] = offset
            self._views[row.name] = self.buffer[offset : offset + size].reshape(row.shape)
            offset += size
        self._name_structure()

    def _name_structure(self) -> None:
        v = self._views
        self.embeddings = EmbeddingParameters(
            v["token_embeddings"],
            v.get("position_embeddings"),
            v["segment_embeddings"],
            v["gamma_embeddings"],
            v.get("beta_embeddings"),
        )
        self.layers = tuple(
            BlockParameters(
                self._attention(i),
                v[f"gamma1_{i}"],
                v.get(f"beta1_{i}"),
                self._feed_forward(i),
                v[f"gamma2_{i}"],
                v.get(f"beta2_{i}"),
            )
            for i in range(self.config.num_hidden_layers)
        )

    def _attention(self, i: int) -> AttentionParameters:
        v = self._views
        return AttentionParameters(
            self._triple("W_Q", i),
            self._triple("b_Q", i) if f"b_Q_{i}" in v else None,
            v[f"W_O_{i}"],
            v.get(f"b_O_{i}"),
            GateParameters(v[f"W_G_{i}"], v.get(f"b_G_{i}")) if f"W_G_{i}" in v else None,
            v.get("relative_bias"),
            v.get(f"relative_keys_{i}"),
        )

    def _feed_forward(self, i: int) -> FeedForwardParameters | GatedFeedForwardParameters:
        v = self._views
        W1, b1, W2, b2 = v[f"W1_{i}"], v.get(f"b1_{i}"), v[f"W2_{i}"], v.get(f"b2_{i}")
        if f"W3_{i}" in v:
            return GatedFeedForwardParameters(W1, b1, v[f"W3_{i}"], v.get(f"b3_{i}"), W2, b2)
        return FeedForwardParameters(W1, b1, W2, b2)

    def _triple(self, first: str, layer: int) -> Array:
        """The three tensors from `first` of this layer on, as one view with a leading axis of 3."""
        view = self._views[f"{first}_{layer}"]
        offset = self._offsets[f"{first}_{layer}"]
        return self.buffer[offset : offset + 3 * view.size].reshape(3, *view.shape)

    @property
    def mlm(self) -> MLMHeadParameters:
        """The masked-language-model head."""
        self.require_head("mlm")
        v = self._views
        return MLMHeadParameters(v["W_mlm"], v.get("b_mlm"), v["gamma_mlm"], v.get("beta_mlm"), v["b_vocabulary"])

    @property
    def final(self) -> NormParameters | None:
        """The norm at the end; None in post-LN models."""
        v = self._views
        return NormParameters(v["gamma_final"], v.get("beta_final")) if "gamma_final" in v else None

    @property
    def pooler(self) -> LinearParameters:
        """The pooler under the sequence heads."""
        return LinearParameters(self._views["W_pooler"], self._views["b_pooler"])

    def linear_head(self, head: str) -> LinearParameters:
        """The affine map of a head other than `mlm`."""
        self.require_head(head)
        return LinearParameters(self._views[f"W_{head}"], self._views[f"b_{head}"])

    def require_head(self, head: str) -> None:
        """Raise InvalidInputError if this model has no such head."""
        if head not in self.config.heads:
            raise InvalidInputError(
                "head",
                got=f"{head!r}, which this model does not have",
                expected=f"one of {list(self.config.heads)}",
                advice=f"Use ModelConfig(heads=({head!r},)), or from_pretrained(…, heads=({head!r},)).",
            )

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as one buffer: views that were copied one by one would no longer share it."""
        return Parameters, (self.config, self.buffer.dtype, self.buffer)

    def __repr__(self) -> str:
        return f"Parameters({len(self)} tensors, {self.buffer.size:,} numbers, {self.buffer.dtype})"


def _zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """A vector of zeros.

    Raises:
        ConfigError: no memory can hold it.
    """
    try:
        return np.zeros(size, dtype)
    except MemoryError as error:
        raise ConfigError(
            "model",
            got=f"{size:,} parameters, {size * dtype.itemsize / 1e9:,.0f} GB",
            expected="a model that fits into memory",
            advice="Make hidden_size, num_hidden_layers or intermediate_size smaller.",
        ) from error
