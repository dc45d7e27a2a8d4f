"""Does a model still learn when numbers have sixteen bits?

The same small model is trained several times on the same batches, each time by another recipe: which format the forward
and backward pass compute in, and in which the weights are kept between steps. AdamW's moments stay in float32, so that
nothing else differs. Where the weights themselves are narrow, an update that is smaller than half the distance to the
next number is lost: the weight stays where it is, for ever so many steps. Stochastic rounding moves it now and then,
with the right mean.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from mini_bert.analysis.loss_scaling import DynamicScale
from mini_bert.analysis.narrow_pass import backward, forward, loss, rounding_tap, with_rounded_parameters
from mini_bert.analysis.rounding import Format, lookup, rounded
from mini_bert.batch import Batch
from mini_bert.data.batches import BatchStream
from mini_bert.machine import available_cores
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.optim import adamw
from mini_bert.optim.clipping import clip_scale, global_norm
from mini_bert.random_streams import RandomStream
from mini_bert.training.step import scheduled_rate

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.data.work import Progress


class Recipe(NamedTuple):
    """How to train with narrow numbers."""

    name: str
    label: str
    compute: str = "float32"
    """Format of weights, activations and gradients within a step."""
    weights: str = "float32"
    """Format in which the weights are kept from step to step."""
    stochastic: bool = False
    """Whether kept weights are rounded stochastically."""
    scaled: bool = False
    """Whether the loss is scaled dynamically."""
    as_if_masked: int | None = None
    """The gradients within a step are as small as in a batch of so many masked tokens, whose number the mean loss
    divides by; None: as small as they are."""


BERT_MASKED = 256 * 512 * 15 // 100
"""Masked tokens in a batch of Devlin et al. 2019: 256 rows of 512 tokens, 15 % of them."""


RECIPES = (
    Recipe("float32", "float32"),
    Recipe("bfloat16_master", "bfloat16, weights kept in float32", "bfloat16"),
    Recipe("bfloat16_nearest", "bfloat16, weights too, rounded to nearest", "bfloat16", "bfloat16"),
    Recipe("bfloat16_stochastic", "bfloat16, weights too, rounded at random", "bfloat16", "bfloat16", stochastic=True),
    Recipe("float16_master", "float16, weights kept in float32", "float16"),
    Recipe("float16_large_batch", "float16, gradients as in BERT's batch", "float16", as_if_masked=BERT_MASKED),
    Recipe("float16_scaled", "the same, with loss scaling", "float16", scaled=True, as_if_masked=BERT_MASKED),
)
"""In the order of the table; the first is what the others are compared with."""


RATES = (2e-4, 1e-3)
"""Peak learning rates: one as large models have it, and that of our pre-training. With the second, only what becomes of
the kept weights is looked at."""

_SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 96,
    "num_attention_heads": 2,
    "intermediate_size": 384,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "decoder_bias_init": "zeros",
}
_STEPS = {False: 300, True: 30}
_ROWS = {False: 32, True: 8}


@dataclass
class TrainingCurve:
    """What one recipe did."""

    recipe: Recipe
    rate: float
    """Peak learning rate."""
    model: MiniBERT
    """The trained model, its weights as they were kept."""
    losses: list[float] = field(default_factory=list)
    """Mean loss in nats before each update."""
    lost: list[float] = field(default_factory=list)
    """At each step, the share of the updates that were not zero and left their weight as it was; nothing where weights
    are kept in float32."""
    lost_norm: list[float] = field(default_factory=list)
    """The same by size: norm of the lost updates over the norm of all."""
    skipped: int = 0
    """Steps left out because something was not finite."""
    scale: float = 1.0
    """The last loss scale."""


def small_config(config: Config, quick: bool = False) -> Config:
    """`config` with a small model and a small batch: the preset `model/tiny`; vocabulary and rows stay as they are.

    Masks alone are learned, in no order: neither is a matter of precision.
    """
    from mini_bert.config.schema import CurriculumConfig, TasksConfig

    model = config.model.model_copy(update=_SMALL)
    train = config.train.model_copy(update={"batch_size": _ROWS[quick]})
    plain = {"curriculum": CurriculumConfig(), "tasks": TasksConfig()}
    return config.model_copy(update={"model": model, "train": train, **plain})


def train_all(
    config: Config,
    token_corpus: TokenCorpus,
    formats: Collection[str],
    *,
    quick: bool = False,
    threads: int | None = None,
    told: Progress,
) -> list[TrainingCurve]:
    """Train by every recipe that needs no format but float32 and `formats`, at each of the rates.

    Args:
        config: of the model, as `small_config` makes it.
        token_corpus: its training side is read, the same batches every time.
        formats: names.
        quick: 30 steps and the first rate, instead of 300 and both.
        threads: trainings that run at once; the result is the same for any number.
        told: hears how many are done.
    """
    stream = BatchStream(token_corpus.train, config, token_corpus.tokenizer)
    batches = [stream.batch(step) for step in range(_STEPS[quick])]
    recipes = [recipe for recipe in RECIPES if {recipe.compute, recipe.weights} <= {"float32", *formats}]
    jobs = [
        (recipe, rate)
        for rate in RATES[: 1 if quick else None]
        for recipe in recipes
        if rate == RATES[0] or recipe.name == "float32" or recipe.weights != "float32"
    ]
    curves: list[TrainingCurve] = []
    told("training by several recipes", 0, len(jobs))
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or available_cores()) as executor:
        for curve in executor.map(lambda job: train(job[0], config, batches, job[1]), jobs):
            curves.append(curve)
            told("training by several recipes", len(curves), len(jobs))
    return curves


def train(recipe: Recipe, config: Config, batches: Sequence[Batch], rate: float) -> TrainingCurve:
    """Train a fresh model of `config` by `recipe`, an update a batch, with this peak learning rate; no dropout.

    Schedule, limit of the gradient's norm, AdamW's settings and seed are those of `config`.
    """
    compute, kept = lookup(recipe.compute), lookup(recipe.weights)
    model = with_rounded_parameters(MiniBERT(config.model, seed=config.run.seed), kept)
    theta, state = model.parameters.buffer, adamw.init(model.parameters.buffer.size)
    gradients = Parameters(config.model)
    scaling = DynamicScale() if recipe.scaled else None
    curve = TrainingCurve(recipe, rate, model)
    schedule = config.train.model_copy(update={"lr": rate})
    for step, batch in enumerate(batches, start=1):
        curve.scale = scaling.scale if scaling else 1.0
        masked = recipe.as_if_masked
        mean_loss = _gradients(
            model, batch, compute, curve.scale * (_masked(batch) / masked if masked else 1.0), gradients
        )
        norm = global_norm(gradients.buffer)
        finite = math.isfinite(mean_loss) and math.isfinite(norm)
        if scaling:
            scaling.update(finite)
        curve.losses.append(mean_loss)
        if not finite:
            curve.skipped += 1
            continue
        before = theta.copy() if recipe.weights != "float32" else None
        adamw.update(
            theta,
            gradients.buffer,
            state,
            step=step,
            lr=scheduled_rate(schedule, step, len(batches)),
            beta1=config.optimizer.beta1,
            beta2=config.optimizer.beta2,
            eps=config.optimizer.eps,
            weight_decay=config.optimizer.weight_decay,
            decayed=model.parameters.decayed,
            scale=clip_scale(norm, config.train.max_grad_norm),
        )
        if before is not None:
            stream = RandomStream(config.run.seed, "rounding/weights", step) if recipe.stochastic else None
            _keep(theta, before, kept, stream, curve)
    return curve


def _gradients(model: MiniBERT, batch: Batch, compute: Format, scale: float, gradients: Parameters) -> float:
    """Set `gradients` to those of the mean loss as `compute` has them, unscaled in float32; return that loss."""
    working = with_rounded_parameters(model, compute)
    done = forward(working, batch, rounding_tap(compute))
    assert batch.target_ids is not None
    mean_loss, dlogits_MV = loss(done.logits_MV, batch.target_ids)
    backward(working, done, dlogits_MV * np.float32(scale), gradients, rounding_tap(compute))
    gradients.buffer[...] = rounded(gradients.buffer, compute) / np.float32(scale)
    return mean_loss


def _masked(batch: Batch) -> int:
    return 0 if batch.masked_positions is None else batch.masked_positions.size


def _keep(theta: Array, before: Array, kept: Format, stream: RandomStream | None, curve: TrainingCurve) -> None:
    """Round the updated weights to the format that they are kept in, and count what was lost."""
    wanted = theta - before
    theta[...] = rounded(theta, kept, stream)
    moved = wanted != 0
    lost = moved & (theta == before)
    curve.lost.append(float(lost.sum() / max(1, moved.sum())))
    norm = float(np.linalg.norm(wanted))
    curve.lost_norm.append(float(np.linalg.norm(wanted[lost])) / norm if norm else 0.0)
