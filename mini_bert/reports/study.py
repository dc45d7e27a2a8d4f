"""A study as tables: differences to the baseline with their intervals, and what each piece is in it for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from mini_bert.reports.learning_rate_sensitivity import sensitivity_of, sensitivity_table
from mini_bert.reports.quantities import duration, number, signed
from mini_bert.reports.table import NOTHING, Table

Result = Mapping[str, Any]


def study_tables(result: Result) -> list[Table]:
    """All tables of a result that `mini-bert study run` wrote."""
    rates = sensitivity_of(result)
    return [verdicts_table(result), *([sensitivity_table(rates)] if rates else []), pieces_table(result)]


def verdicts_table(result: Result) -> Table:
    """A line a piece, the best first: difference to the baseline paired by seed, time per step, memory, verdict."""
    study, in_seconds = result["study"], measures_time(result)
    entries = ranked(result)
    decimals = 1 if in_seconds else 3
    rows = tuple(
        (
            entry["piece"],
            number(entry["value"], decimals),
            _difference(entry["difference"], decimals),
            _ends(entry["interval"], decimals),
            _ends(entry["pooled_interval"], decimals),
            _times(entry["time_ratio"]),
            _times(entry["memory_ratio"]),
            NOTHING if entry["steps"] is None else f"{entry['steps']:,}",
            f"{entry['seeds']}",
            entry["verdict"],
        )
        for entry in entries
    )
    what = f"time until {_below(study)}, s" if in_seconds else "held-out loss, nats"
    return Table(
        f"{study['name']}: {budget(study)}{', quick' if study['quick'] else ''}",
        ("piece", what, "difference", "95 %", "95 %, one spread", "time/step", "memory", "steps", "seeds", "verdict"),
        rows,
        tuple(_notes(result)),
        left=(0, 9),
        strong=tuple(i for i, entry in enumerate(entries) if entry["verdict"] == "baseline"),
    )


def pieces_table(result: Result) -> Table:
    """What each piece sets, and why it is in the study."""
    known = [entry for entry in result["comparison"] if entry["why"]]  # not what a search has drawn
    rows = tuple((entry["piece"], _settings(entry["settings"]), entry["why"]) for entry in known)
    return Table("Pieces", ("piece", "settings", "why"), rows, left=(0, 1, 2))


def clock_table(result: Result) -> Table:
    """How long a step of each piece takes, in how much memory, and how many steps that makes at an equal time."""
    rows = []
    for entry in result["comparison"]:
        shown = _times(entry["time_ratio"]) if entry["time_ratio"] else entry["message"] or "failed"
        steps = NOTHING if entry["steps"] is None else f"{entry['steps']:,}"
        rows.append((entry["piece"], shown, _times(entry["memory_ratio"]), steps))
    clock = result["clock"]
    return Table(
        f"A step beside the baseline's {1000 * clock['baseline_seconds']:.0f} ms",
        ("piece", "time/step", "memory", f"steps in {budget(result['study']).partition(' a trial')[0]}"),
        tuple(rows),
        (_clock_note(clock),),
    )


def study_block(result: Result) -> str:
    """A study in the documentation: its question, its tables."""
    return f"{result['study']['question']}\n\n" + "\n".join(table.markdown() for table in study_tables(result))


def ranked(result: Result) -> list[Mapping[str, Any]]:
    """Baselines first, then the pieces from the best difference to the worst; at the end those without one."""

    def place(entry: Mapping[str, Any]) -> tuple[int, float]:
        if entry["verdict"] == "baseline":
            return 0, 0.0
        return (1, entry["difference"]) if entry["difference"] is not None else (2, 0.0)

    return sorted(result["comparison"], key=place)


def _notes(result: Result) -> list[str]:
    """What has to be known to read the table."""
    study, clock = result["study"], result.get("clock")
    seeds, entries = len(study["seeds"]), result["comparison"]
    said = [
        f"Corpus {', '.join(study['corpus'])}; {_based_on(study)}. Differences are paired by seed; below 0 is better."
    ]
    if seeds == 1:
        said.append("One seed: nothing is known of how far chance reaches, so there are no intervals.")
    else:
        width = " With 2 seeds it reaches 12.7 standard errors to either side: very wide." if seeds == 2 else ""
        said.append(f"95 %: Student's t over {seeds} seeds.{width}")
    if any(entry["pooled_interval"] for entry in entries):
        said.append(
            "95 %, one spread: as if seeds scattered all pieces alike (randomised blocks). This interval decides the "
            "verdict. Of 20 pieces that do nothing, one falls outside of it by chance."
        )
    said += _about_start(result)
    if clock:
        said.append(_clock_note(clock))
    for entry in entries:
        if entry["message"]:
            said.append(f"{entry['piece']}: {entry['message']}")
    return [*said, *study["notes"]]


def measures_time(result: Result) -> bool:
    """Whether the study measures when the plateau was left, and not the held-out loss."""
    return result["study"]["measure"]["first_below"] is not None


def budget(study: Mapping[str, Any]) -> str:
    """`2.0 min a trial, 2 seeds`."""
    each = study["budget"]
    given = f"{each['steps']:,} steps" if each["steps"] is not None else duration(60 * each["minutes"])
    return f"{given} a trial, {len(study['seeds'])} seed{'s' * (len(study['seeds']) != 1)}"


def _difference(value: float | None, decimals: int) -> str:
    """With a true minus: half of these tables are differences, and a hyphen is easily overlooked."""
    return signed(value, decimals).replace("-", "−")


def _ends(interval: Sequence[float] | None, decimals: int) -> str:
    """Of an interval of differences."""
    return NOTHING if interval is None else " … ".join(_difference(end, decimals) for end in interval)


def _clock_note(clock: Mapping[str, Any]) -> str:
    machine = clock["machine"]
    load = "" if machine.get("load") is None else f", load {machine['load']:.1f} when it ended"
    return (
        f"Time per step beside the baseline's, {1000 * clock['baseline_seconds']:.0f} ms, in alternating blocks on "
        f"{clock['threads']} threads of {machine['cores']} cores, {machine['blas']}, {machine['date']}{load}; 1.00 "
        "by definition where a step computes the same." + _clock_error(clock)
    )


def _clock_error(clock: Mapping[str, Any]) -> str:
    """How sure the ratios are, which no interval over seeds knows."""
    found = []
    for piece in clock["pieces"]:
        ratios = [own / base for own, base in zip(piece["seconds"], piece["baseline_seconds"], strict=True)]
        if len(ratios) > 1:
            found.append(stdev(ratios) / math.sqrt(len(ratios)) / mean(ratios))
    return f" The standard error of a ratio is about {100 * median(found):.1f} %." if found else ""


def _times(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"


def _below(study: Mapping[str, Any]) -> str:
    measure = study["measure"]
    return f"{measure['first_below']:g} nats below the {measure['reference'].replace('_', '-')} loss"


def _based_on(study: Mapping[str, Any]) -> str:
    over = _settings(study["settings"])
    return f"all pieces over {', '.join(study['extends'])}" + (f" with {over}" if over != NOTHING else "")


def _about_start(result: Result) -> list[str]:
    study, entries = result["study"], result["comparison"]
    if study["start"] is None:
        return []
    steps, model = study["start"]["steps"], study["start"]["model"]
    weights = f"{steps:,} steps of the baseline with another seed" if steps is not None else str(model)
    said = [f"Trials begin from the weights of {weights}, with a new optimiser."]
    curves = [
        t["held_out_losses"] for t in result["trials"] if t["piece"] == study["baseline"] and t["held_out_losses"]
    ]
    if curves and not measures_time(result):
        first = mean(curve[0][1] for curve in curves)
        worst = mean(max(loss for _, loss in curve) for curve in curves)
        said.append(
            f"These weights have a held-out loss of {first:.3f}. The rate rises anew, which costs before it gains: "
            f"the baseline stands at {worst:.3f} before it falls. A piece that ends above {first:.3f} has lost by it."
        )
    nothing = [entry["piece"] for entry in entries if entry["begins"] == "nothing" and entry["against"]]
    if nothing:
        said.append(
            f"From nothing, beside the baseline from nothing, as these weights do not fit: {', '.join(nothing)}."
        )
    return said


def _settings(settings: Mapping[str, Any], above: str = "") -> str:
    """`{"train": {"lr": 1e-3}}` as `train.lr 0.001`."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            parts.append(_settings(value, f"{above}{name}."))
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            parts.append(f"{above}{name} {shown}")
    return "; ".join(parts) or NOTHING
