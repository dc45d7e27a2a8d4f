"""R19: does a long training need no more memory than a short one, and no more than was said before it began?

Beyond the promise: what cannot fit is refused before it is begun, and memory that runs out costs time, not the run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from mini_bert.config.load import load_config
from mini_bert.text.pieces import CONTINUATION, SPECIALS
from mini_bert.training.memory import estimate_training_bytes
from mini_bert.verification.reliability import memory_subject
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import write_corpus

GROWTH, ERROR = 0.01, 0.15
LARGEST_WHEN_REFUSED = 100_000_000
"""Bytes: interpreter, NumPy and the other libraries, and nothing of the training."""

VOCABULARIES = (512, 8192, 32768)

GRID: tuple[Mapping[str, Any], ...] = tuple(
    {"model": model, "batch": batch, "in_flight": in_flight, "dropout": dropout, "T": T}
    for model, batch, in_flight, dropout, T in (
        ("debug", 64, 2, 0, 32),
        ("tiny", 16, 1, 0, 64),
        ("debug", 16, 1, 0, 32),
        ("debug", 256, 2, 0.1, 64),
        ("tiny", 64, 2, 0, 64),
        ("tiny", 64, 1, 0.1, 128),
        ("tiny", 256, 2, 0.1, 64),
        ("small", 16, 2, 0, 64),
        ("small", 64, 1, 0, 64),
        ("small", 64, 2, 0, 128),
        ("small", 256, 2, 0, 64),
        ("base", 16, 1, 0, 64),
        ("base", 64, 1, 0, 64),
        ("base", 64, 2, 0, 64),
        ("base", 64, 2, 0.1, 64),
        ("base", 64, 2, 0, 128),
        ("base", 256, 1, 0, 64),
        ("base", 256, 2, 0.1, 64),
        ("large", 16, 1, 0, 64),
        ("large", 64, 2, 0, 64),
        ("large", 64, 2, 0.1, 128),
    )
)
"""Trainings whose peak is measured; the first two are the quick ones."""

LONG: tuple[Mapping[str, Any], ...] = (
    {"preset": "model/debug", "train.batch_size": 8},
    {"preset": "model/debug", "train.batch_size": 8, "dropout": 0.1, "every": 50},
    {"preset": "model/base", "train.batch_size": 8},
    {"preset": "model/base", "train.batch_size": 8, "dropout": 0.1, "every": 50},
)
"""Trainings of 500 steps; `every` so many steps they are evaluated and saved."""

STARVED: Mapping[str, Any] = {
    "model.vocab_size": 32768,
    "model.max_position_embeddings": 64,
    "train.batch_size": 64,
    "train.steps": 3,
    "train.evaluate_every": 100,
    "train.save_every": 100,
    "evaluation.batch_size": 4,
    "run.threads": 4,
}
"""A training that is nearly all logits: a shard needs 60 MB and a tenth of a second."""

TOO_LARGE: tuple[Mapping[str, Any], ...] = (
    {"model.hidden_size": 16384, "model.num_hidden_layers": 100, "model.intermediate_size": 65536},
    {"model.vocab_size": 1048576, "model.hidden_size": 65536},
    {"train.batch_size": 50_000_000},
    {"model.max_position_embeddings": 65536, "train.batch_size": 4096},
)
"""What no machine has the memory for: a model of parameters, one of tables, a batch, rows."""


class Ended(NamedTuple):
    """How `mini-bert` ended."""

    code: int
    errors: str
    peak_bytes: int
    """Its largest resident size."""


def long_trainings(scale: Scale, folder: Path) -> Outcome:
    """500 steps: the resident size over the 50 behind step 50 and over the last 50.

    An evaluation gives memory back and the steps after it take it again, so the size is a saw whose teeth are 50 steps
    long: a median over each tells growth from teeth.
    """
    outcome, steps = Outcome(), scale.of(full=500, quick=150)
    cases = LONG[1:2] if scale.quick else LONG
    forecasts: list[float] = []
    _write_texts(folder)
    for number, case in enumerate(cases):
        every = case.get("every", 10 * steps)
        settings = {
            "train.steps": steps,
            "train.batch_size": case["train.batch_size"],
            "train.evaluate_every": every,
            "train.save_every": every,
            **_dropout(case.get("dropout", 0)),
        }
        result = _watched(folder, f"long-{number}", case["preset"], settings)
        early, late = median(result["resident"][50:100]), median(result["resident"][-50:])
        growth = max(0.0, late / early - 1)
        outcome.count(growth < GROWTH, f"{dict(case)}: from {early:,.0f} to {late:,.0f} bytes, {growth:.2%}")
        outcome.measured["largest_growth"] = max(outcome.measured.get("largest_growth", 0.0), round(growth, 5))
        forecasts.append(round(result["seconds_forecast"] / result["seconds"], 2))
        outcome.measured["forecast_over_seconds"] = [min(forecasts), max(forecasts)]
        scale.told(number + 1, len(cases))
    return outcome


def estimates(scale: Scale, folder: Path) -> Outcome:
    """`mini-bert pretrain` over models, batches, shards in flight, dropout and lengths of rows."""
    outcome, cells = Outcome(), GRID[: scale.of(full=len(GRID), quick=2)]
    _write_texts(folder)
    ratios: dict[str, list[float]] = {"printed": [], "from_shapes": []}
    for number, cell in enumerate(cells):
        settings = {
            "train.steps": 3,
            "train.batch_size": cell["batch"],
            "train.in_flight": cell["in_flight"],
            "train.evaluate_every": 2,
            "train.save_every": 2,
            "model.max_position_embeddings": cell["T"],
            **_dropout(cell["dropout"]),
        }
        done = _pretrain(folder, f"cell-{number}", f"model/{cell['model']}", settings)
        if done.code:
            outcome.count(False, f"{dict(cell)}: {done.errors[-300:]}")
            continue
        run = folder / "runs" / f"cell-{number}"
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        printed = next(record["forecast"]["memory_bytes"] for record in records if record["kind"] == "start")
        results = json.loads((run / "result.json").read_text(encoding="utf-8"))["results"]
        budgets = next(result["budgets"] for result in results if result["kind"] == "projection")
        peak = next(line["value"] for line in budgets if line["name"] == "memory of training")
        from_shapes = estimate_training_bytes(load_config([str(run / "config.yaml")]), cell["in_flight"])
        for name, estimate in (("printed", printed), ("from_shapes", from_shapes)):
            ratios[name].append(round(estimate / peak, 3))
            right = abs(estimate / peak - 1) < ERROR
            outcome.count(right, f"{dict(cell)}: {name} {estimate:,} bytes, measured {peak:,}: {estimate / peak:.3f}")
        scale.told(number + 1, len(cells))
    outcome.measured = {f"{name}_over_measured": [min(r), max(r)] for name, r in ratios.items() if r}
    return outcome


def starving(scale: Scale, folder: Path) -> Outcome:
    """A limit on the address space under which not four shards at once fit but two: later, and from the start."""
    outcome = Outcome()
    _write_texts(folder)

    def train(name: str, in_flight: int | str, **order: Any) -> dict[str, Any]:
        return _watched(folder, name, "model/debug", {**STARVED, "train.in_flight": in_flight}, **order)

    whole, half = train("four", 4), train("two", 2)
    limit = (whole["address_space"] + half["address_space"]) // 2
    starved = train("starved", 4, limit=limit)
    said = [warning for warning in starved["warnings"] if "Memory ran out" in warning]
    outcome.count(bool(said), f"with {limit:,} bytes of addresses nothing was said of memory: {starved['warnings']}")
    outcome.count(starved["sha256"] == whole["sha256"], "the starved run ended with other bits")
    outcome.count(half["sha256"] == whole["sha256"], "two shards in flight gave other bits than four")
    chosen = train("chosen", "auto", room_for=2)
    outcome.count(chosen["in_flight"] < 4, f"`auto` chose {chosen['in_flight']} shards where two fit")
    outcome.count(chosen["sha256"] == whole["sha256"], "the shards that `auto` chose gave other bits")
    outcome.measured = {"in_flight_chosen": chosen["in_flight"], "halvings": len(said)}
    return outcome


def refusals(scale: Scale, folder: Path) -> Outcome:
    """What no machine can hold; then a batch that a limit of 400 MB cannot, and the change that the refusal advises."""
    outcome = Outcome()
    _write_texts(folder)
    for number, settings in enumerate(TOO_LARGE):
        done = _pretrain(folder, f"large-{number}", "model/debug", settings)
        outcome.count(
            done.code == 2 and "at most" in done.errors and done.peak_bytes < LARGEST_WHEN_REFUSED,
            f"{dict(settings)}: exit code {done.code}, {done.peak_bytes:,} bytes: {done.errors[-300:]}",
        )
        largest = max(outcome.measured.get("resident_bytes_when_refused", 0), done.peak_bytes)
        outcome.measured["resident_bytes_when_refused"] = largest
    limit = 400_000_000
    settings = {"train.batch_size": 4096, "train.shards": 1, "train.steps": 1, "data.held_out_rows": 16}
    refused = _pretrain(folder, "limited", "model/debug", settings, limit=limit)
    advised = re.search(r"with ((--\S+ \d+ ?)+)", refused.errors.replace("\n", " "))
    outcome.count(refused.code == 2 and advised is not None, f"under 400 MB: {refused.code}: {refused.errors[-300:]}")
    if advised:
        words = advised[1].split()
        accepted = _pretrain(folder, "advised", "model/debug", settings, *words, limit=limit)
        outcome.count(accepted.code == 0, f"the advice {words} led to {accepted.code}: {accepted.errors[-300:]}")
    return outcome


def _dropout(p: float) -> dict[str, float]:
    return {"model.hidden_dropout_prob": p, "model.attention_probs_dropout_prob": p}


def _pretrain(
    folder: Path, name: str, preset: str, settings: Mapping[str, Any], *words: str, limit: int | None = None
) -> Ended:
    """`mini-bert pretrain` in a process of its own, its address space limited to `limit` bytes."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(_sections(_settings(folder, name, preset, settings))), encoding="utf-8")  # JSON is YAML
    words = ("pretrain", "--config", preset, "--config", str(file), *words)
    done = _subject(folder, {"command": words, "limit": limit})
    result = _last_json(done.stdout)
    return Ended(result.get("code", done.returncode), done.stderr, result.get("peak_bytes", 0))


