"""MLflow: one MLflow run for one run here; the store is MLFLOW_TRACKING_URI, else files in `runs/<name>/mlruns`.

Parameters are the configuration, flattened (`train.lr`); metrics are logged by step. A run that goes on keeps its
MLflow run (the id is kept in `runs/<name>/trackers.json`), and what its history holds already is not logged again, so
that a step has one value; only when a run goes back to a checkpoint, both courses stay visible. A run that begins anew
gets a new MLflow run. The experiment is MLFLOW_EXPERIMENT_NAME, else `mini-bert`.

MLflow 3.13 and later refuse stores of files unless MLFLOW_ALLOW_FILE_STORE is true: for the store in the run's folder
it is set while that store is opened. `mlflow-skinny` alone has no other local store.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mini_bert.config.schema import Config
from mini_bert.training.metrics_log import Record
from mini_bert.training.trackers import Tracker, flat, scalars
from mini_bert.training.trackers.identity import keep, kept

FOLDER = "mlruns"
_LONGEST = 6000
"""Characters of a parameter's value that MLflow takes."""
_AT_ONCE = 100
"""Parameters that MLflow takes in one call."""
_ALLOW = "MLFLOW_ALLOW_FILE_STORE"


class MLflow:
    """The MLflow run of a run."""

    def __init__(self, run: Path, config: Config) -> None:
        self._folder, self._config = run, config
        self._client: Any = None
        self._id = ""
        self._step = -1
        self._ended = False
        """Whether it was the last step, or an early stop."""
        self._last: dict[str, int] = {}
        """The last step in the history that a metric has from earlier starts."""

    def log(self, record: Record) -> None:
        """Keep the numbers of a record."""
        from mlflow.entities import Metric

        step, now = record["step"], time.time_ns() // 1_000_000
        if self._client is None:
            self._open(goes_on=step > 0)
        if step < self._step:  # gone back: from here on the course is another one
            self._last = {}
        self._step = step
        self._ended |= step == self._config.train.steps or record.get("remedy") == "stop"
        metrics = [
            Metric(name, value, now, step) for name, value in scalars(record).items() if step > self._last.get(name, -1)
        ]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Write out what is still held."""
        if self._client is not None:
            self._client.set_terminated(self._id, "FINISHED" if self._ended else "KILLED")

    def _open(self, goes_on: bool) -> None:
        """Find the MLflow run of this run, or make one."""
        from mlflow.exceptions import MlflowException

        self._client = _client(self._folder)
        if goes_on:
            with suppress(MlflowException):
                known = self._client.get_run(kept(self._folder, "mlflow").get("run_id", ""))
                self._id = known.info.run_id
                self._client.update_run(self._id, status="RUNNING")
                self._last = {
                    name: max(metric.step for metric in self._client.get_metric_history(self._id, name))
                    for name in known.data.metrics
                }
                return
        self._id = self._created()
        keep(self._folder, "mlflow", {"run_id": self._id})

    def _created(self) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mini-bert")
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        made: str = self._client.create_run(number, run_name=self._folder.name).info.run_id
        parameters = [Param(name, str(value)[:_LONGEST]) for name, value in flat(self._config).items()]
        for first in range(0, len(parameters), _AT_ONCE):
            self._client.log_batch(made, params=parameters[first : first + _AT_ONCE])
        return made


def _client(run: Path) -> Any:
    from mlflow import MlflowClient

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return MlflowClient(uri)
    before = os.environ.get(_ALLOW)
    os.environ[_ALLOW] = "true"
    try:
        return MlflowClient((run / FOLDER).absolute().as_uri())
    finally:
        if before is None:
            del os.environ[_ALLOW]
        else:
            os.environ[_ALLOW] = before


def open_tracker(run: Path, config: Config) -> Tracker:
    """What gets a run's records; nothing is opened before the first."""
    return MLflow(run, config)
