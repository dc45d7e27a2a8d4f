"""The one schema: what can be set, its default, its bounds and its meaning.

YAML files, command-line options and Python all fill these models. They are frozen, and a key that does not exist is
refused by name. Field names are those of Hugging Face's BERT configuration where it has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Head = Literal["mlm", "nsp", "classifier", "token_classifier"]


class Section(BaseModel):
    """Base of all sections: immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Section):
    """The shape of the network; letters are those of the dimension key in `mini_bert`."""

    vocab_size: int = Field(8192, ge=6, le=65536, description="V, size of the vocabulary")
    hidden_size: int = Field(192, ge=1, description="H, width of the residual stream")
    num_hidden_layers: int = Field(3, ge=1, description="L, number of blocks")
    num_attention_heads: int = Field(4, ge=1, description="A, number of attention heads; H must be divisible by A")
    intermediate_size: int = Field(768, ge=1, description="I, width of the feed-forward network")
    max_position_embeddings: int = Field(64, ge=3, description="T, longest row of tokens")
    type_vocab_size: int = Field(2, ge=1, description="number of segments")
    hidden_act: Literal["gelu", "relu"] = Field("gelu", description="activation of the feed-forward network")
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1, description="dropout after embeddings and each sublayer")
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1, description="dropout on attention weights")
    layer_norm_eps: float = Field(1e-12, gt=0, description="epsilon under the root of LayerNorm")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the truncated normal")
    heads: tuple[Head, ...] = Field(("mlm",), description="task heads that exist; () is the bare encoder")
    num_labels: int = Field(2, ge=1, description="classes of the classifier heads")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}: "
                f"every head needs the same whole width"
            )
        if len(set(self.heads)) != len(self.heads):
            raise ValueError(f"heads {self.heads} names a head twice")
        return self

    @property
    def head_size(self) -> int:
        """K, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_yaml(cls, path: str | Path) -> ModelConfig:
        """Read the `model` section of a YAML file (or a preset's name, such as `model/tiny`).

        Raises:
            ConfigError: the file does not exist, is not YAML, or names an unknown key.
        """
        from mini_bert.config.load import load_config

        return load_config([str(path)]).model


class TokenizerConfig(Section):
    """How text falls into pieces. The vocabulary's size is `model.vocab_size`."""

    vocab_file: str | None = Field(None, description="use this vocab.txt instead of learning a vocabulary")
    lowercase: bool = Field(True, description="lower-case the text (uncased BERT)")
    strip_accents: bool | None = Field(None, description="remove accents; null: as lowercase says, as BERT does")
    min_frequency: int = Field(2, ge=1, description="least count of a pair of pieces that is merged")


class DataConfig(Section):
    """Which texts, and how they become rows of tokens."""

    corpus: tuple[str, ...] = Field(
        ("python-docs",),
        description="names of corpora, paths or glob patterns; `name=2.5` weighs one against the others",
    )
    layout: Literal["packed", "sentences"] = Field(
        "packed", description="packed: rows filled to T with sentences of one document; sentences: one a row, padded"
    )
    held_out_fraction: float = Field(0.02, gt=0, lt=0.5, description="share of documents kept for evaluation")
    held_out_rows: int = Field(1024, ge=1, description="at most so many held-out rows are scored")


class MaskingConfig(Section):
    """Which tokens are hidden from the model (Devlin et al. 2019, section 3.1, Task 1)."""

    rate: float = Field(0.15, gt=0, lt=1, description="share of the ordinary tokens that are predicted")
    mask_share: float = Field(0.8, ge=0, le=1, description="of these, the share that becomes [MASK]")
    random_share: float = Field(0.1, ge=0, le=1, description="of these, the share that becomes a random piece")
    whole_word: bool = Field(False, description="mask all pieces of a word together")

    @model_validator(mode="after")
    def _shares_fit(self) -> MaskingConfig:
        if self.mask_share + self.random_share > 1 + 1e-12:
            raise ValueError(
                f"mask_share {self.mask_share} + random_share {self.random_share} is more than 1; "
                f"what is left over stays unchanged"
            )
        return self


class OptimizerConfig(Section):
    """AdamW (Loshchilov and Hutter 2019)."""

    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(1e-6, gt=0, description="added to the root of the second moment")
    weight_decay: float = Field(0.01, ge=0, description="decoupled decay of matrices and embedding tables")


class TrainConfig(Section):
    """The loop. `batch_size` is the global batch, whatever the shards and threads."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    schedule: Literal["linear", "constant"] = Field("linear", description="after the warm-up: linear to 0, or constant")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate rises from 0")
    steps: int | None = Field(None, ge=1, description="number of updates; instead of minutes")
    minutes: float | None = Field(None, gt=0, description="time budget; becomes a number of steps before step 1")
    batch_size: int = Field(64, ge=1, description="rows of the global batch")
    shards: int = Field(4, ge=1, description="logical shards of the batch; part of the result to the bit")
    in_flight: Literal["auto"] | int = Field("auto", description="shards that run at once; auto: as many as threads")
    max_grad_norm: float = Field(1.0, gt=0, description="global gradient norm above which the gradient is scaled down")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    evaluate_every: int = Field(1000, ge=1, description="steps between held-out evaluations")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    keep_checkpoints: int = Field(2, ge=2, description="checkpoints kept; older ones are removed")

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if self.steps is not None and self.minutes is not None:
            raise ValueError(f"steps {self.steps} and minutes {self.minutes} are both set; set one of them")
        if self.batch_size < self.shards:
            raise ValueError(f"batch_size {self.batch_size} is smaller than shards {self.shards}: a shard would be empty")
        return self


class EvaluationConfig(Section):
    """Fixed held-out masks: the same positions for every model and every baseline."""

    batch_size: int = Field(64, ge=1, description="rows scored at once")
    mask_seed: int = Field(0, ge=0, description="seed of the held-out masks")


class RunConfig(Section):
    """Where and how to run; nothing here changes the result."""

    name: str | None = Field(None, description="name of the run's folder; null: corpus and time")
    directory: str = Field("runs", description="folder that holds the runs")
    seed: int = Field(0, ge=0, lt=2**64, description="seed of every random draw (this one does change the result)")
    threads: int | None = Field(None, ge=1, description="worker threads; null: one a core")
    resume: str | None = Field(None, description="auto: the run's newest checkpoint; or a checkpoint's path")


class Config(Section):
    """All sections."""

    model: ModelConfig = ModelConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    masking: MaskingConfig = MaskingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML and JSON write them."""
        return self.model_dump(mode="json")
