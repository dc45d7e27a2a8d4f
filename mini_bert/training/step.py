"""One training step as a function: batch → gradient → clipped AdamW update.

The loss is the mean over the masked tokens of the whole batch: shards hand over sums, which are divided once by the
true number of masked tokens. A loss or a gradient that is not finite skips the update and leaves every parameter as it
is; the place where the first such number arose is then looked for and named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.model.bert import MiniBERT
from mini_bert.ops.contract import Array
from mini_bert.optim import adamw
from mini_bert.optim.clipping import Clipped, clip
from mini_bert.optim.schedules import learning_rate
from mini_bert.random_streams import RandomStream
from mini_bert.training.layout import layout_of
from mini_bert.training.non_finite import NonFinite, find_non_finite
from mini_bert.training.parallel import ShardPool


@dataclass
class TrainingState:
    """All that a step changes."""

    model: MiniBERT
    optimizer: adamw.State
    step: int = 0
    """Steps done, the skipped ones included: it numbers batches and random draws."""

    @classmethod
    def fresh(cls, model: MiniBERT) -> TrainingState:
        """The state before step 1."""
        return cls(model, adamw.init(model.parameters.buffer.size, model.dtype))


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


def training_step(
    state: TrainingState, batch: Batch, config: Config, total_steps: int, pool: ShardPool, lr_scale: float = 1.0
) -> StepResult:
    """Train on `batch`; `state` is changed in place. `lr_scale` is a factor on the schedule's learning rate.

    Raises:
        InvalidInputError: the batch does not fit the model.
    """
    step = state.step + 1
    lr = lr_scale * learning_rate(
        step,
        steps=total_steps,
        peak=config.train.lr,
        warmup_ratio=config.train.warmup_ratio,
        schedule=config.train.schedule,
        warmup_steps=config.train.warmup_steps,
        min_lr_ratio=config.train.min_lr_ratio,
        power=config.train.power,
        decay_ratio=config.train.decay_ratio,
    )
    tokens = batch.input_ids.size if batch.attention_mask is None else int(batch.attention_mask.sum())
    loss_sum, n_masked, n_correct, clipped = math.nan, 0, 0, Clipped(math.nan, 0.0, 0.0)
    gradient, dropout = None, RandomStream(config.run.seed, "dropout", step)
    try:
        loss_sum, n_masked, n_correct, gradient = pool.gradients(state.model, batch, dropout)
        clipped = _clip(state, gradient, config, n_masked)
    except FloatingPointError:
        pass  # an overflow or a NaN on the way: recorded as a skipped step
    skipped = gradient is None or not (math.isfinite(loss_sum) and math.isfinite(clipped.norm))
    if gradient is not None and not skipped and n_masked:
        _update(state, gradient, config, step, lr, clipped.scale, pool)
    found = find_non_finite(state.model, batch, dropout, config.train.shards, gradient=gradient) if skipped else None
    state.step = step
    masked = max(n_masked, 1)
    return StepResult(
        step,
        loss_sum / masked,
        n_correct / masked,
        clipped.norm,
        lr,
        tokens,
        n_masked,
        skipped,
        found,
        0.0 if skipped else clipped.share,
    )


def _clip(state: TrainingState, gradient: Array, config: Config, n_masked: int) -> Clipped:
    """The mean gradient clipped as the configuration says."""
    parameters, train = state.model.parameters, config.train
    return clip(
        gradient,
        parameters.buffer,
        layout_of(parameters.table),
        kind=train.clipping,
        divisor=max(n_masked, 1),
        max_norm=train.max_grad_norm,
        adaptive=train.adaptive_clip,
    )


def _update(
    state: TrainingState, gradient: Array, config: Config, step: int, lr: float, scale: float, pool: ShardPool
) -> None:
    """AdamW on the whole vector, one part a thread: each element is on its own, so the parts change no bit."""
    parameters, (m, v) = state.model.parameters, state.optimizer

    def update(part: slice) -> None:
        adamw.update(
            parameters.buffer[part],
            gradient[part],
            adamw.State(m[part], v[part]),
            step=step,
            lr=lr,
            beta1=config.optimizer.beta1,
            beta2=config.optimizer.beta2,
            eps=config.optimizer.eps,
            weight_decay=config.optimizer.weight_decay,
            decayed=min(max(parameters.decayed - part.start, 0), part.stop - part.start),
            scale=scale,
        )

    pool.elementwise(update, parameters.buffer.size)
