"""Which part of a run is not what it was, after a resume: rows, masks, dropout, moments, count, rate? By name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mini_bert.config.load import load_config
from mini_bert.training import loop
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report

STEPS, STOP = 6, 3

Steps = dict[int, dict[str, Any]]
"""Step → part → what it was in that step."""


class Stop(Report):
    """Sends a signal to this process when a step is done."""

    def ticked(self, result: Any) -> None:
        if result.step == STOP:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def runs(corpus: Path, tokens: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    """The steps of a run, and those of the same run stopped after its third and resumed."""
    seen: list[dict[str, Any]] = []
    step, gradients = loop.training_step, ShardPool.gradients

    def watched_step(state: Any, batch: Any, *rest: Any) -> Any:
        ids = batch.input_ids.copy()
        ids.ravel()[batch.masked_positions] = batch.target_ids
        seen.append(
            {
                "rows": ids.tolist(),
                "masks": batch.masked_positions.tolist(),
                "count": state.step,
                "first moments": state.optimizer["m"].tolist(),
                "second moments": state.optimizer["v"].tolist(),
                "parameters": state.model.parameters.buffer.tolist(),
            }
        )
        result = step(state, batch, *rest)
        seen[-1]["rate"] = result.lr
        return result

    def watched_gradients(self: Any, model: Any, batch: Any, dropout: Any = None, **options: Any) -> Any:
        if seen and "rate" not in seen[-1]:  # within a step: gradients are also computed to time them
            seen[-1]["dropout"] = tuple(dropout)
        return gradients(self, model, batch, dropout, **options)

    def run(name: str, report: Report, resume: str | None = None) -> None:
        settings = {
            "data.corpus": [f"{corpus}/*.txt"],
            "model.vocab_size": 96,
            "model.hidden_dropout_prob": 0.1,
            "train.steps": STEPS,
            "train.save_every": 100,
            "run.directory": str(folder),
            "run.name": name,
            "run.threads": 1,
            "run.resume": resume,
        }
        pretrain(load_config(["training/debugging"], settings), tokens=tokens, report=report)

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_step", watched_step)
        patch.setattr(ShardPool, "gradients", watched_gradients)
        run("whole", Report())
        whole, seen[:] = list(seen), []
        run("parts", Stop())
        run("parts", Report(), resume="auto")
    return whole, seen


@pytest.mark.parametrize(
    "part", ["rows", "masks", "dropout", "first moments", "second moments", "parameters", "count", "rate"]
)
def test_a_resumed_run_goes_on_with_the_same(runs: tuple[list[Any], list[Any]], part: str) -> None:
    whole, resumed = runs
    assert len(whole) == STEPS
    for step in range(STOP, STEPS):
        assert resumed[step][part] == whole[step][part], f"{part} of step {step + 1}, after a resume at {STOP}"
