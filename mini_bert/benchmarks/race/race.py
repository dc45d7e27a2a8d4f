"""The race: measure the clock once, then let everybody train as many steps as their minutes hold.

How long a step takes is measured for all in turn, in one run on a quiet machine. What a training learns depends on its
steps alone, so the trainings themselves may run at any time, beside anything, and be stopped and gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mini_bert.benchmarks.duel import Contestant, alternate
from mini_bert.benchmarks.race.racers import CORPUS, RACERS, Racer
from mini_bert.benchmarks.race.result import Course, Machine, Point, RaceResult
from mini_bert.benchmarks.workload import Workload
from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.errors import DataError
from mini_bert.machine import available_cores, processor_name

FILE_NAME = "race.json"
_STEP_OF = {
    "mini-bert": "mini_bert.benchmarks.own_training:OwnTraining",
    "transformers": "mini_bert.benchmarks.race.transformers_training:TimedStep",
}
_MANY_STEPS = 10_000
"""For the clock: so that no schedule comes to its end."""

Told = Callable[[str], None]


def measure_clock(
    out: Path,
    racers: Sequence[Racer] = RACERS,
    *,
    corpus: str = CORPUS,
    threads: int | None = None,
    rounds: int = 12,
    steps: int = 8,
    overrides: dict[str, Any] | None = None,
    told: Told = lambda message: None,
) -> RaceResult:
    """Time a step of every racer in alternating blocks; writes `race.json` with everybody's number of steps.

    A racer whose recipe is the one of last time keeps its number of steps and its curve: a schedule is bound to them.

    Raises:
        DataError: a racer's process failed.
    """
    threads = threads or available_cores()
    configs = [racer.config(_MANY_STEPS, corpus, **(overrides or {})) for racer in racers]
    contestants = [
        Contestant(
            racer.name,
            racer.title,
            _STEP_OF[racer.library],
            {"config": config.to_dict()},
        )
        for racer, config in zip(racers, configs, strict=True)
    ]
    nothing = Workload("", configs[0].train.batch_size, configs[0].model.max_position_embeddings, 1, 0, 0.0, {}, "")
    contest = alternate(contestants, nothing, threads=threads, warm_up=4, rounds=rounds, steps=steps, report=told)
    for entry in contest.entries:
        if entry.failure:
            raise DataError(entry.name, got=entry.failure, expected="a step of training")
    before = RaceResult.read(out / FILE_NAME) if (out / FILE_NAME).exists() else None
    known = {course.name: course for course in before.courses} if before else {}
    usual = load_config(["training/pretraining"]).to_dict()
    courses = []
    for racer, config, entry in zip(racers, configs, contest.entries, strict=True):
        recipe = (racer.minutes, settings := _settings(usual, config))
        old = known.get(racer.name)
        old = old if old and (old.minutes, old.settings) == recipe else None
        courses.append(
            Course(
                name=racer.name,
                title=racer.title,
                library=racer.library,
                minutes=racer.minutes,
                step_seconds=entry.seconds,
                steps=old.steps if old else max(1, round(60.0 * racer.minutes / median(entry.seconds))),
                settings=settings,
                curve=old.curve if old else [],
            )
        )
    first = configs[0]
    result = RaceResult(
        corpus=corpus,
        held_out_rows=first.data.held_out_rows,
        rows=first.train.batch_size,
        tokens=first.model.max_position_embeddings,
        machine=Machine(
            threads=threads,
            processor=processor_name(),
            facts={entry.name: entry.facts for entry in contest.entries},
        ),
        courses=courses,
    )
    result.write(out / FILE_NAME)
    return result


def run_race(
    out: Path,
    runs: Path,
    racers: Sequence[Racer] = RACERS,
    *,
    only: Sequence[str] = (),
    threads: int | None = None,
    overrides: dict[str, Any] | None = None,
    told: Told = lambda message: None,
) -> RaceResult:
    """Take every racer (or those in `only`) to its last step, from where it was stopped; `race.json` grows with them.

    Raises:
        DataError: the clock has not been measured.
        InterruptedError: a training was stopped by a signal; all is saved.
    """
    result = RaceResult.read(out / FILE_NAME)
    for racer in racers:
        if only and racer.name not in only:
            continue
        steps = result.course(racer.name).steps
        config = racer.config(steps, result.corpus, **{**(overrides or {}), "run.threads": threads})
        train = _transformers if racer.library == "transformers" else _ours
        curve = train(runs / racer.name, config, threads or available_cores(), told)
        result = RaceResult.read(out / FILE_NAME)
        courses = [
            course.model_copy(update={"curve": curve}) if course.name == racer.name else course
            for course in result.courses
        ]
        result = result.model_copy(update={"courses": courses})
        result.write(out / FILE_NAME)
    return result


def _transformers(folder: Path, config: Config, threads: int, told: Told) -> list[Point]:
    from mini_bert.benchmarks.race.transformers_training import train
    from mini_bert.data.tokens import open_tokens

    def say(record: dict[str, Any]) -> None:
        told(f"{folder.name}: step {record['step']:,} of {config.train.steps:,}, held-out loss {record['loss']:.3f}")

    tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
    curve = train(folder, config, tokens, threads=threads, told=say)
    records = map(json.loads, curve.read_text(encoding="utf-8").splitlines())
    return [Point(step=r["step"], loss=r["loss"], interval=r["interval"]) for r in records]


def _ours(folder: Path, config: Config, threads: int, told: Told) -> list[Point]:
    from mini_bert.data.batches import held_out_batches
    from mini_bert.data.tokens import open_tokens
    from mini_bert.evaluation.masked_lm import evaluate_masked_lm
    from mini_bert.training.checkpoint_folders import checkpoints
    from mini_bert.training.metrics_log import read_metrics
    from mini_bert.training.pretrain import pretrain

    resume = "auto" if checkpoints(folder) else None
    settings = {"name": folder.name, "directory": str(folder.parent), "threads": threads, "resume": resume}
    config = config.model_copy(update={"run": config.run.model_copy(update=settings)})
    tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
    batches = held_out_batches(tokens.held_out, config, tokens.tokenizer)

    def evaluate(model: Any) -> dict[str, Any]:
        measured = evaluate_masked_lm(model, batches).to_dict()
        told(f"{folder.name}: held-out loss {measured['loss']:.3f}")
        return measured

    result = pretrain(config, tokens=tokens, evaluate=evaluate)
    if result.interrupted:
        raise InterruptedError(f"stopped after step {result.step:,} of {result.steps:,}; all is saved")
    records = [r for r in read_metrics(result.run / "metrics.jsonl") if r["kind"] == "evaluation" and r["step"] > 0]
    return [Point(step=r["step"], loss=r["loss"], interval=r["loss_interval"]) for r in records]


def _settings(usual: dict[str, Any], config: Config) -> dict[str, Any]:
    """What a recipe changes; not where and how often it is watched."""
    watched = {"train.minutes", "train.steps", "train.save_every", "train.evaluate_every", "data.corpus"}
    here = config.to_dict()
    return {
        f"{section}.{name}": value
        for section, values in here.items()
        for name, value in values.items()
        if value != usual[section][name] and f"{section}.{name}" not in watched and section != "run"
    }
