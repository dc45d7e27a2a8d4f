"""TensorBoard: event files in `runs/<name>/tensorboard`, written by tensorboardX.

A run that goes on begins a new event file which declares that what older files say of later steps is void
(`purge_step`); TensorBoard then shows each step once, as it was computed last. The same is done when a run goes back
to a checkpoint. TensorBoard keeps float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mini_bert.config.load import dump_config
from mini_bert.config.schema import Config
from mini_bert.training.metrics_log import Record
from mini_bert.training.trackers import Tracker, scalars

FOLDER = "tensorboard"


class TensorBoard:
    """The event files of a run."""

    def __init__(self, run: Path, config: Config) -> None:
        self._folder, self._config = run / FOLDER, config
        self._writer: Any = None
        self._step = -1

    def log(self, record: Record) -> None:
        """Keep the numbers of a record."""
        step = record["step"]
        if self._writer is None:
            self._open(step + 1 if step > 0 else 0)
            self._writer.add_text("config", f"```yaml\n{dump_config(self._config)}```", step)
        elif step < self._step:
            self._writer.close()
            self._open(step + 1)
        self._step = step
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is still held."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, void_from: int) -> None:
        """A new event file; of older ones, the steps from `void_from` on no longer count."""
        from tensorboardX import SummaryWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in self._folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(self._folder), purge_step=void_from, filename_suffix=f".{number:04}")


def open_tracker(run: Path, config: Config) -> Tracker:
    """What gets a run's records; nothing is opened before the first."""
    return TensorBoard(run, config)
