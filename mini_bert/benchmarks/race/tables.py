"""The race in figures: who reached whose loss how much sooner."""

from __future__ import annotations

from statistics import median

from mini_bert.benchmarks.race.result import Course, RaceResult
from mini_bert.reports.quantities import duration
from mini_bert.reports.table import Table


def table(result: RaceResult) -> Table:
    """A line for each racer: its clock, its end, and how many times sooner it was where each of transformers ended."""
    theirs = [course for course in result.courses if course.library == "transformers" and course.curve]
    rows = []
    for course in result.courses:
        milliseconds = 1e3 * median(course.step_seconds)
        cells = [course.title, f"{milliseconds:.0f}", f"{course.steps:,}"]
        if not course.curve:
            rows.append((*cells, "not run yet", *("" for _ in theirs)))
            continue
        cells.append(f"{course.curve[-1].loss:.3f}")
        rows.append((*cells, *(_sooner(result, course, other) for other in theirs)))
    ends = [f"reaches {other.curve[-1].loss:.3f} ({other.name})" for other in theirs]
    machine = result.machine
    return Table(
        f"Time to a held-out loss, {result.corpus}, {result.rows} x {result.tokens} tokens a step",
        ("training", "ms a step", "steps", "held-out loss at its end", *ends),
        tuple(rows),
        (
            f"{machine.processor}, {machine.threads} threads. A step's time is the median of blocks in which all "
            "took turns; batches are made on the clock for Mini-BERT, and off it for transformers.",
            "transformers as it comes: dropout 0.1, which Mini-BERT's presets for short trainings leave out; logits at "
            "every token. Both decay weights by 0.01.",
        ),
        strong=tuple(number for number, course in enumerate(result.courses) if course.name.startswith("fast")),
    )


def _sooner(result: RaceResult, course: Course, other: Course) -> str:
    if course.name == other.name:
        return duration(other.seconds(other.curve[-1].step))
    seconds, times = course.reached(other.curve[-1].loss), result.times_sooner(course.name, other.name)
    return "never" if seconds is None or times is None else f"{duration(seconds)}, {times:.1f} times sooner"
