"""Stability under small changes as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import within
from mini_bert.reports.table import Table

_COLUMNS = (
    ("cosine", "cosine", 3, 1, ""),
    ("moved", "moved", 3, 1, ""),
    ("same_piece", "same piece at the mask", 1, 100, " %"),
    ("loss_rise", "loss rises by (nats)", 2, 1, ""),
    ("same_label", "same label", 1, 100, " %"),
)


def stability_table(result: Mapping[str, Any]) -> Table:
    """Each change of a text, for the model and the untrained one."""
    lines = result["lines"]
    columns = [column for column in _COLUMNS if any(column[0] in line for line in lines)]
    rows = []
    for line in lines:
        cells = [line["change"], line["by"], f"{line['n']:,}"]
        for key, _, decimals, scale, unit in columns:
            found = line.get(key, {"value": None, "interval": None})
            cells.append(within(found["value"], found["interval"], decimals, scale, unit))
        rows.append(tuple(cells))
    return Table(
        f"Stability of {result['texts']:,} texts under small changes",
        ("change", "by", "n", *(column[1] for column in columns)),
        tuple(rows),
        (
            "Moved: 1 − cosine of the sentence embeddings, in units of another text in its place.",
            "The mask hides a word that the change leaves alone; loss is that of this word.",
        ),
        left=(0, 1),
    )
