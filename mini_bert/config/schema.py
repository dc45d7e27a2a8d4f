"""The one schema: what can be set, its default, its bounds and its meaning.

YAML files, command-line options and Python all fill these models. They are frozen, and a key that does not exist is
refused by name. Field names are those of Hugging Face's BERT configuration where it has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mini_bert.errors import ConfigError

Head = Literal["mlm", "nsp", "classifier", "token_classifier"]


def _listed(value: object) -> object:
    """One name stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _number(value: object) -> object:
    """YAML's `yes` is no 1."""
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


Integer = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]


class Section(BaseModel):
    """Base of all sections: immutable, and strict about names.

    Raises:
        ConfigError: a setting is unknown, of a wrong type or out of bounds; its name, what was got and what was
            expected are in the message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            from mini_bert.config.wording import config_error

            raise config_error(error.errors(include_url=False), type(self).model_fields) from None


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
    initializer_range: Real = Field(0.02, gt=0, description="standard deviation of the truncated normal")
    heads: Annotated[tuple[Head, ...], BeforeValidator(_listed)] = Field(
        ("mlm",), description="task heads that exist; none is the bare encoder"
    )
    pooler: bool = Field(
        True, description="whether a bare encoder has the tanh pooler; the heads nsp and classifier always have it"
    )
    num_labels: Integer = Field(2, ge=1, le=65536, description="classes of the classifier heads")
    labels: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="names of the classes; none: LABEL_0, LABEL_1, …"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                "hidden_size",
                got=self.hidden_size,
                expected=f"a multiple of num_attention_heads, {self.num_attention_heads}",
                advice="Every head needs the same whole width.",
            )
        if len(set(self.heads)) != len(self.heads):
            raise ConfigError("heads", got=self.heads, expected="each head once")
        if not self.pooler and {"nsp", "classifier"} & set(self.heads):
            raise ConfigError("pooler", got=self.pooler, expected=f"True, which heads {list(self.heads)} read")
        if self.labels and len(self.labels) != self.num_labels:
            raise ConfigError(
                "labels", got=f"{len(self.labels)} names", expected=f"num_labels of them, which is {self.num_labels}"
            )
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


class TokenizerConfig(Section):
    """How text falls into pieces. The vocabulary's size is `model.vocab_size`."""

    vocab_file: str | None = Field(None, description="use this vocab.txt instead of learning a vocabulary")
    lowercase: bool = Field(True, description="lower-case the text (uncased BERT)")
    strip_accents: bool | None = Field(None, description="remove accents; null: as lowercase says, as BERT does")
    min_frequency: Integer = Field(2, ge=1, description="least count of a pair of pieces that is merged")


class DataConfig(Section):
    """Which texts, and how they become rows of tokens."""

    corpus: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        ("python-docs",),
        min_length=1,
        description="names of corpora, paths or glob patterns; `name=2.5` weighs one against the others",
    )
    layout: Literal["packed", "sentences"] = Field(
        "packed", description="packed: rows filled to T with sentences of one document; sentences: one a row, padded"
    )
    held_out_fraction: Real = Field(0.02, gt=0, lt=0.5, description="share of documents kept for evaluation")
    held_out_rows: Integer = Field(1024, ge=1, description="at most so many held-out rows are scored")


class MaskingConfig(Section):
    """Which tokens are hidden from the model (Devlin et al. 2019, section 3.1, Task 1)."""

    rate: Real = Field(0.15, gt=0, lt=1, description="share of the ordinary tokens that are predicted")
    mask_share: Real = Field(0.8, ge=0, le=1, description="of these, the share that becomes [MASK]")
    random_share: Real = Field(0.1, ge=0, le=1, description="of these, the share that becomes a random piece")
    whole_word: bool = Field(False, description="mask all pieces of a word together")

    @model_validator(mode="after")
    def _shares_fit(self) -> MaskingConfig:
        if self.mask_share + self.random_share > 1 + 1e-12:
            raise ConfigError(
                "mask_share",
                got=f"{self.mask_share} beside random_share {self.random_share}",
                expected="a sum of at most 1",
                advice="What is left over stays unchanged.",
            )
        return self


