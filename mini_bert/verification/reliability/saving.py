"""What does saving cost, and does a state come back from the disk as it was? (R3, and the promise of 150 ms)"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.training.checkpoint import load_checkpoint, save_checkpoint
from mini_bert.training.step import TrainingState
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale, differences
from mini_bert.verification.reliability.small_state import FACTS, PIECES, change, small_state

MOST_MILLISECONDS = 150.0

_SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"tokenizer": False},
    {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 7},
    {"heads": ("mlm", "nsp"), "type_vocab_size": 3},
    {"heads": ("token_classifier",), "num_labels": 5},
    {"heads": (), "pooler": False},
    {"hidden_act": "gelu_new", "vocab_size": 31, "max_position_embeddings": 5},
)


def save_load_save(scale: Scale, folder: Path) -> Outcome:
    """Save, load, save elsewhere: compare every file of both checkpoints."""
    outcome, states = Outcome(), [small_state(7, seed=number, **shape) for number, shape in enumerate(_SHAPES)]
    states += [_extremes(small_state(2**40))] if scale.quick else [_extremes(small_state(2**40)), default_state()]
    for number, state in enumerate(states):
        one = save_checkpoint(folder / f"{number}-one", state, _counters(number), FACTS)
        restored = load_checkpoint(one)
        other = save_checkpoint(folder / f"{number}-two", restored.state, restored.progress, FACTS)
        changed = differences(one, other)
        for name in sorted(path.name for path in one.iterdir()):
            outcome.count(name not in changed, f"state {number}: {name} is not the same after a load")
        scale.told(number + 1, len(states))
    outcome.measured = {"states": len(states)}
    return outcome


def time_of_saving(scale: Scale, folder: Path) -> Outcome:
    """Save the default model again and again, as after another step each time, and hold a watch."""
    outcome, state, took = Outcome(), default_state(), []
    saves = scale.of(full=20, quick=3)
    for step in range(1, saves + 1):
        change(state, step)
        begin = time.perf_counter()
        save_checkpoint(folder, state, _counters(step), FACTS, best=1)
        took.append(1e3 * (time.perf_counter() - begin))
        scale.told(step, saves)
    median, worst = statistics.median(took), max(took)
    outcome.measured = {
        "parameters": state.model.parameters.buffer.size,
        "median_ms": round(median, 1),
        "worst_ms": round(worst, 1),
        "megabytes": round(
            sum(path.stat().st_size for path in (folder / "checkpoints" / f"checkpoint-{saves}").iterdir()) / 1e6, 1
        ),
    }
    outcome.count(median < MOST_MILLISECONDS, f"the median of {saves} saves is {median:.0f} ms")
    return outcome


def default_state() -> TrainingState:
    """The default model with a vocabulary of its full size, and moments without a zero."""
    from mini_bert.config.load import load_config
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

    model = load_config([], {}).model
    pieces = [*PIECES, *(f"piece{number}" for number in range(model.vocab_size - len(PIECES)))]
    state = TrainingState.fresh(MiniBERT(model, tokenizer=WordPiece(pieces)))
    for moment in state.optimizer.values():
        moment[...] = np.arange(1, moment.size + 1, dtype=moment.dtype) * moment.dtype.type(1e-6)
    return state


def _extremes(state: TrainingState) -> TrainingState:
    """Numbers that a text would not carry: the largest, the smallest, a subnormal one, minus zero."""
    limits = np.finfo(np.float32)
    values = np.array([limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0], np.float32)
    for vector in (state.model.parameters.buffer, *state.optimizer.values()):
        vector[: values.size] = values
    return state


def _counters(number: int) -> dict[str, Any]:
    return {"tokens": 2**60 + number, "loss": 0.1 + 0.2, "best_loss": None, "window": {"µ": [1e-300, 1 / 3]}}


EXPERIMENTS = (
    Experiment("R3", "save, load, save", "every file the same, byte for byte", save_load_save),
    Experiment(
        "R19",
        "save the default model while a watch runs",
        f"training waits less than {MOST_MILLISECONDS:.0f} ms (median)",
        time_of_saving,
    ),
)
