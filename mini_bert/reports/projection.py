"""100,000 steps beside the budgets: draws what `evaluation.projection.project` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import duration, size
from mini_bert.reports.table import Table


def projection_table(result: Mapping[str, Any]) -> Table:
    """Each quantity beside its budget and what was hoped for, with a verdict."""
    shown = {"bytes": size, "seconds": duration}
    rows = tuple(
        (
            line["name"],
            shown[line["unit"]](line["value"]),
            f"≤ {shown[line['unit']](line['limit'])}",
            shown[line["unit"]](line["hoped"]),
            line["verdict"],
        )
        for line in result["budgets"]
    )
    notes = [f"{line['name']}: {line['remark']}." for line in result["budgets"] if line["remark"]]
    if result["step_seconds"] is not None:
        notes.insert(0, f"Measured: {1000 * result['step_seconds']:.0f} ms a step on this machine.")
    return Table(
        f"{result['steps']:,} steps beside the budgets",
        ("", "projected or measured", "budget", "hoped for", "verdict"),
        rows,
        tuple(notes),
        left=(0, 4),
    )
