"""The progression that was hoped for, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mini_bert.reports.headlines import headlines
from mini_bert.reports.quantities import figures, percent
from mini_bert.reports.table import NOTHING, Table

_METRICS = {"accuracy": "MLM accuracy", "perplexity": "perplexity", "part_of_speech": "POS", "sst2": "SST-2"}

_HOPED: dict[int, dict[str, str]] = {
    0: {"accuracy": "0–5 %", "perplexity": "> 1000", "part_of_speech": "60–70 %", "sst2": "about 50 %"},
    10_000: {"accuracy": "20–30 %", "perplexity": "50–100", "part_of_speech": "80–85 %", "sst2": "65–70 %"},
    100_000: {"accuracy": "60–70 %", "perplexity": "15–25", "part_of_speech": "90–95 %", "sst2": "80–85 %"},
}
"""Steps → what was hoped for when the project began."""

_KEYS = {"masked_lm.top1": "accuracy", "masked_lm.perplexity": "perplexity", "pos": "part_of_speech", "sst2": "sst2"}
"""Headline of an assessment → metric."""

_CONTRADICTION = (
    "60–70 % accuracy and perplexity 15–25 cannot both be: published pairs are 37 % at perplexity 24 (BERT-Small on "
    "training batches, keras-hub #173) and 72 % at 3.6 (SciBERT, allenai/scibert #32)."
)


def progression_of(history: Mapping[str, Any]) -> dict[int, dict[str, float | None]]:
    """What `progression_table` takes, out of a result of kind `history`."""
    return {
        step: {
            _KEYS[line.key]: line.value
            for part in assessment["parts"]
            if "result" in part
            for line in headlines(part)
            if line.key in _KEYS
        }
        for step, assessment in zip(history["steps"], history["assessments"], strict=True)
    }


def progression_table(measured: Mapping[int, Mapping[str, float | None]], notes: Sequence[str] = ()) -> Table:
    """Hoped-for and measured values by number of steps.

    Args:
        measured: steps → metric → value: `accuracy`, `part_of_speech` and `sst2` as shares, `perplexity`. What is
            missing is shown as not measured; steps that nobody hoped for get a line of their own.
        notes: what is to be said of how it was measured.
    """
    all_steps = sorted({*_HOPED, *measured})
    rows = []
    for steps in all_steps:
        values = measured.get(steps, {})
        row = [f"{steps:,} steps" if steps else "untrained"]
        for metric in _METRICS:
            value = values.get(metric)
            row += [_HOPED.get(steps, {}).get(metric, NOTHING), (figures if metric == "perplexity" else percent)(value)]
        rows.append(tuple(row))
    columns = ["", *(text for name in _METRICS.values() for text in (f"{name}, hoped", "measured"))]
    strong = tuple(i for i, steps in enumerate(all_steps) if steps in measured and steps)
    return Table("Hoped for and measured", tuple(columns), tuple(rows), (*notes, _CONTRADICTION), strong=strong)
