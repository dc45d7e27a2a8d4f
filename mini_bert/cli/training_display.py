"""How a training goes, on standard error: a live display on a terminal, one line a record elsewhere."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mini_bert.training.phases import OTHER_TASKS
from mini_bert.training.report import Report, RunInfo

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mini_bert.training.step import StepResult


class TrainingDisplay(Report):
    """Base: what both displays say in the same words. A context manager."""

    def __init__(self) -> None:
        self.info: RunInfo | None = None
        self._untrained: dict[str, Any] = {}

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, message: str) -> None:
        """A line that stays."""
        print(message, file=sys.stderr, flush=True)

    def started(self, info: RunInfo) -> None:
        """Say what is trained on what."""
        self.info = info
        from mini_bert.reports.forecast import lines

        self.say(heading(info))
        for line in lines(info.forecast):
            self.say(line)
        if info.config.tasks.masked_lm and info.references is not None:
            guessing, (frequencies, itself) = math.log(info.config.model.vocab_size), info.references
            self.say(
                f"Loss in nats: {guessing:.2f} is guessing, {frequencies:.2f} knows how often each piece occurs; "
                f"below {itself:.2f} a model reads the neighbours."
            )
        if self._untrained:
            self.evaluated(self._untrained)

    def evaluated(self, record: dict[str, Any]) -> None:
        """Say how good it is on held-out text; what is said before the run has a heading is kept for later."""
        if self.info is None:
            self._untrained = record
        elif "perplexity" in record:
            loss, perplexity, accuracy = record["loss"], record["perplexity"], record["top1"]
            shown = "beyond all floats" if perplexity is None else f"{perplexity:,.1f}"
            self.say(
                f"Step {record['step']:>5} | held-out loss {loss:.4f} | perplexity {shown} | "
                f"masked accuracy {accuracy:.1%}"
                f"{_tasks_in_line(record)}"
            )
        elif "total_loss" in record:
            self.say(f"Step {record['step']:>5} | held-out loss {record['loss']:.4f}{_tasks_in_line(record)}")

    def warned(self, message: str) -> None:
        """Pass it on."""
        self.say(f"Warning: {message}")


class PlainDisplay(TrainingDisplay):
    """A line a record, for files and pipes."""

    def stepped(self, record: dict[str, Any]) -> None:
        """The record on one line."""
        line = progress_line(*(record[key] for key in ("step", "loss", "accuracy", "grad_norm", "phase")))
        line += _tasks_in_line(record)
        if "masking_rate" in record:
            line += f" | masked {record['masking_rate']:.1%}"
        left = clock_time(record["seconds_left"])
        self.say(f"{line} | lr {record['lr']:.2e} | {record['tokens_per_second']:,.0f} tokens/s | {left} left")


class LiveDisplay(TrainingDisplay):
    """A few lines that are drawn over and over."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._draw)
        self._step = 0
        self._record: dict[str, Any] = {}
        self._losses: list[float] = []

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.transient = self.info is None
        self._live.stop()

    def say(self, message: str) -> None:
        """A line that stays, above the display."""
        self._console.print(message, markup=False, soft_wrap=True)

    def ticked(self, result: StepResult) -> None:
        """Count."""
        self._step = result.step

    def stepped(self, record: dict[str, Any]) -> None:
        """Keep for the next drawing."""
        self._record = record
        self._losses.append(record["loss"])

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self.info is None:
            return Text("Timing some steps …", style="dim")
        steps, record = self.info.steps, self._record
        bar = Table.grid(padding=(0, 2))
        left = f"{clock_time(record['seconds_left'])} left" if record else ""
        count = f"step {self._step:,} of {steps:,}"
        bar.add_row(count, ProgressBar(total=steps, completed=self._step, width=40), f"{self._step / steps:.0%}", left)
        if not record:
            return bar
        numbers = Table.grid(padding=(0, 3))
        hits = "accuracy" if record["phase"] == OTHER_TASKS else "masked accuracy"
        masked = [f"{record['masking_rate']:.1%}"] if "masking_rate" in record else []
        names = ("loss", hits, "gradient norm", "learning rate", *(["masking rate"] if masked else []), "tokens/s")
        numbers.add_row(*names, style="dim")
        skipped = not math.isfinite(record["loss"])
        numbers.add_row(
            "—" if skipped else f"{record['loss']:.4f}",
            "—" if skipped else f"{record['accuracy']:.1%}",
            "—" if skipped else f"{record['grad_norm']:.3f}",
            f"{record['lr']:.2e}",
            *masked,
            f"{record['tokens_per_second']:,.0f}",
        )
        tasks = Table.grid(padding=(0, 3))
        for name, loss, accuracy in _of_tasks(record):
            tasks.add_row(Text(name, style="dim"), f"{loss:.4f}", f"{accuracy:.1%}")
        curve = Text(f"{sparkline(self._losses, 60)}  ", style="cyan").append(f"[{record['phase']}]", style="bold")
        return Group(bar, numbers, *([tasks] if tasks.row_count else []), curve)


