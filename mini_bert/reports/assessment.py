"""Everything that was measured of a model in one table; of several models, side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mini_bert.reports.headlines import Headline, headlines
from mini_bert.reports.neighbours import NEIGHBOURS
from mini_bert.reports.quantities import duration, figures, percent, signed, size, within
from mini_bert.reports.table import NOTHING, Table

Result = Mapping[str, Any]
_HARDLY_KNOWN = 0.01
"""Share of a held-out text that may stand in the training text without a word: there are quotations everywhere."""

_OF_HELD_OUT_TEXT = ("masked_lm.", "breakdown.", "perplexity.", "attention.")
_OF_VOCABULARY = ("facts.", "analogies", "stability.")
_NOT_THE_SAME = (
    "No difference is given where the two were asked something else: figures of held-out text depend on corpus, length "
    "of rows and vocabulary, facts, analogies and stability on the vocabulary."
)


def assessment_table(result: Result, only: Collection[str] | None = None) -> Table:
    """A line a figure, its interval, the same network untrained, the best baseline, and a published neighbour.

    Args:
        result: of kind `assessment`.
        only: keys of the headlines that are shown; None: all.
    """
    model = result["model"]
    rows, notes = [], []
    for part in result["parts"]:
        if "left_out" in part:
            notes.append(f"Not measured: {part['title']}. {part['left_out']}")
            continue
        for line in headlines(part):
            if only is not None and line.key not in only:
                continue
            neighbour = NEIGHBOURS.get(line.key)
            name, floor = line.baseline or ("", None)
            rows.append(
                (
                    line.what,
                    _with_interval(line),
                    _shown(line.untrained, line.unit),
                    f"{_shown(floor, line.unit)} {name}".strip() if line.baseline else NOTHING,
                    NOTHING if neighbour is None else f"{neighbour.figure} {neighbour.of} ({neighbour.source})",
                )
            )
    trained_on = ", ".join(model["corpus"]) if model["corpus"] else "text that is not known here"
    notes.append(
        f"{model['parameters']:,} parameters, trained on {trained_on}.{_held_out(model)} "
        "± is the larger half of the 95 % interval: over the questions, of fine-tuning also over seeds. "
        f"Measured in {duration(result['seconds'])}; peak memory {size(result['peak_memory_bytes'])}."
    )
    notes.append(
        "Published neighbours have other sizes, data and often another test set. --only PART shows a part whole. Of a "
        "fine-tuning, 'untrained' is the same network from random weights, taught the task alone."
    )
    notes += quick_notes([result])
    title = f"What {model['name']} has learnt" + (" (quick)" if result["quick"] else "")
    columns = ("", "model", "untrained", "without a model", "a published neighbour")
    return Table(title, columns, tuple(rows), tuple(notes), left=(0, 3, 4))


def comparison_table(result: Result) -> Table:
    """The same figures of several models side by side."""
    assessments = result["assessments"]
    rows, differ = [], False
    for lines in _side_by_side(assessments):
        cells = [_with_interval(lines[n]) if n in lines else NOTHING for n in range(len(assessments))]
        first = next(iter(lines.values()))
        if len(assessments) == 2:
            same = _asked_the_same(first.key, *(assessment["model"] for assessment in assessments))
            cells.append(_difference(lines) if same else NOTHING)
            differ = differ or not same
        rows.append((first.what, *cells))
    names = [assessment["model"]["name"] for assessment in assessments]
    facts = "; ".join(f"{a['model']['name']}: {a['model']['parameters']:,} parameters" for a in assessments)
    return Table(
        " beside ".join(names),
        ("", *names, *(["second − first"] if len(names) == 2 else [])),
        tuple(rows),
        (
            facts,
            "± is the larger half of the 95 % interval of each; as they share their questions, a difference is better "
            "known than either.",
            *([_NOT_THE_SAME] if differ else []),
        ),
    )


def history_table(result: Result) -> Table:
    """The same figures after more and more steps of one training."""
    steps, assessments = result["steps"], result["assessments"]
    rows = []
    for lines in _side_by_side(assessments):
        last = lines[max(lines)]
        cells = [_shown(lines[n].value, lines[n].unit) if n in lines else NOTHING for n in range(len(steps))]
        floor = f"{_shown(last.baseline[1], last.unit)} {last.baseline[0]}" if last.baseline else NOTHING
        rows.append((last.what, *cells, floor))
    return Table(
        "What it had learnt after so many steps",
        ("", *(f"{step:,}" for step in steps), "without a model"),
        tuple(rows),
        (*(("Step 0 is the model before it has learned anything.",) if 0 in steps else ()), *quick_notes(assessments)),
        left=(0, len(steps) + 1),
    )


def seeds_table(results: Sequence[Result]) -> Table:
    """Several trainings that differ in their seed alone, after the same numbers of steps: mean, lowest and highest."""
    steps = sorted(set.intersection(*(set(result["steps"]) for result in results)))
    columns = [
        _side_by_side([result["assessments"][result["steps"].index(step)] for result in results]) for step in steps
    ]
    rows = []
    for what in (lines[min(lines)].what for lines in columns[-1]):
        cells = [
            _range_of([line for lines in column for line in lines.values() if line.what == what]) for column in columns
        ]
        rows.append((what, *cells))
    return Table(
        f"{len(results)} seeds: mean (lowest … highest)",
        ("", *(f"{step:,} steps" for step in steps)),
        tuple(rows),
        quick_notes([assessment for result in results for assessment in result["assessments"]]),
    )


def quick_notes(assessments: Sequence[Result]) -> tuple[str, ...]:
    """What is to be said of a table in which quick assessments stand: from how little was learned what they show?"""
    quick = [assessment for assessment in assessments if assessment["quick"]]
    if not quick:
        return ()
    note, found = (
        "Quick: parts of the sets, so intervals are wide",
        [part.get("result", {}) for part in quick[-1]["parts"]],
    )
    learned = [
        f"the probe of parts of speech from {result['treebank']['sentences']['train']:,} sentences"
        for result in found
        if result.get("kind") == "part_of_speech"
    ]
    learned += [
        f"{result['task']} from {result['examples']['train'] + result['examples']['selection']:,} texts"
        for result in found
        if result.get("kind") == "finetuning"
    ]
    less = "; and what learns, learns from little and reaches less than whole: "
    return (note + (less + ", ".join(learned) if learned else "") + ".",)


def _range_of(lines: Sequence[Headline]) -> str:
    values = [line.value for line in lines if line.value is not None]
    if not values:
        return NOTHING
    mean, low, high = (_shown(value, lines[0].unit) for value in (sum(values) / len(values), min(values), max(values)))
    return f"{mean} ({low.removesuffix(' %')} … {high.removesuffix(' %')})"


def _side_by_side(assessments: Sequence[Result]) -> list[dict[int, Headline]]:
    """For each figure, what each assessment that has it says of it."""
    found: dict[str, dict[int, Headline]] = {}
    for number, assessment in enumerate(assessments):
        for part in assessment["parts"]:
            for line in headlines(part) if "result" in part else ():
                found.setdefault(line.key, {})[number] = line
    return list(found.values())


def _held_out(model: Result) -> str:
    if not model["held_out_text"]:
        return ""
    text = model["held_out_text"]
    if "documents" not in text:
        return ""
    part = f"{text['documents']:,} of the {text['of_documents']:,} documents of "
    scored = f" Held-out text: {'' if text['documents'] == text['of_documents'] else part}{', '.join(text['corpus'])}."
    if text.get("beside") == "the rest":
        return f"{scored} The text that it was trained on is not at hand: n-grams are counted on the rest of this one."
    if (text["known"] or 0) < _HARDLY_KNOWN:
        return scored
    return f"{scored} {percent(text['known'])} of it stand in sentences that the model was trained on."


def _asked_the_same(key: str, one: Result, other: Result) -> bool:
    """Whether two models got the same questions, so that their figures may be subtracted."""
    if key.startswith(_OF_HELD_OUT_TEXT):
        return bool(one["held_out_text"] == other["held_out_text"] and one["vocabulary"] == other["vocabulary"])
    return not key.startswith(_OF_VOCABULARY) or bool(one["vocabulary"] == other["vocabulary"])


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return NOTHING
    if unit == "%":
        return f"{100 * value:.1f} %"
    return figures(value) if unit == "ppl" else f"{value:.2f}"


def _with_interval(line: Headline) -> str:
    if line.unit == "%":
        return within(line.value, line.interval, 1, 100, " %")
    if line.unit != "ppl":
        return within(line.value, line.interval, 2)
    shown = figures(line.value)
    if line.value is None or line.interval is None or None in line.interval:
        return shown
    low, high = line.interval
    return f"{shown} ({figures(low)} – {figures(high)})"


def _difference(lines: Mapping[int, Headline]) -> str:
    if len(lines) < 2 or lines[0].value is None or lines[1].value is None:
        return NOTHING
    difference = lines[1].value - lines[0].value
    return signed(difference, 1, 100) if lines[0].unit == "%" else signed(difference, 2)
