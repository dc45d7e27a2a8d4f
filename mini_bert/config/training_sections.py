"""Optimizer, loop and health: how the model learns, and what happens when it does not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mini_bert.config.section import Integer, Real, Section
from mini_bert.errors import ConfigError


class OptimizerConfig(Section):
    """Gradients to updates, and what is put around it."""

    name: Literal["adamw", "sgd", "lion", "adafactor", "muon"] = Field(
        "adamw", description="muon is for matrices of the blocks, with AdamW for the rest"
    )
    beta1: Real = Field(0.9, ge=0, lt=1, description="decay of the first moment; of lion's, too")
    beta2: Real = Field(
        0.999, ge=0, lt=1, description="decay of the second moment; of lion's momentum; adafactor's limit"
    )
    eps: Real = Field(1e-6, gt=0, description="added to the root of the second moment")
    weight_decay: Real = Field(0.01, ge=0, description="decoupled decay of matrices and embedding tables")
    momentum: Real = Field(0.95, ge=0, lt=1, description="sgd, muon: decay of the momentum")
    nesterov: bool = Field(True, description="sgd, muon: look one step ahead")
    newton_schulz_steps: Integer = Field(5, ge=1, le=20, description="muon: iterations that make a matrix orthogonal")
    layer_decay: Real = Field(1.0, gt=0, le=1, description="factor on the learning rate for each layer further down")
    position_lr_factor: Real = Field(
        1.0, gt=0, description="factor on the learning rate of what tells positions apart: their table, relative biases"
    )
    lookahead: Integer | None = Field(None, ge=2, description="steps between those of slow weights; null: none")
    lookahead_alpha: Real = Field(0.5, gt=0, le=1, description="lookahead: how far slow weights go to the fast ones")
    ema_decay: Real | None = Field(
        None, gt=0, lt=1, description="average of the parameters over steps, which is scored and saved; null: none"
    )


class TrainConfig(Section):
    """The loop. `batch_size` is the global batch, whatever the shards and threads."""

    lr: Real = Field(1e-3, gt=0, description="peak learning rate")
    schedule: Literal["linear", "constant", "cosine", "polynomial", "inverse_sqrt", "wsd", "one_cycle"] = Field(
        "linear", description="the rate after the warm-up; wsd is warm-up, stable, decay"
    )
    warmup_ratio: Real = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate rises from 0")
    warmup_steps: Integer | None = Field(None, ge=0, description="the same in steps; null: as warmup_ratio says")
    min_lr_ratio: Real = Field(0.0, ge=0, lt=1, description="lowest rate of a decay, as a share of lr")
    power: Real = Field(2.0, gt=0, description="polynomial: power of the decay; 1 is linear")
    decay_ratio: Real = Field(0.2, gt=0, le=1, description="wsd: share of all steps in which the rate goes down")
    steps: Integer | None = Field(None, ge=1, description="number of updates; instead of minutes")
    minutes: Real | None = Field(None, gt=0, description="time budget; becomes a number of steps before step 1")
    batch_size: Integer = Field(64, ge=1, description="rows of the global batch")
    shards: Integer = Field(4, ge=1, description="logical shards of the batch; part of the result to the bit")
    in_flight: Literal["auto"] | Annotated[Integer, Field(ge=1)] = Field(
        "auto", description="shards that run at once, at most one a thread; auto: as many as memory allows"
    )
    clipping: Literal["global", "layer", "adaptive", "none"] = Field(
        "global", description="what is scaled down: all of the gradient, a layer's part, or a unit's beside its weights"
    )
    max_grad_norm: Real = Field(
        1.0, gt=0, description="norm above which the gradient, or a layer's part, is scaled down"
    )
    adaptive_clip: Real = Field(
        0.02, gt=0, description="adaptive: greatest norm of a unit's gradient, as a share of its weights' norm"
    )
    activation_checkpointing: bool = Field(
        False,
        description="keep each block's input only and compute the rest anew: less memory, more time, the same bits",
    )
    save_every: Integer = Field(1000, ge=1, description="steps between checkpoints")
    evaluate_every: Integer = Field(1000, ge=1, description="steps between held-out evaluations")
    log_every: Integer = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    keep_checkpoints: Integer = Field(2, ge=2, description="checkpoints kept; older ones are removed")
    milestones: tuple[Annotated[Integer, Field(ge=0)], ...] = Field(
        (),
        description="steps after which the model is kept for good, without optimiser; 0: untrained",
    )
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