def training_display() -> TrainingDisplay:
    """The display that suits standard error."""
    return LiveDisplay() if sys.stderr.isatty() else PlainDisplay()


def heading(info: RunInfo) -> str:
    """The run in one line."""
    m, corpora = info.config.model, " + ".join(info.config.data.corpus)
    shape = f"L={m.num_hidden_layers} H={m.hidden_size} A={m.num_attention_heads} I={m.intermediate_size}"
    shape += f" T={m.max_position_embeddings} V={m.vocab_size}"
    going_on = f", from step {info.first_step:,}" if info.first_step else ""
    ranks = f"{info.ranks} ranks of " if info.ranks > 1 else ""
    return (
        f"{Path(info.run)}: {info.parameters:,} parameters ({shape}) on {corpora} ({info.train_tokens:,} tokens), "
        f"{info.steps:,} steps of {info.config.train.batch_size} rows{going_on}, "
        f"{ranks}{info.threads} thread{'s' * (info.threads != 1)}"
    )


def progress_line(step: int, loss: float, accuracy: float, grad_norm: float, phase: str) -> str:
    """One line about one step.

    >>> progress_line(1000, 4.68123, 0.3141, 1.2, "attention wakes up")
    'Step  1000 | Loss 4.6812 | Acc 31.4% | Grad 1.200 | [attention wakes up]'
    >>> progress_line(12, math.nan, math.nan, math.nan, "refining")  # every step since the last line was skipped
    'Step    12 | Loss — | Acc — | Grad — | [refining]'
    """
    measured = f"Loss {loss:.4f} | Acc {accuracy:>5.1%} | Grad {grad_norm:.3f}"
    return f"Step {step:>5} | {measured if math.isfinite(loss) else 'Loss — | Acc — | Grad —'} | [{phase}]"


def _of_tasks(record: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, loss and accuracy of each task beside the masked language model that a record has."""
    names = [key.removesuffix("_accuracy") for key in record if key.endswith("_accuracy")]
    return [
        (name.replace("_", " "), record[f"{name}_loss"], record[f"{name}_accuracy"])
        for name in names
        if f"{name}_loss" in record
    ]


def _tasks_in_line(record: dict[str, Any]) -> str:
    return "".join(f" | {name} {loss:.3f} ({accuracy:.1%})" for name, loss, accuracy in _of_tasks(record))


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock_time(75), clock_time(3 * 3600 + 62)
    ('1:15', '3:01:02')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def sparkline(values: list[float], width: int) -> str:
    """The values as at most `width` little bars, each the mean of its share.

    >>> sparkline([9.0, 8.0, 7.0, 5.0, 2.0], 5)
    '█▇▆▄▁'
    """
    finite = [value for value in values if value == value]
    if not finite:
        return ""
    bars = min(width, len(finite))
    cuts = [len(finite) * i // bars for i in range(bars + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (mean - low) / (high - low))] if high > low else "▁" for mean in means)