def _watched(folder: Path, name: str, preset: str, settings: Mapping[str, Any], **order: Any) -> dict[str, Any]:
    """What a training in a process of its own has noted."""
    order |= {"presets": ["training/pretraining", preset], "settings": _settings(folder, name, preset, settings)}
    done = _subject(folder, order)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-500:]}")
    return _last_json(done.stdout)


def _subject(folder: Path, order: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", memory_subject.__name__, json.dumps(order)],
        env={**os.environ, "MINI_BERT_CACHE": str(folder / "cache"), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _last_json(output: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1])) if lines else {}


def _write_texts(folder: Path) -> None:
    """Documents, and a vocabulary for each size of model: letters, and words that never occur."""
    write_corpus(folder / "corpus", words=150)
    letters = "abcdefghijklmnopqrstuvwxyz."
    pieces = [*SPECIALS, *letters, *(f"{CONTINUATION}{letter}" for letter in letters)]
    for size in VOCABULARIES:
        words = [f"word{number:06}" for number in range(size - len(pieces))]
        (folder / f"vocabulary-{size}.txt").write_text("\n".join([*pieces, *words, ""]), encoding="utf-8")


def _settings(folder: Path, name: str, preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    size = settings.get("model.vocab_size", 512 if preset == "model/debug" else 8192)
    vocabulary = {"tokenizer.vocab_file": str(folder / f"vocabulary-{size}.txt")} if size in VOCABULARIES else {}
    return {
        "data.corpus": [str(folder / "corpus" / "*.txt")],
        "data.held_out_fraction": 0.3,  # enough rows for a whole batch of the evaluation
        "run.directory": str(folder / "runs"),
        "run.name": name,
        "run.threads": 2,
        **vocabulary,
        **settings,
    }


def _sections(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, field = name.split(".")
        sections.setdefault(section, {})[field] = value
    return sections


EXPERIMENTS = (
    Experiment(
        "R19",
        "500 steps, with and without evaluating and saving",
        "resident memory grows by less than 1 % after step 50",
        long_trainings,
    ),
    Experiment(
        "R19",
        "`pretrain` over models, batches, shards in flight, dropout, lengths",
        "the printed memory, and that from shapes alone, are within 15 % of the measured peak",
        estimates,
    ),
    Experiment(
        "R19",
        "memory runs out in the middle; too little of it from the start",
        "fewer shards run at once, and the end is the same bytes",
        starving,
    ),
    Experiment(
        "R19",
        "trainings that cannot fit",
        "refused with under 100 MB taken; the change that is advised fits",
        refusals,
    ),
)
