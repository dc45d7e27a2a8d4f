"""Do bad numbers, bad batches and bad rates do lasting harm to a training? Whole ones are made to have them (R13)."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.data.tokens import open_tokens
from mini_bert.errors import NonFiniteError
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import PretrainResult, Report
from mini_bert.training.step import StepResult
from mini_bert.verification.reliability import faults
from mini_bert.verification.reliability.bad_numbers import bad_numbers
from mini_bert.verification.reliability.faults import Fault
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import SETTINGS, write_corpus


class _Watcher(Report):
    """Stops at a step, switches a fault on and off between steps, and keeps what was said."""

    def __init__(self, stop_at: int | None = None, before_step: Callable[[int], None] = lambda step: None) -> None:
        self.stop_at, self._before_step = stop_at, before_step
        self.results: list[StepResult] = []
        self.warnings: list[str] = []

    def ticked(self, result: StepResult) -> None:
        self.results.append(result)
        self._before_step(result.step + 1)
        if result.step == self.stop_at:
            self.stop_at = None
            os.kill(os.getpid(), signal.SIGTERM)

    def warned(self, message: str) -> None:
        self.warnings.append(message)


class _Runs:
    """Trainings of `steps` steps of 16 rows over a made-up corpus, in this process."""

    def __init__(self, folder: Path, steps: int, **settings: Any) -> None:
        self._folder = folder
        self._settings = {
            **SETTINGS,
            "data.corpus": [str(folder / "corpus" / "*.txt")],
            "run.directory": str(folder / "runs"),
            "train.steps": steps,
            "train.batch_size": 16,
            "train.lr": 3e-3,
            "train.save_every": 10,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        write_corpus(folder / "corpus", documents=200)
        config = self._config("")
        with mock.patch.dict(os.environ, {"MINI_BERT_CACHE": str(folder / "cache")}):
            self._tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)

    def _config(self, name: str, resume: str | None = None) -> Config:
        return load_config(["training/debugging"], {**self._settings, "run.name": name or None, "run.resume": resume})

    def train(self, name: str, watcher: _Watcher | None = None, resume: str | None = None) -> PretrainResult:
        return pretrain(self._config(name, resume), tokens=self._tokens, report=watcher or _Watcher())

    def path(self, name: str) -> Path:
        return self._folder / "runs" / name


def five_in_a_row(scale: Scale, folder: Path) -> Outcome:
    """From step k on every pass has a NaN: the run ends, and a clean one goes on from what it saved."""
    outcome, runs = Outcome(), _Runs(folder, steps=24)
    clean = _Watcher()
    expected = runs.train("clean", clean).sha256
    names = ("layer_0.attention.scores", "layer_1.output", "logits", "embeddings.sum")
    trials = [
        (names[n % len(names)], ("forward", "backward")[n % 2], k) for n, k in enumerate((1, 2, 10, 11, 15, 19, 3, 18))
    ]
    trials = trials[: scale.of(full=len(trials), quick=2)]
    for number, (name, direction, step) in enumerate(trials, 1):
        fault = Fault(name, direction, math.nan, 3, 0.5, 1, active=step == 1)
        watcher = _Watcher(before_step=lambda now, f=fault, k=step: setattr(f, "active", now >= k))
        run, error = f"bad-{number}", None
        with faults.in_intermediate(fault):
            try:
                runs.train(run, watcher)
            except NonFiniteError as raised:
                error = str(raised)
        wrong = []
        if error is None or name not in error or len(watcher.results) != step + 4:
            wrong.append(f"ended after {len(watcher.results)} steps with {error!r}")
        told = runs.path(run) / f"incident-{step + 4}.json"
        if (
            not told.is_file()
            or [s["found"] is None for s in json.loads(told.read_text())["steps"][-5:]] != [False] * 5
        ):
            wrong.append("no incident that tells of five findings")
        again = _Watcher()
        result = runs.train(run, again, resume="auto")
        if [again.results[0].step, again.results[0].loss] != [step, clean.results[step - 1].loss]:
            wrong.append(f"went on at step {again.results[0].step} with a loss of {again.results[0].loss}")
        if result.sha256 != expected:
            wrong.append("ended with other bits than a run without a fault")
        outcome.count(not wrong, f"NaN {direction} in {name} from step {step} on: {'; '.join(wrong)}")
        scale.told(number, len(trials))
    return outcome


def spikes(scale: Scale, folder: Path) -> Outcome:
    """A corrupted batch, or a rate 100 times too high for five steps: told when the loss shows it; nothing breaks."""
    outcome, runs = Outcome(), _Runs(folder, steps=70)
    clean = _Watcher()
    end = _end(runs.train("clean", clean), clean)
    outcome.count(not clean.warnings, f"false alarms without a fault: {clean.warnings}")
    cases = [(kind, step) for step in (23, 31, 40, 52) for kind in ("batch", "rate")][: scale.of(full=8, quick=2)]
    for number, (kind, step) in enumerate(cases, 1):
        watcher = _Watcher()
        with faults.in_batches(lambda n, k=step: n == k - 1) if kind == "batch" else _rate(step, 5, 100.0):
            got = _end(runs.train(f"{kind}-{step}", watcher), watcher)
        jump = step if kind == "batch" else _first_jump(watcher.results)
        told = [int(warning.split("step ")[1].split()[0]) for warning in watcher.warnings]
        finite = all(math.isfinite(result.loss) or result.skipped for result in watcher.results)
        outcome.count(
            finite and bool(told) and step <= told[0] <= jump and (kind == "rate" or got < end + 0.15),
            f"{kind} at step {step}: told at {told}, the loss jumped at {jump}; ended at {got:.3f} nats, not {end:.3f}",
        )
        outcome.measured[f"nats_above_clean_{kind}_{step}"] = round(got - end, 4)
        scale.told(number, len(cases))
    return outcome


def _first_jump(results: list[StepResult]) -> int:
    """The first step whose loss is a nat above the mean of the ten before."""
    losses = [result.loss for result in results]
    return next(results[i].step for i in range(10, len(losses)) if losses[i] > np.mean(losses[i - 10 : i]) + 1.0)


def rollback(scale: Scale, folder: Path) -> Outcome:
    """A stretch of corrupted batches: the run goes back, does not meet it again, and ends as well as a clean one."""
    outcome, runs = Outcome(), _Runs(folder, steps=70, health__spike="roll-back")
    clean = _Watcher()
    end = _end(runs.train("clean", clean), clean)
    stretches = [(23, 1), (31, 5), (40, 10), (47, 2), (29, 15), (55, 3)][: scale.of(full=6, quick=1)]
    for number, (first, length) in enumerate(stretches, 1):
        watcher = _Watcher()
        with faults.in_batches(lambda n, a=first, z=first + length: a <= n < z) as asked:
            got = _end(runs.train(f"from-{first}", watcher), watcher)
        met = [n for n in asked if first <= n < first + length]
        steps = [result.step for result in watcher.results]
        back = 1 + first - steps[steps.index(first + 1) + 1] if steps.count(first + 1) else 0
        outcome.count(
            met == [first] and steps[-1] == 70 and got < end + 0.15 and 0 <= back < 10,
            f"corrupted from batch {first} on: met {met}, went back {back}, ended at {got:.3f} nats, not {end:.3f}",
        )
        outcome.measured[f"nats_above_clean_{length}_batches"] = round(got - end, 4)
        scale.told(number, len(stretches))
    return outcome


def rollback_and_resume(scale: Scale, folder: Path) -> Outcome:
    """A run that goes back is stopped at any step, before, at or after, once or three times, and resumed: same bits."""
    outcome, runs = Outcome(), _Runs(folder, steps=40, health__spike="roll-back")
    with faults.in_batches(lambda n: 26 <= n < 30):
        whole = _Watcher()
        expected = runs.train("whole", whole).sha256
        outcome.count(len(whole.results) == 47, f"the run took {len(whole.results)} steps, not 40 and 7 again")
        stops = [(k,) for k in (27, 21, 20, 26, 22, *range(1, 20), 23, 24, 25, *range(28, 40))]
        stops = [*stops[:2], (21, 23, 25), *stops[2:], (11, 12, 13), (21, 22, 23, 24, 25, 26, 28)]
        stops = stops[: scale.of(full=len(stops), quick=3)]
        for number, at in enumerate(stops, 1):
            name = f"stopped-{number}"
            runs.train(name, _Watcher(stop_at=at[0]))
            for later in at[1:]:
                runs.train(name, _Watcher(stop_at=later), resume="auto")
            got = runs.train(name, resume="auto").sha256
            outcome.count(got == expected, f"stopped after the steps {at}: {got[:8]} instead of {expected[:8]}")
            scale.told(number, len(stops))
    return outcome


def _end(result: PretrainResult, watcher: _Watcher) -> float:
    """The mean loss of the last ten steps, nats."""
    assert result.step == result.steps
    return float(np.mean([step.loss for step in watcher.results[-10:]]))


@contextmanager
def _rate(first: int, steps: int, factor: float) -> Iterator[None]:
    """The learning rate of so many steps, times `factor`."""
    from mini_bert.training import step as step_module

    ordinary = step_module.learning_rate

    def learning_rate(now: int, **settings: Any) -> float:
        return ordinary(now, **settings) * (factor if first <= now < first + steps else 1.0)

    with mock.patch.object(step_module, "learning_rate", learning_rate):
        yield


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "R13",
        "NaN or infinity in each intermediate, gradient, parameter and loss",
        "found at that step, under its name and rows; update skipped, no bit changed, counted; the next step goes on",
        bad_numbers,
    ),
    Experiment(
        "R13",
        "a NaN in every step from one on",
        "the run ends after five, tells what happened, and a clean run goes on from what it saved to the same bits",
        five_in_a_row,
    ),
    Experiment(
        "R13",
        "a corrupted batch, and a learning rate × 100 for five steps",
        "told at the step whose loss shows it; nothing that is not finite gets in; the run ends as well as without",
        spikes,
    ),
    Experiment(
        "R13",
        "stretches of corrupted batches with rollback",
        "the run goes back once, meets none of them again and ends as well as without",
        rollback,
    ),
    Experiment(
        "R13",
        "a run with a rollback, stopped anywhere and resumed",
        "the same model and optimiser, to the bit, as without a stop",
        rollback_and_resume,
    ),
)
