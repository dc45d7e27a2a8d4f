"""One training step as a function: batch → gradient → clipped update.

The loss is the mean over the masked tokens of the whole batch: shards hand over sums, which are divided once by the
true number of masked tokens. Where other tasks learn too, it is the weighted sum of their mean losses. A loss or a
gradient that is not finite skips the update and leaves every parameter as it is; the place where the first such number
arose is then looked for and named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, OptimizerConfig, TrainConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import TaskSum
from mini_bert.ops.contract import Array
from mini_bert.optim import optimizer
from mini_bert.optim.clipping import Clipped, clip
from mini_bert.optim.optimizer import OptimizerState, Settings
from mini_bert.optim.schedules import learning_rate
from mini_bert.random_streams import RandomStream
from mini_bert.training.layout import layout_of
from mini_bert.training.non_finite import NonFinite, find_non_finite
from mini_bert.training.parallel import ShardPool, ShardSum


@dataclass
class TrainingState:
    """All that a step changes."""

    model: MiniBERT
    optimizer: OptimizerState
    step: int = 0
    """Steps done, the skipped ones included: it numbers batches and random draws."""

    @classmethod
    def fresh(cls, model: MiniBERT, section: OptimizerConfig | None = None) -> TrainingState:
        """The state before step 1, with the optimiser that a configuration's section names; AdamW without one."""
        settings = Settings() if section is None else optimizer_settings(section)
        layout = layout_of(model.parameters.table)
        return cls(model, optimizer.fresh(model.parameters.buffer, layout, settings))

    @property
    def vectors(self) -> tuple[Array, ...]:
        """Parameters and all that the optimiser keeps, in the order in which they are hashed and compared."""
        return self.model.parameters.buffer, *self.optimizer.values()

    @property
    def evaluated(self) -> MiniBERT:
        """The model that is scored and saved: that of the averaged weights, where they are averaged."""
        if "average" not in self.optimizer:
            return self.model
        averaged = Parameters(self.model.config, buffer=self.optimizer["average"])
        return MiniBERT.from_parameters(averaged, self.model.tokenizer)


class StepResult(NamedTuple):
    """What one step measured."""

    step: int
    """Its number, from 1."""
    loss: float
    """Mean over the masked tokens, nats."""
    accuracy: float
    """Share of the masked tokens whose likeliest piece was the right one."""
    grad_norm: float
    """Of the mean loss, before clipping."""
    lr: float
    tokens: int
    """Real tokens in the batch."""
    masked: int
    skipped: bool
    """Whether the update was left out because loss or gradient were not finite."""
    found: NonFinite | None = None
    """Where a skipped step was not finite first."""
    clipped: float = 0.0
    """Share of the norms that clipping looked at and found too large."""
    tasks: Mapping[str, TaskSum] = {}
    """What each task measured, where there is more to learn than masked language modelling."""
    total_loss: float = math.nan
    """The weighted sum of the tasks' mean losses, which is minimised then."""


def training_step(
    state: TrainingState, batch: Batch, config: Config, total_steps: int, pool: ShardPool, lr_scale: float = 1.0
) -> StepResult:
    """Train on `batch`; `state` is changed in place. `lr_scale` is a factor on the schedule's learning rate.

    Raises:
        InvalidInputError: the batch does not fit the model.
    """
    step = state.step + 1
    lr = lr_scale * scheduled_rate(config.train, step, total_steps)
    tokens = batch.input_ids.size if batch.attention_mask is None else int(batch.attention_mask.sum())
    summed, clipped = _NOTHING, Clipped(math.nan, 0.0, 0.0)
    gradient, dropout = None, RandomStream(config.run.seed, "dropout", step)
    try:
        summed = pool.gradients(
            state.model, batch, dropout, activation_checkpointing=config.train.activation_checkpointing
        )
        gradient = summed.gradient
        clipped = _clip(state, gradient, config, summed.divisor)
    except FloatingPointError:
        pass  # an overflow or a NaN on the way: recorded as a skipped step
    skipped = gradient is None or not (math.isfinite(summed.loss_sum) and math.isfinite(clipped.norm))
    if gradient is not None and not skipped and (summed.n_masked or summed.tasks):
        _update(state, gradient, config, step, lr, clipped.scale, pool)
    found = find_non_finite(state.model, batch, dropout, config.train.shards, gradient=gradient) if skipped else None
    state.step = step
    masked = max(summed.n_masked, 1)
    return StepResult(
        step,
        summed.loss_sum / masked,
        summed.n_correct / masked,
        clipped.norm,
        lr,
        tokens,
        summed.n_masked,
        skipped,
        found,
        0.0 if skipped else clipped.share,
        summed.tasks,
        summed.total_loss,
    )


_NOTHING = ShardSum(math.nan, 0, 0, np.empty(0))


def _clip(state: TrainingState, gradient: Array, config: Config, divisor: int) -> Clipped:
    """The mean gradient clipped as the configuration says."""
    parameters, train = state.model.parameters, config.train
    return clip(
        gradient,
        parameters.buffer,
        layout_of(parameters.table),
        kind=train.clipping,
        divisor=divisor,
        max_norm=train.max_grad_norm,
        adaptive=train.adaptive_clip,
    )


def _update(
    state: TrainingState, gradient: Array, config: Config, step: int, lr: float, scale: float, pool: ShardPool
) -> None:
    """The optimiser's update, shared out over the threads."""
    optimizer.update(
        state.model.parameters.buffer,
        gradient,
        state.optimizer,
        optimizer_settings(config.optimizer),
        step=step,
        lr=lr,
        scale=scale,
        threads=pool.threads,
        run=pool.each,
    )


def optimizer_settings(section: OptimizerConfig) -> Settings:
    """A configuration's section, as the optimisers want it."""
    return Settings(*(getattr(section, name) for name in Settings._fields))


def scheduled_rate(section: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of update number `step` of `steps`, as a configuration's section has it."""
    return learning_rate(
        step,
        steps=steps,
        peak=section.lr,
        warmup_ratio=section.warmup_ratio,
        schedule=section.schedule,
        warmup_steps=section.warmup_steps,
        min_lr_ratio=section.min_lr_ratio,
        power=section.power,
        decay_ratio=section.decay_ratio,
    )
