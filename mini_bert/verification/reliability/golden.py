"""Does what older versions wrote still load, and are random numbers still the same? (R24)

    python -m mini_bert.verification.reliability.golden --write     only on purpose: it makes what is compared with

`tests/golden/format-<n>/` holds a run that was stopped, as the first version that wrote format n left it, and the
losses of the steps that come next. `tests/golden/streams.json` holds numbers of the random streams, of the order of
rows, of masking and of dropout, for some seeds. A new NumPy that changed any of them would be noticed here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mini_bert.atomic_files import replace_file
from mini_bert.interop.manifest import FORMAT_VERSION
from mini_bert.random_streams import RandomStream
from mini_bert.training.checkpoint import load_checkpoint, model_and_optimizer_sha256
from mini_bert.training.checkpoint_folders import checkpoints
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import SETTINGS, write_corpus

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden"
LOSS_TOLERANCE = 1e-4
"""Nats; other processors and other BLAS libraries round otherwise."""

_STOPPED_AT = 5
_STEPS = 9
_RUN: dict[str, Any] = {
    **SETTINGS,
    "model.hidden_size": 8,
    "model.num_hidden_layers": 1,
    "model.num_attention_heads": 2,
    "model.intermediate_size": 12,
    "model.max_position_embeddings": 16,
    "model.hidden_dropout_prob": 0.1,
    "model.attention_probs_dropout_prob": 0.1,
    "data.corpus": ["corpus/*.txt"],
    "run.directory": "runs",
    "run.name": "golden",
    "train.steps": _STEPS,
    "train.save_every": _STOPPED_AT,
}


def old_checkpoints(scale: Scale, folder: Path, golden: Path = GOLDEN) -> Outcome:
    """Load a checkpoint of every released format, go on with its run, and compare the next losses."""
    outcome = Outcome()
    formats = sorted(golden.glob("format-*"))
    for number, kept in enumerate(formats):
        expected = json.loads((kept / "expected.json").read_text(encoding="utf-8"))
        (checkpoint,) = checkpoints(kept / "run")
        restored = load_checkpoint(checkpoint)
        same = model_and_optimizer_sha256(restored.state) == expected["sha256"]
        outcome.count(same and restored.state.step == expected["step"], f"{kept.name}: other numbers are loaded")
        again = _train(folder / kept.name, begun=kept / "run")
        for (step, loss), (_, before) in zip(again, expected["losses"], strict=False):
            near = abs(loss - before) <= (LOSS_TOLERANCE if step > _STOPPED_AT else 0.0)
            outcome.count(near, f"{kept.name}: the loss of step {step} is {loss} and was {before}")
        steps = [step for step, _ in again]
        outcome.count(steps == list(range(1, _STEPS + 1)), f"{kept.name}: steps {steps} are in the log")
        scale.told(number + 1, len(formats))
    outcome.count(f"format-{FORMAT_VERSION}" in {kept.name for kept in formats}, "the present format is not kept")
    outcome.measured = {"formats": len(formats)}
    return outcome


def random_numbers(scale: Scale, folder: Path, golden: Path = GOLDEN) -> Outcome:
    """Draw again what was drawn once: raw words, order of rows, masks, dropped elements."""
    outcome, kept = Outcome(), json.loads((golden / "streams.json").read_text(encoding="utf-8"))
    drawn = json.loads(json.dumps(streams()))
    for name in sorted({*kept, *drawn}):
        outcome.count(kept.get(name) == drawn.get(name), f"{name}: other numbers than before")
    outcome.measured = {"numbers": sum(np.size(numbers) for numbers in kept.values())}
    scale.told(1, 1)
    return outcome


def streams() -> dict[str, list[Any]]:
    """Name → numbers that must never change; 64-bit words in hexadecimal."""
    from mini_bert.data.masking import mask_tokens
    from mini_bert.data.order import sample_numbers, visited_rows
    from mini_bert.ops import dropout

    found: dict[str, list[Any]] = {}
    for seed, name, step in ((0, "dropout", 1), (1, "masking", 7), (2**64 - 1, "µ/ü", 2**40)):
        stream, called = RandomStream(seed, name, step), f"({seed}, {name}, {step})"
        found[f"words {called}"] = [f"{word:016x}" for word in stream.words(3, 3).tolist()]
        found[f"lanes {called}"] = stream.at("site").lanes(2, 2, 5).tolist()
        found[f"integers {called}"] = stream.integers(1000, 3, 3, first_row=1).tolist()
        found[f"uniform {called}"] = [number.hex() for number in stream.uniform(2, 2).ravel().tolist()]
    for rows in (1, 6, 1000):
        some = np.arange(min(rows, 12))
        found[f"order of {rows} rows"] = [sample_numbers(rows, 4, epoch, some).tolist() for epoch in (0, 1)]
    found["order of two corpora"] = visited_rows([5, 4], [1.0, 1.5], 4, 2, np.arange(11)).tolist()
    ids = (np.arange(60).reshape(3, 20) * 7) % 40
    found["masking"] = [part.astype(int).tolist() for part in mask_tokens(ids, 40, 4, 0.3, seed=9)]
    kept, _ = dropout.forward(np.ones((4, 6)), p=0.25, stream=RandomStream(3, "dropout", 2), first_row=5)
    found["dropout"] = (kept != 0).astype(int).tolist()
    return found


def write(golden: Path) -> None:
    """Keep the numbers of today's streams, and a run in today's format where none of that format is kept."""
    text = json.dumps(streams(), indent=None, separators=(",", ": ")).replace('],"', '],\n"')
    golden.mkdir(parents=True, exist_ok=True)
    replace_file(golden / "streams.json", text.encode() + b"\n")
    kept = golden / f"format-{FORMAT_VERSION}"
    if kept.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        losses = _train(Path(folder) / "whole")
        _train(Path(folder) / "stopped", stop_at=_STOPPED_AT)
        run = Path(folder) / "stopped" / "runs" / "golden"
        shutil.copytree(run / "checkpoints", kept / "run" / "checkpoints")
        for name in ("config.yaml", "metrics.jsonl", "latest"):
            shutil.copy(run / name, kept / "run")
    (checkpoint,) = checkpoints(kept / "run")
    digest = model_and_optimizer_sha256(load_checkpoint(checkpoint).state)
    expected = {"step": _STOPPED_AT, "sha256": digest, "losses": losses}
    replace_file(kept / "expected.json", (json.dumps(expected) + "\n").encode())


def _train(folder: Path, begun: Path | None = None, stop_at: int | None = None) -> list[tuple[int, float]]:
    """Train in `folder`, or go on there with a copy of the run `begun`; returns step and loss of the whole log."""
    from mini_bert.config.load import load_config
    from mini_bert.training.metrics_log import read_metrics
    from mini_bert.training.pretrain import pretrain
    from mini_bert.training.report import Report

    class Stop(Report):
        def ticked(self, result: Any) -> None:
            if result.step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

    write_corpus(folder / "corpus")
    run = folder / "runs" / "golden"
    if begun is not None:
        shutil.copytree(begun, run)
    before = Path.cwd()
    os.chdir(folder)  # so that no path of this machine is kept
    try:
        with mock.patch.dict(os.environ, MINI_BERT_CACHE="cache"):
            pretrain(load_config(["training/debugging"], {**_RUN, "run.resume": begun and "auto"}), report=Stop())
    finally:
        os.chdir(before)
    return [
        (record["step"], record["loss"]) for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "train"
    ]


def main(words: Sequence[str]) -> int:
    """Write what is compared with; anything but `--write` is refused."""
    if list(words) != ["--write"]:
        print(__doc__, file=sys.stderr)
        return 2
    write(GOLDEN)
    return 0


EXPERIMENTS = (
    Experiment(
        "R24",
        "a run of every released format goes on",
        f"the numbers that were saved, and the next losses to {LOSS_TOLERANCE:g} nats",
        old_checkpoints,
    ),
    Experiment("R24", "random streams, order, masks and dropout drawn again", "the same numbers", random_numbers),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
