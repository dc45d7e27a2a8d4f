"""How long does a step of each piece take, beside the baseline's?

Measured once, on a machine that does nothing else: the real training step of each piece on real batches, in alternating
blocks with the baseline's, so that it is their ratio round by round that counts. An equal time then is a number of
steps, and trials may run at any time: a busy machine changes how long they take, and no result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from mini_bert.benchmarks.duel import Contestant, alternate
from mini_bert.benchmarks.result import Contest
from mini_bert.benchmarks.workload import Workload
from mini_bert.errors import ConfigError
from mini_bert.machine import ONE_BLAS_THREAD, available_cores, blas_kernel
from mini_bert.studies.keys import key_of_piece
from mini_bert.studies.pieces import config_of
from mini_bert.studies.plan import all_pieces
from mini_bert.studies.result import Clock, Clocked
from mini_bert.studies.schema import Study

_AT_ONCE = 4
"""Pieces whose processes stand beside the baseline's at once."""
_BASELINE = "baseline"


def read_clock(
    study: Study,
    known: Clock | None,
    *,
    threads: int | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> Clock:
    """Measure every piece that `known` does not know, each beside the baseline.

    Args:
        study: its pieces.
        known: what was measured before; it stays, unless the baseline is another one now.
        threads: of every contestant; None: one a core.
        report: told what is being done.

    Raises:
        ConfigError: the baseline cannot be trained.
    """
    threads = threads or available_cores()
    rounds, steps = (2, 2) if study.quick else (6, 8)
    pieces = all_pieces(study)
    settings = {label: piece.settings for label, piece in pieces.items()}
    base_key = key_of_piece(study, settings[study.baseline])
    if known is not None and known.key != base_key:
        known = None
    entries = list(known.pieces) if known else []
    measured = {entry.key for entry in entries if not entry.failure}
    keys = {label: key_of_piece(study, settings[label]) for label in pieces}
    missing = {keys[label]: label for label in pieces if keys[label] not in {*measured, base_key}}
    entries = [entry for entry in entries if entry.key in keys.values() and entry.key not in missing]
    if known is not None and not missing:
        return known.model_copy(update={"pieces": entries})
    baseline_seconds = known and known.baseline_seconds
    labels = list(missing.values())
    for first in range(0, max(len(labels), 1), _AT_ONCE):
        chosen = {label: settings[label] for label in labels[first : first + _AT_ONCE]}
        contest = _contest(study, settings[study.baseline], chosen, threads, rounds, steps, report)
        base = contest.entry(_BASELINE)
        if base.failure:
            raise ConfigError("baseline", got=base.failure, expected="a piece that can be trained")
        baseline_seconds = baseline_seconds or base.quartiles.median
        for number, label in enumerate(chosen):
            entry = contest.entry(f"piece-{number}")
            entries.append(
                Clocked(
                    piece=label,
                    key=keys[label],
                    seconds=entry.seconds,
                    baseline_seconds=base.seconds if entry.seconds else [],
                    peak_bytes=entry.peak_bytes,
                    baseline_peak_bytes=base.peak_bytes,
                    failure=entry.failure,
                )
            )
    assert baseline_seconds is not None
    machine = {"cores": available_cores(), "blas": blas_kernel(), "date": time.strftime("%Y-%m-%d"), "load": _load()}
    return Clock(key=base_key, threads=threads, baseline_seconds=baseline_seconds, pieces=entries, machine=machine)


def steps_of(study: Study, clock: Clock | None, settings: Mapping[str, Any]) -> int | None:
    """How many steps a piece gets; None where its time per step was not measured."""
    if study.budget.steps is not None:
        return study.budget.steps
    if clock is None or (ratio := clock.ratio(key_of_piece(study, settings))) is None:
        return None
    assert study.budget.minutes is not None
    return max(2, round(60 * study.budget.minutes / (clock.baseline_seconds * ratio)))


def _contest(
    study: Study,
    base: Mapping[str, Any],
    chosen: Mapping[str, Mapping[str, Any]],
    threads: int,
    rounds: int,
    steps: int,
    report: Callable[[str], None],
) -> Contest:
    def contestant(name: str, title: str, settings: Mapping[str, Any]) -> Contestant:
        config = config_of(study, settings).to_dict()
        return Contestant(
            name,
            title,
            "mini_bert.benchmarks.own_training:OwnTraining",
            {"config": config},
            environment=ONE_BLAS_THREAD,
            libraries=("numpy",),
        )

    contestants = [contestant(_BASELINE, study.baseline, base)]
    contestants += [contestant(f"piece-{number}", *pair) for number, pair in enumerate(chosen.items())]
    nothing = Workload("", 0, 0, 0, 0, 0.0, {}, "")  # a contestant here reads its own text
    return alternate(contestants, nothing, threads=threads, warm_up=3, rounds=rounds, steps=steps, report=report)


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
