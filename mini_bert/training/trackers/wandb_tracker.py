"""W&B: one run of W&B for one run here, with its name and configuration; local files in `runs/<name>/wandb`.

A run that goes on keeps its W&B run (the id is kept in `runs/<name>/trackers.json`); one that begins anew gets a new
one. The x-axis is the metric `step`, not W&B's own counter, which only goes up: records that come again after a kill
are drawn over those that are there, with the same values, since the steps are the same to the bit.

Project, entity and mode are W&B's own variables: WANDB_PROJECT (else `mini-bert`), WANDB_ENTITY, WANDB_MODE=offline.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from mini_bert.config.schema import Config
from mini_bert.training.metrics_log import Record
from mini_bert.training.trackers import Tracker, scalars
from mini_bert.training.trackers.identity import keep, kept


class WandB:
    """The W&B run of a run."""

    def __init__(self, run: Path, config: Config) -> None:
        self._folder, self._config = run, config
        self._run: Any = None

    def log(self, record: Record) -> None:
        """Keep the numbers of a record."""
        if self._run is None:
            self._open(record["step"] > 0)
        self._run.log({"step": record["step"], **scalars(record)})

    def close(self) -> None:
        """Write out what is still held."""
        if self._run is not None:
            self._run.finish()

    def _open(self, goes_on: bool) -> None:
        import wandb

        identity = kept(self._folder, "wandb") if goes_on else {}
        identity.setdefault("id", uuid.uuid4().hex[:16])
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mini-bert"),
            id=identity["id"],
            name=self._folder.name,
            dir=str(self._folder),
            config=self._config.to_dict(),
            resume="allow",
            settings=wandb.Settings(console="off"),
        )
        keep(self._folder, "wandb", identity)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")


def open_tracker(run: Path, config: Config) -> Tracker:
    """What gets a run's records; nothing is opened before the first."""
    return WandB(run, config)
