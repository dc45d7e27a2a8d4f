"""The loop's counters: what a record of `metrics.jsonl` is made of, and what a checkpoint keeps beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mini_bert.training.adaptive_masking import AdaptiveRate
from mini_bert.training.step import StepResult


@dataclass
class Window:
    """Sums over the steps since the last record."""

    steps: int = 0
    masked: int = 0
    loss: float = 0.0
    correct: float = 0.0
    grad_norm: float = 0.0
    clipped: float = 0.0
    tokens: int = 0
    skipped: int = 0
    seconds: float = 0.0
    total_loss: float = 0.0
    tasks: dict[str, list[float]] = field(default_factory=dict)
    """Sum of losses, answers, right answers of each task, where there is more than `masked_lm` to learn."""

    def add(self, result: StepResult, seconds: float) -> None:
        """Count a step; of a skipped one, only that it was."""
        self.seconds += seconds
        self.tokens += result.tokens
        if result.skipped:
            self.skipped += 1
            return
        self.steps += 1
        self.masked += result.masked
        self.loss += result.loss * result.masked
        self.correct += result.accuracy * result.masked
        self.grad_norm += result.grad_norm
        self.clipped += result.clipped
        if result.tasks:
            self.total_loss += result.total_loss
        for task, measured in result.tasks.items():
            self.tasks[task] = [a + b for a, b in zip(self.tasks.get(task, [0.0, 0, 0]), measured, strict=True)]

    def means(self) -> dict[str, float]:
        """Loss and accuracy over all masked tokens, gradient norm and clipped share over steps.

        Where there are other tasks: `next_sentence_loss`, `next_sentence_accuracy`, … over all of a task's answers, and
        `total_loss`, the weighted sum that is minimised, over steps.
        """
        nothing = float("nan")
        tasks = {task: measured for task, measured in self.tasks.items() if task != "masked_lm"}
        return {
            "loss": self.loss / self.masked if self.masked else nothing,
            "accuracy": self.correct / self.masked if self.masked else nothing,
            "grad_norm": self.grad_norm / self.steps if self.steps else nothing,
            "clipped": self.clipped / self.steps if self.steps else nothing,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else nothing,
            "skipped": self.skipped,
            **({"total_loss": self.total_loss / self.steps} if self.tasks else {}),
            **{f"{task}_loss": loss / items for task, (loss, items, _) in tasks.items() if items},
            **{f"{task}_accuracy": correct / items for task, (_, items, correct) in tasks.items() if items},
        }


@dataclass
class Progress:
    """The loop's counters, which a checkpoint keeps beside the numbers."""

    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    stopped: str | None = None
    """Why the run ended before its last step, if it did so by itself."""
    save_due: bool = False
    """Whether a checkpoint was to be saved in its turn, at a step whose update was skipped."""
    evaluation_seconds: float = 0.0
    """Of the last evaluation."""
    masking: AdaptiveRate | None = None
    """The masking rate of now, where it follows the held-out accuracy."""
    window: Window = field(default_factory=Window)

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Progress:
        """The counters as `asdict` gave them; what an older version counted and this one does not is passed over."""
        known = {entry.name: saved[entry.name] for entry in fields(cls) if entry.name in saved}
        made = {"window": Window(**saved["window"]), "masking": AdaptiveRate.restored(saved.get("masking"))}
        return cls(**{**known, **made})

    def take_window(self) -> dict[str, float]:
        """The means since the last record; a new window begins."""
        means, self.window = self.window.means(), Window()
        return means

    def count(self, result: StepResult, seconds: float) -> None:
        """Count a step and the seconds that it took."""
        self.window.add(result, seconds)
        self.tokens += result.tokens
        self.seconds += seconds
        self.skipped += result.skipped
