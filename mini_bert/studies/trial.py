"""One training of a study, and what is recorded of it: a run of `training.pretrain` that goes on where it was stopped.

Every trial is scored on the held-out masks of the baseline's configuration, whatever it masks in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mini_bert.config.schema import Config
from mini_bert.data.batches import held_out_batches
from mini_bert.data.tokens import open_tokens
from mini_bert.errors import ConfigError, NonFiniteError, RunInUseError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.evaluation.projection import seconds_per_step
from mini_bert.machine import peak_bytes
from mini_bert.model.bert import MiniBERT
from mini_bert.studies.result import Trial
from mini_bert.studies.schema import Measure
from mini_bert.training.metrics_log import FILE_NAME, search_metrics
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import PretrainResult, Report, RunInfo

MOST_POINTS = 60
"""Of a curve in the result."""


class Pruned(Exception):
    """A search gives this trial up."""


class _Reached(Exception):
    """The training loss is where it was to come to; nothing more is asked of the trial."""


class _Watch(Report):
    """Ends a trial whose measure is when the loss first comes below a level, and passes held-out losses on."""

    def __init__(self, config: Config, measure: Measure, report_loss: Callable[[int, float], None]) -> None:
        self._config, self._measure, self._report_loss = config, measure, report_loss
        self._level = -math.inf

    def started(self, info: RunInfo) -> None:
        """The references are known now; other losses are not below these."""
        if not self._config.tasks.masked_lm:
            return
        self._level = level_of(self._measure, info.references._asdict()) or self._level

    def stepped(self, record: dict[str, Any]) -> None:
        """Is this it?"""
        if math.isfinite(record["loss"]) and record["loss"] < self._level:
            raise _Reached

    def evaluated(self, record: dict[str, Any]) -> None:
        """The same evaluations of all trials are compared, also after a resume; untrained models are not."""
        if record["step"] > 0:
            self._report_loss(round(record["step"] / self._config.train.evaluate_every), record["loss"])


def level_of(measure: Measure, references: Mapping[str, float]) -> float | None:
    """The loss that a study waits for, nats; None where it waits for none."""
    if measure.first_below is None or not references:
        return None
    return references[f"{measure.reference}_loss"] - measure.first_below


def train_trial(
    planned: Mapping[str, Any],
    *,
    directory: Path,
    threads: int,
    report_loss: Callable[[int, float], None] = lambda number, loss: None,
) -> Trial | None:
    """Train, or go on with, one trial; None where a signal stopped it: all is saved, and the next call goes on.

    A training that diverges, and one that an error of ours ends, is a result.

    Args:
        planned: `config`, `baseline` (the configuration that is scored with), `measure`, `run_name`, and what a Trial
            copies: `key`, `piece`, `seed`, `settings`, `begins`, `steps`.
        directory: the study's runs.
        threads: of the training.
        report_loss: told the number of each evaluation, from 1, and its held-out loss; what it raises ends the
            training.

    Raises:
        RunInUseError: another process trains it.
        Pruned: as `report_loss` raises it.
    """
    run = directory / planned["run_name"]
    config = _with_run(Config(**planned["config"]), directory, planned["run_name"], threads)
    base = Config(**planned["baseline"])
    status, message, result = "done", "", None
    try:
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
        scored = tokens
        if config.data != base.data:
            scored = open_tokens(base.data, base.tokenizer, base.model.vocab_size)
            if scored.tokenizer.fingerprint != tokens.tokenizer.fingerprint:
                raise ConfigError("data", got="settings that lead to another vocabulary", expected="the baseline's")
        batches = held_out_batches(scored.held_out, base, scored.tokenizer)

        def evaluate(model: MiniBERT) -> dict[str, Any]:
            return evaluate_masked_lm(model, batches).to_dict()

        watch = _Watch(config, Measure(**planned["measure"]), report_loss)
        result = pretrain(config, tokens=tokens, evaluate=evaluate, report=watch)
        if result.interrupted:
            return None
    except _Reached:
        pass
    except NonFiniteError as error:
        status, message = "diverged", str(error.got)
    except (RunInUseError, Pruned):
        raise
    except Exception as error:  # a piece that cannot be trained is a result, and not the end of the study
        status, message = "failed", f"{type(error).__name__}: {error}".replace(f"{directory}/", "")
    return _recorded(planned, run, config, status, message, result)


def _with_run(config: Config, directory: Path, name: str, threads: int) -> Config:
    run = {"directory": str(directory), "name": name, "threads": threads, "resume": "auto"}
    return config.model_copy(update={"run": config.run.model_copy(update=run)})


def _recorded(
    planned: Mapping[str, Any],
    run: Path,
    config: Config,
    status: str,
    message: str,
    result: PretrainResult | None,
) -> Trial:
    """What the run's own log says."""
    records = search_metrics(run / FILE_NAME).records if (run / FILE_NAME).is_file() else []
    train, held_out, starts = (
        [r for r in records if r.get("kind") == kind] for kind in ("train", "evaluation", "start")
    )
    start = starts[-1] if starts else {}
    references = start.get("references", {}) if config.tasks.masked_lm else {}  # other losses are not below these
    level = level_of(Measure(**planned["measure"]), references)
    scored = [(r["step"], r.get("loss")) for r in held_out]
    finite = [(loss, step) for step, loss in scored if step > 0 and loss is not None]
    best = min(finite, default=(None, None))
    last = held_out[-1] if result is not None and held_out and held_out[-1]["step"] == result.step else {}
    steps_done = result.step if result is not None else (train[-1]["step"] if train else 0)
    return Trial(
        **{name: planned[name] for name in ("key", "piece", "seed", "settings", "begins", "steps")},
        status=status if status != "done" or result is None or last.get("loss") is not None else "diverged",
        message=message,
        step=steps_done,
        loss=last.get("loss"),
        loss_interval=last.get("loss_interval"),
        accuracy=last.get("top1"),
        best_loss=best[0],
        best_step=best[1],
        first_below=None if level is None else _first_below(train, level),
        level=level,
        train_losses=thinned([(r["step"], r.get("loss")) for r in train]),
        held_out_losses=scored,
        skipped=sum(r.get("skipped") or 0 for r in train),
        parameters=start.get("forecast", {}).get("parameters"),
        seconds_per_step=seconds_per_step(train),
        peak_bytes=peak_bytes(),
        seconds=train[-1].get("seconds") or 0.0 if train else 0.0,
        threads=config.run.threads or 1,
        sha256=None if result is None else result.sha256,
        data_sha256=start.get("data_sha256"),
        environment={k: v for k, v in start.get("environment", {}).items() if k not in ("threads", "ranks")},
    )


def _first_below(train: Sequence[Mapping[str, Any]], level: float) -> int | None:
    return next((r["step"] for r in train if r.get("loss") is not None and r["loss"] < level), None)


def thinned(points: Sequence[tuple[int, float | None]], most: int = MOST_POINTS) -> list[tuple[int, float | None]]:
    """At most `most` points of a curve: neighbours become one, their mean at the last one's step.

    >>> thinned([(1, 4.0), (2, 2.0), (3, 1.0)], most=2)
    [(2, 3.0), (3, 1.0)]
    """
    each = -(-len(points) // most)
    curve: list[tuple[int, float | None]] = []
    for first in range(0, len(points), max(each, 1)):
        group = points[first : first + each]
        losses = [loss for _, loss in group if loss is not None]
        curve.append((group[-1][0], sum(losses) / len(losses) if losses else None))
    return curve
