"""The shape of the network: what can be set, its default, its bounds and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from mini_bert.config.section import Integer, Real, Section, listed
from mini_bert.errors import ConfigError

Head = Literal["mlm", "nsp", "sop", "std", "rtd", "classifier", "token_classifier"]


class ModelConfig(Section):
    """The shape of the network; letters are those of the dimension key in `mini_bert`."""

    vocab_size: Integer = Field(8192, ge=6, le=1048576, description="V, size of the vocabulary")
    hidden_size: Integer = Field(192, ge=1, le=65536, description="H, width of the residual stream")
    num_hidden_layers: Integer = Field(3, ge=1, le=1024, description="L, number of blocks")
    num_attention_heads: Integer = Field(4, ge=1, description="A, number of attention heads; H must be divisible by A")
    intermediate_size: Integer = Field(768, ge=1, le=262144, description="I, width of the feed-forward network")
    max_position_embeddings: Integer = Field(64, ge=3, le=65536, description="T, longest row of tokens")
    type_vocab_size: Integer = Field(2, ge=1, le=65536, description="number of segments")
    hidden_act: Literal["gelu", "gelu_new", "relu"] = Field(
        "gelu", description="activation of the feed-forward network; gelu_new is the form with tanh"
    )
    hidden_dropout_prob: Real = Field(0.1, ge=0, lt=1, description="dropout after embeddings and each sublayer")
    attention_probs_dropout_prob: Real = Field(0.1, ge=0, lt=1, description="dropout on attention weights")
    layer_norm_eps: Real = Field(1e-12, gt=0, description="epsilon under the root of LayerNorm")
    position_embedding_type: Literal["absolute", "rotary", "t5_bias", "relative_key", "alibi"] = Field(
        "absolute",
        description="how positions are told apart; absolute is BERT's learned table, the others act on the scores",
    )
    rope_theta: Real = Field(10000.0, gt=1, description="rotary: base of the wavelengths")
    relative_attention_num_buckets: Integer = Field(32, ge=4, le=4096, description="t5_bias: distances told apart")
    relative_attention_max_distance: Integer = Field(
        128, ge=8, le=1048576, description="t5_bias: distance from which on all are one"
    )
    attention_gate: Literal["none", "head", "element"] = Field(
        "none", description="sigmoid gate on each head's context: none, one number a head, or one an element"
    )
    feed_forward: Literal["plain", "gated"] = Field(
        "plain", description="gated: act(x W1 + b1) times (x W3 + b3), as in GEGLU"
    )
    norm: Literal["layer_norm", "rms_norm"] = Field("layer_norm", description="normalisation; rms_norm has no beta")
    norm_placement: Literal["post", "pre"] = Field(
        "post", description="post: after each sum, as in BERT; pre: before each sublayer, and once at the end"
    )
    use_bias: bool = Field(
        True,
        description="biases of linear layers in blocks and MLM head, and of all norms; decoder, pooler and other heads "
        "always have theirs",
    )
    initializer_range: Real = Field(0.02, gt=0, description="standard deviation of the truncated normal")
    initializer: Literal["truncated_normal", "xavier_normal", "he_normal", "lecun_normal", "orthogonal"] = Field(
        "truncated_normal", description="first values of the matrices; embedding tables are always truncated normal"
    )
    scale_residual_init: bool = Field(
        False, description="first values of W_O and W2 divided by the root of 2 L, the number of sums"
    )
    decoder_bias_init: Literal["zeros", "unigram"] = Field(
        "zeros", description="unigram: the decoder's bias begins as the logarithm of each piece's frequency"
    )
    heads: Annotated[tuple[Head, ...], BeforeValidator(listed)] = Field(
        ("mlm",), description="task heads that exist; none is the bare encoder"
    )
    pooler: bool = Field(
        True, description="whether a bare encoder has the tanh pooler; the heads nsp, sop and classifier always have it"
    )
    num_labels: Integer = Field(2, ge=1, le=65536, description="classes of the classifier heads")
    labels: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="names of the classes; none: LABEL_0, LABEL_1, …"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        if self.position_embedding_type == "rotary" and self.head_size % 2:
            raise ConfigError(
                "position_embedding_type",
                got=f"rotary beside heads of width {self.head_size}",
                expected="an even width",
                advice="Rotary embeddings turn pairs of numbers.",
            )
        if self.position_embedding_type == "t5_bias":
            _check_buckets(self.relative_attention_num_buckets, self.relative_attention_max_distance)
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                "hidden_size",
                got=self.hidden_size,
                expected=f"a multiple of num_attention_heads, {self.num_attention_heads}",
                advice="Every head needs the same whole width.",
            )
        if len(set(self.heads)) != len(self.heads):
            raise ConfigError("heads", got=self.heads, expected="each head once")
        if not self.pooler and {"nsp", "sop", "classifier"} & set(self.heads):
            raise ConfigError("pooler", got=self.pooler, expected=f"True, which heads {list(self.heads)} read")
        if self.labels and len(self.labels) != self.num_labels:
            raise ConfigError(
                "labels", got=f"{len(self.labels)} names", expected=f"num_labels of them, which is {self.num_labels}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ConfigError("labels", got=self.labels, expected="a name of its own for each class")
        return self

    @property
    def head_size(self) -> int:
        """K, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def label_names(self) -> tuple[str, ...]:
        """A name for each class: `labels`, or LABEL_0, LABEL_1, … as Hugging Face calls classes without names."""
        return self.labels or tuple(f"LABEL_{number}" for number in range(self.num_labels))

    @classmethod
    def from_yaml(cls, path: str | Path) -> ModelConfig:
        """Read the `model` section of a YAML file (or a preset's name, such as `model/tiny`).

        Raises:
            ConfigError: the file does not exist, is not YAML, or names an unknown key.
        """
        from mini_bert.config.load import load_config

        return load_config([str(path)]).model


def _check_buckets(buckets: int, max_distance: int) -> None:
    """Half of the buckets are for each side, and half of these for distances that have one each."""
    if buckets % 2:
        raise ConfigError("relative_attention_num_buckets", got=buckets, expected="an even number: half for each side")
    if max_distance <= buckets // 4:
        raise ConfigError(
            "relative_attention_max_distance",
            got=f"{max_distance} beside {buckets} buckets",
            expected=f"more than {buckets // 4}, the distances that have a bucket each",
        )
