"""Who wants to know how a training goes? Anything that overrides a method here; training itself prints nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.config.schema import Config
from mini_bert.training.forecast import Forecast
from mini_bert.training.phases import References
from mini_bert.training.step import StepResult


class RunInfo(NamedTuple):
    """What is known before the first step."""

    run: Path
    """The run's folder."""
    config: Config
    """With everything resolved: `train.steps` is a number, `train.minutes` is none."""
    first_step: int
    """Steps done before; above 0 when the run goes on from a checkpoint."""
    steps: int
    """Steps in all."""
    parameters: int
    threads: int
    steps_per_epoch: int
    train_tokens: int
    references: References | None
    """What the pieces' frequencies alone can reach, in nats; None where masks are not what is learned."""
    ranks: int
    """Processes of the job."""
    forecast: Forecast
    """What the run will cost, from a few measured steps."""


class Report:
    """Told what happens, as it happens; every method may be left as it is. Records are those of `metrics.jsonl`."""

    def started(self, info: RunInfo) -> None:
        """The first step comes next."""

    def ticked(self, result: StepResult) -> None:
        """A step was done."""

    def stepped(self, record: dict[str, Any]) -> None:
        """A record of the steps since the one before was logged: every `train.log_every` steps, and at the end.

        Keys: step, epoch, loss, accuracy, grad_norm, clipped, lr, tokens, tokens_per_second, seconds, seconds_left,
        skipped, phase; `masking_rate` where it changes; total_loss, TASK_loss and TASK_accuracy where there are several
        tasks.
        """

    def evaluated(self, record: dict[str, Any]) -> None:
        """The model was evaluated: what the evaluation returned, with kind and step."""

    def saved(self, checkpoint: Path) -> None:
        """A checkpoint was written and verified."""

    def warned(self, message: str) -> None:
        """Something is not as it should be, and training goes on."""

    def finished(self, result: PretrainResult) -> None:
        """The last step is done, or a signal or a rule of `health` ended the run."""


class PretrainResult(NamedTuple):
    """What a run left behind."""

    run: Path
    checkpoint: Path
    """The last one."""
    model: Any
    """The `MiniBERT` after the last step, with its tokenizer; its weights are the averaged ones where there are any."""
    step: int
    steps: int
    """Steps in all; more than `step` when something ended the run early."""
    train: dict[str, Any]
    """The last record of training steps; empty if there was none."""
    evaluation: dict[str, Any]
    """The last record of an evaluation; empty if there was none."""
    sha256: str
    """Of parameters and moments."""
    signal: int | None = None
    """The signal that ended the run early."""
    stopped: str | None = None
    """Why the run ended early by itself (`health.stop_after_evaluations`)."""

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run before its last step; everything is saved."""
        return self.signal is not None
