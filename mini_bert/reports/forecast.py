"""What a training will cost, a quantity a line: draws what `training.forecast.forecast` returns."""

from __future__ import annotations

from mini_bert.reports.quantities import duration, size
from mini_bert.training.forecast import Forecast


def lines(forecast: Forecast) -> list[str]:
    """Parameters, memory, what will be read, time and disk."""
    f, to_do = forecast, forecast.steps - forecast.first_step
    there = "" if f.memory_available is None else f" of {size(f.memory_available)}"
    at_once = f"{f.in_flight} shard{'s' * (f.in_flight != 1)} at once"
    rows = (
        ("parameters", f"{f.parameters:,}"),
        ("memory", f"{size(f.memory_bytes)}{there}, {at_once}"),
        ("to be read", f"{f.tokens:,} tokens, {f.epochs:.3g} epochs"),
        ("to the end", f"{duration(f.seconds)}: {to_do:,} steps of {1000 * f.step_seconds:,.0f} ms"),
        ("disk", f"{size(f.disk_bytes)} of {size(f.disk_free)}, {size(f.checkpoint_bytes)} a checkpoint"),
    )
    return [f"{name:<12}{value}" for name, value in rows]
