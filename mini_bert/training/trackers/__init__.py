"""Where else do the records of `metrics.jsonl` go? To TensorBoard, W&B or MLflow, one file an adapter.

`metrics.jsonl` is the truth; a tracker is a copy of its numbers for looking at. Each adapter gets the very records that
are written there, as they are written, and makes `<kind>/<key>` of every number: `train/loss`, `evaluation/top1`.

A run that was killed and goes on writes the records after its checkpoint once more. What then becomes of those that a
tracker has already is each adapter's own answer, at the top of its file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module, util
from pathlib import Path
from typing import Any, Protocol

from mini_bert.config.schema import Config
from mini_bert.errors import ConfigError, MissingExtraError, nearest
from mini_bert.training.metrics_log import Record

TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""Each tracker, and the package without which it does not work. The extra has the tracker's name."""


class Tracker(Protocol):
    """Something that keeps records for looking at."""

    def log(self, record: Record) -> None:
        """Keep the numbers of a record; the first call connects. Raises whatever the foreign package raises."""

    def close(self) -> None:
        """Write out what is still held."""


def open_trackers(names: Iterable[str], run: Path, config: Config) -> list[Tracker]:
    """The trackers of a run; nothing is written or sent before the first record.

    Args:
        names: of `TRACKERS`.
        run: the run's folder.
        config: with everything resolved.

    Raises:
        ConfigError: there is no such tracker.
        MissingExtraError: a tracker's package is not installed.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in TRACKERS:
            raise ConfigError("run.trackers", got=repr(name), expected="a tracker", advice=nearest(name, TRACKERS))
        if util.find_spec(TRACKERS[name]) is None:
            raise MissingExtraError(
                f"run.trackers: {name}",
                got=f"no package {TRACKERS[name]}",
                expected=f"the extra `{name}`",
                advice=f"pip install 'mini-bert[{name}]'",
            )
    return [import_module(f"{__name__}.{name}_tracker").open_tracker(run, config) for name in chosen]


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record by `<kind>/<key>`, those within mappings by `<kind>/<key>/<key>`.

    A record of kind `start` holds facts, which stand in the configuration too, and no measurements: it has none.

    >>> scalars({"kind": "train", "step": 3, "loss": 5.5, "lr": None, "phase": "words", "at": {"k": 1}})
    {'train/loss': 5.5, 'train/at/k': 1.0}
    """
    kind = str(record.get("kind", "record"))
    return {} if kind == "start" else dict(_scalars(kind, {k: v for k, v in record.items() if k != "step"}))


def flat(config: Config) -> dict[str, Any]:
    """The configuration as `{"train.lr": 0.001, …}`."""
    return {
        f"{section}.{name}": value for section, values in config.to_dict().items() for name, value in values.items()
    }


def _scalars(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(f"{prefix}/{key}", value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}/{key}", float(value)
