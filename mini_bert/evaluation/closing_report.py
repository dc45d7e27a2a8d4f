"""What is said when a run ends, and kept in its folder as `result.json`: how good, how fast, how large, by example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.atomic_files import replace_file
from mini_bert.evaluation.cloze import held_out_clozes
from mini_bert.evaluation.projection import project, seconds_per_step
from mini_bert.evaluation.run import evaluate_run
from mini_bert.machine import peak_bytes
from mini_bert.training.memory import estimate_training_bytes
from mini_bert.training.metrics_log import read_metrics

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.data.work import Progress
    from mini_bert.training.report import PretrainResult

FILE_NAME = "result.json"
_SHOWN = 4
"""Guesses that are shown for each hidden word."""


def closing_report(
    result: PretrainResult,
    config: Config,
    tokens: TokenCorpus,
    in_flight: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate what `pretrain` returned, and set it beside the budgets; `keep_report` writes it into the run's folder.

    Args:
        result: of a run that came to its end in this process, whose peak memory is read as that of the training.
        config: the run's.
        tokens: what it was trained on.
        in_flight: shards that ran at once, from which its memory is estimated; None: no estimate.
        progress: told how far it is.

    Returns:
        Plain values for JSON; `mini_bert.reports.pages` draws them.
    """
    training_bytes = peak_bytes()
    evaluation = evaluate_run(result.model, config, tokens, progress=progress)
    projection = project(
        step_seconds=seconds_per_step(read_metrics(result.run / "metrics.jsonl")) or _mean_step_seconds(result),
        training_bytes=training_bytes,
        training_bytes_estimated=None if in_flight is None else estimate_training_bytes(config, in_flight),
        evaluation_seconds=evaluation["seconds"],
        evaluation_bytes=evaluation["peak_memory_bytes"],
    )
    lines = {line["name"]: line for line in evaluation["table"]}
    measured = {
        steps: {"accuracy": line["top1"], "perplexity": line["perplexity"]}
        for steps, line in {0: lines["untrained"], result.step: lines["model"]}.items()
    }
    return {
        "run": str(result.run),
        "checkpoint": str(result.checkpoint),
        "step": result.step,
        "sha256": result.sha256,
        "results": [evaluation, projection, {"kind": "progression", "measured": measured}],
        "clozes": [
            {**cloze._asdict(), "filled": [piece._asdict() for piece in result.model.fill_mask(cloze.text, _SHOWN)[0]]}
            for cloze in held_out_clozes(tokens, config)
        ],
    }


def keep_report(report: dict[str, Any], run: Path) -> None:
    """Write a closing report to `result.json` in the run's folder.

    Raises:
        StorageError: it could not be written.
    """
    replace_file(run / FILE_NAME, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())


def _mean_step_seconds(result: PretrainResult) -> float | None:
    """Of a run too short for a median."""
    return result.train["seconds"] / result.step if result.train.get("seconds") else None