class OptimizerConfig(Section):
    """AdamW (Loshchilov and Hutter 2019)."""

    beta1: Real = Field(0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: Real = Field(0.999, ge=0, lt=1, description="decay of the second moment")
    eps: Real = Field(1e-6, gt=0, description="added to the root of the second moment")
    weight_decay: Real = Field(0.01, ge=0, description="decoupled decay of matrices and embedding tables")


class TrainConfig(Section):
    """The loop. `batch_size` is the global batch, whatever the shards and threads."""

    lr: Real = Field(1e-3, gt=0, description="peak learning rate")
    schedule: Literal["linear", "constant"] = Field("linear", description="after the warm-up: linear to 0, or constant")
    warmup_ratio: Real = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate rises from 0")
    steps: Integer | None = Field(None, ge=1, description="number of updates; instead of minutes")
    minutes: Real | None = Field(None, gt=0, description="time budget; becomes a number of steps before step 1")
    batch_size: Integer = Field(64, ge=1, description="rows of the global batch")
    shards: Integer = Field(4, ge=1, description="logical shards of the batch; part of the result to the bit")
    in_flight: Literal["auto"] | Annotated[Integer, Field(ge=1)] = Field(
        "auto", description="shards that run at once; auto: as many as threads"
    )
    max_grad_norm: Real = Field(1.0, gt=0, description="global gradient norm above which the gradient is scaled down")
    save_every: Integer = Field(1000, ge=1, description="steps between checkpoints")
    evaluate_every: Integer = Field(1000, ge=1, description="steps between held-out evaluations")
    log_every: Integer = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    keep_checkpoints: Integer = Field(2, ge=2, description="checkpoints kept; older ones are removed")
    on_save_error: Literal["stop", "go-on"] = Field(
        "stop", description="when a checkpoint cannot be written: stop, or go on and try again at the next one"
    )
    verify_ranks_every: Integer = Field(100, ge=1, description="steps between comparisons of the ranks' parameters")

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if self.steps is not None and self.minutes is not None:
            raise ConfigError("steps", got=f"{self.steps} beside minutes {self.minutes}", expected="one of the two")
        if self.batch_size < self.shards:
            raise ConfigError(
                "batch_size",
                got=self.batch_size,
                expected=f"at least shards, {self.shards}",
                advice="A shard would be empty.",
            )
        return self


class HealthConfig(Section):
    """What a run does when it does not go well. Evaluations are those of `train.evaluate_every`."""

    max_skipped: Integer = Field(5, ge=1, description="skipped updates in a row that end the run")
    lr_cut: Real = Field(0.5, gt=0, lt=1, description="factor on the learning rate at each cut")
    lr_cut_after_skips: Integer | None = Field(
        None, ge=1, description="skipped updates in a row after which the learning rate is cut; null: never"
    )
    lr_cut_after_evaluations: Integer | None = Field(
        None, ge=1, description="evaluations without a better loss after which the learning rate is cut; null: never"
    )
    stop_after_evaluations: Integer | None = Field(
        None, ge=1, description="evaluations without a better loss after which the run ends; null: never"
    )
    min_improvement: Real = Field(0.0, ge=0, description="nats by which a loss must be lower to count as better")
    spike: Literal["ignore", "warn", "roll-back"] = Field(
        "warn", description="a loss far above the recent ones: nothing, a warning, or back to the last checkpoint"
    )
    spike_deviations: Real = Field(6.0, gt=0, description="standard deviations above the recent losses that are far")
    max_rollbacks: Integer = Field(3, ge=1, description="times that a run goes back, in all")

    @model_validator(mode="after")
    def _can_act(self) -> HealthConfig:
        if self.lr_cut_after_skips is not None and self.lr_cut_after_skips >= self.max_skipped:
            raise ConfigError(
                "lr_cut_after_skips",
                got=self.lr_cut_after_skips,
                expected=f"less than max_skipped, {self.max_skipped}",
                advice="The run would end before the cut.",
            )
        return self


class EvaluationConfig(Section):
    """Fixed held-out masks: the same positions for every model and every baseline."""

    batch_size: Integer = Field(64, ge=1, description="rows scored at once")
    mask_seed: Integer = Field(0, ge=0, description="seed of the held-out masks")


class RunConfig(Section):
    """Where and how to run; of all this, only the seed changes the result."""

    name: str | None = Field(None, description="name of the run's folder; null: corpus and time")
    directory: str = Field("runs", description="folder that holds the runs")
    seed: Integer = Field(0, ge=0, lt=2**64, description="seed of every random draw")
    threads: Integer | None = Field(None, ge=1, description="worker threads; null: one a core")
    resume: str | None = Field(None, description="auto: the run's newest checkpoint; or a checkpoint's path")
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], BeforeValidator(_listed)] = Field(
        (), description="where the records of metrics.jsonl go too"
    )


class Config(Section):
    """All sections."""

    model: ModelConfig = ModelConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    masking: MaskingConfig = MaskingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    health: HealthConfig = HealthConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML and JSON write them."""
        return self.model_dump(mode="json")
