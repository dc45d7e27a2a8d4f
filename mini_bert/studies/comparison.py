"""What do a study's trials say? Differences to the baseline, paired by seed, with their intervals and a verdict.

Measured is the held-out loss at the end (nats), or with `first_below` the time until the plateau near the unigram loss
was left (seconds of the clock: steps times a step's seconds); less is better in both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mini_bert.metrics.paired_seeds import paired_mean, reach_of_blocks
from mini_bert.studies.clock import steps_of
from mini_bert.studies.keys import key_of_piece
from mini_bert.studies.pieces import baseline_config, config_of
from mini_bert.studies.plan import all_pieces, begins_from, compared_with
from mini_bert.studies.result import Clock, StudyResult, Trial
from mini_bert.studies.schema import START, Study

HELPS, HURTS, NOTHING_SEEN, ONE_SEED = "helps", "hurts", "no difference seen", "one seed: no verdict"


def compare(result: StudyResult) -> list[dict[str, Any]]:
    """An entry for each piece, in the order of the study, then what a search has tried, the best first.

    Keys: piece, why (empty for what a search drew), settings, against (the piece compared with; None for a baseline),
    begins, seeds (that count), value (mean), difference, interval (Student's t over seeds), pooled_interval (one spread
    for all pieces), time_ratio, memory_ratio, steps, verdict, problems, message.
    """
    study = result.as_study()
    pieces = all_pieces(study)
    base = baseline_config(study)
    trials: dict[str, list[Trial]] = {label: [] for label in pieces}
    for trial in result.trials:
        if trial.piece != START:
            trials.setdefault(trial.piece, []).append(trial)
    values = {label: _values(study, result.clock, own) for label, own in trials.items()}
    entries = []
    for label, own in trials.items():
        settings = pieces[label].settings if label in pieces else own[0].settings
        begins = own[0].begins if own else begins_from(study, config_of(study, settings), base)
        against = compared_with(study, label, begins)
        entries.append(
            {
                "piece": label,
                "why": pieces[label].why if label in pieces else "",
                "settings": settings,
                "against": None if against == label or label == study.baseline else against,
                "begins": begins,
                "steps": own[0].steps if own else steps_of(study, result.clock, settings),
                **_clock_ratios(study, result.clock, settings),
                **_problems(study, own, _clock_failure(study, result.clock, settings)),
                "seeds": len(values[label]),
                "value": _mean(list(values[label].values())),
            }
        )
    reaches = _reaches(entries, values)
    for entry in entries:
        entry.update(_difference(entry, values, reaches))
    searched = [entry for entry in entries if entry["piece"] not in pieces]
    searched.sort(key=lambda entry: math.inf if entry["value"] is None else entry["value"])
    return [entry for entry in entries if entry["piece"] in pieces] + searched


def _values(study: Study, clock: Clock | None, trials: Sequence[Trial]) -> dict[int, float]:
    """What was measured, by seed; trials without a number are left out."""
    values: dict[int, float] = {}
    for trial in trials:
        if trial.status != "done":
            continue
        if study.measure.first_below is None:
            value = trial.loss
        elif trial.first_below is None:
            value = None
        else:
            ratio = clock and clock.ratio(key_of_piece(study, trial.settings))
            each = clock.baseline_seconds * ratio if clock and ratio else trial.seconds_per_step
            value = None if each is None else trial.first_below * each
        if value is not None and math.isfinite(value):
            values[trial.seed] = value
    return values


def _problems(study: Study, trials: Sequence[Trial], failure: str) -> dict[str, Any]:
    """What keeps seeds from counting, by kind, and the first message."""
    counts = {status: sum(trial.status == status for trial in trials) for status in ("diverged", "failed", "pruned")}
    if study.measure.first_below is not None:
        counts["not within the budget"] = sum(trial.status == "done" and trial.first_below is None for trial in trials)
    missing = len(study.seeds) - len(trials)
    if failure and not trials:
        counts["failed"], missing = missing, 0
    message = next((trial.message for trial in trials if trial.message), failure)
    problems = {kind: number for kind, number in {**counts, "missing": missing}.items() if number > 0}
    return {"problems": problems, "message": message}


def _clock_failure(study: Study, clock: Clock | None, settings: Mapping[str, Any]) -> str:
    if clock is None:
        return ""
    key = key_of_piece(study, settings)
    return next((entry.failure for entry in clock.pieces if entry.key == key), "")


def _clock_ratios(study: Study, clock: Clock | None, settings: Mapping[str, Any]) -> dict[str, float | None]:
    if clock is None:
        return {"time_ratio": None, "memory_ratio": None}
    key = key_of_piece(study, settings)
    entry = next((entry for entry in clock.pieces if entry.key == key and entry.baseline_peak_bytes), None)
    memory = 1.0 if key == clock.key else entry and entry.peak_bytes / entry.baseline_peak_bytes
    return {"time_ratio": clock.ratio(key), "memory_ratio": memory}


def _reaches(entries: Sequence[Mapping[str, Any]], values: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Half the width of the pooled interval, by baseline, over the pieces that have all the baseline's seeds."""
    reaches = {}
    for against in {entry["against"] for entry in entries} - {None}:
        seeds = sorted(values.get(against, {}))
        group = [against, *(entry["piece"] for entry in entries if entry["against"] == against)]
        full = [[values[piece][seed] for seed in seeds] for piece in group if set(seeds) <= set(values.get(piece, {}))]
        if len(seeds) >= 2 and len(full) >= 3:
            reaches[against] = reach_of_blocks(full)
    return reaches


def _difference(
    entry: Mapping[str, Any], values: Mapping[str, Mapping[int, float]], reaches: Mapping[str, float]
) -> dict[str, Any]:
    against, own = entry["against"], values[entry["piece"]]
    nothing = {"difference": None, "interval": None, "pooled_interval": None}
    if against is None:
        return {**nothing, "verdict": "baseline"}
    seeds = sorted(set(own) & set(values.get(against, {})))
    bad = [kind for kind in ("diverged", "failed", "not within the budget", "pruned") if kind in entry["problems"]]
    if not seeds:
        return {**nothing, "verdict": bad[0] if bad else "not tried yet"}
    mean, interval, count = paired_mean([own[seed] for seed in seeds], [values[against][seed] for seed in seeds])
    reach = reaches.get(against) if count == len(values[against]) else None
    pooled = None if reach is None else [mean - reach, mean + reach]
    verdict = _verdict(interval if pooled is None else pooled)  # one interval decides: a second chance is one too many
    if bad:
        number = entry["problems"][bad[0]]
        verdict = f"{bad[0]} with {number} of {number + len(own)} seeds; else {verdict}"
    ends = list(interval) if all(map(math.isfinite, interval)) else None
    return {"difference": mean, "interval": ends, "pooled_interval": pooled, "verdict": verdict}


def _verdict(interval: Sequence[float]) -> str:
    low, high = interval
    if math.isinf(low):
        return ONE_SEED
    return HELPS if high < 0 else HURTS if low > 0 else NOTHING_SEEN


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
