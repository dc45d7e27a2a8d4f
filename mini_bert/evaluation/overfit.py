"""Can the model learn one batch by heart? If not, something between data and update is broken.

The same batch with the same masks, again and again, without dropout and weight decay and at a constant rate after a
short warm-up, until every masked piece is predicted and the loss is under 0.01 nats. A sound model of any size does it;
a wrong sign in a mask, a missing gradient or a target shifted by one does not. It says nothing about held-out text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.batch import Batch
    from mini_bert.config.schema import Config

LOSS = 0.01
"""Nats a masked token that have to be reached, with every masked token right."""
_SKIPPED_IN_A_ROW = 5


@dataclass(frozen=True)
class OverfitResult:
    """Whether one batch was learned by heart, and how."""

    passed: bool
    steps: int
    """Updates done when loss and accuracy were as follows."""
    loss: float
    """Nats a masked token."""
    accuracy: float
    n_masked: int
    message: str
    """What happened, in one sentence."""
    curve: list[tuple[int, float, float]] = field(repr=False)
    """(updates, loss, accuracy) before every step."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"kind": "overfit", **asdict(self)}


def overfit_one_batch(
    config: Config,
    batch: Batch,
    steps: int = 500,
    *,
    threads: int | None = None,
    progress: Callable[[int, float, float], None] | None = None,
) -> OverfitResult:
    """Train a fresh model of `config` on `batch` alone, for at most `steps` updates.

    Seed, peak rate, clipping and shards are those of `config`; shards are limited to the batch's rows.

    Args:
        config: the model and how to train it.
        batch: with masked positions and targets.
        steps: updates after which it gives up.
        threads: worker threads; None: one a core. The result is the same for any number.
        progress: called with updates done, loss and accuracy.

    Raises:
        InvalidInputError: the batch has no masked position, does not fit the model, or `steps` is not positive.
    """
    from mini_bert.model.bert import MiniBERT
    from mini_bert.training.parallel import ShardPool
    from mini_bert.training.step import TrainingState, training_step

    if steps < 1:
        raise InvalidInputError("steps", got=steps, expected="a positive number of updates")
    if batch.masked_positions is None or not len(batch.masked_positions):
        raise InvalidInputError("batch", got="no masked position", expected="at least one")
    config = _memorising(config, steps)
    state = TrainingState.fresh(MiniBERT(config.model, seed=config.run.seed), config.optimizer)
    curve: list[tuple[int, float, float]] = []
    skipped = 0
    with ShardPool(threads, min(config.train.shards, len(batch.input_ids))) as pool:
        for done in range(steps + 1):
            result = training_step(state, batch, config, steps + 1, pool)
            curve.append((done, result.loss, result.accuracy))
            if progress:
                progress(done, result.loss, result.accuracy)
            if result.accuracy == 1 and result.loss < LOSS:
                return _result(True, curve, result.masked, f"Learned by heart after {done} updates.")
            skipped = skipped + 1 if result.skipped else 0
            if skipped == _SKIPPED_IN_A_ROW:
                return _result(False, curve, result.masked, f"Loss or gradient not finite after {done} updates.")
    _, loss, accuracy = curve[-1]
    message = (
        f"Not learned by heart in {steps} updates: loss {loss:.4f} (wanted under {LOSS}), accuracy {accuracy:.1%}."
    )
    return _result(False, curve, result.masked, message)


def _memorising(config: Config, steps: int) -> Config:
    changed = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "decoder_bias_init": "zeros"}
    training = {"schedule": "constant", "warmup_ratio": min(0.5, 20 / steps), "warmup_steps": None}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=changed),
            "train": config.train.model_copy(update=training),
            "optimizer": config.optimizer.model_copy(update={"weight_decay": 0.0}),
        }
    )


def _result(passed: bool, curve: list[tuple[int, float, float]], n_masked: int, message: str) -> OverfitResult:
    steps, loss, accuracy = curve[-1]
    return OverfitResult(passed, steps, loss, accuracy, n_masked, message, curve)
