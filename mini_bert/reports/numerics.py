"""What fewer bits do, in tables and sentences: draws what `analysis.numerics.run_numerics` returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mini_bert.errors import DataError, nearest
from mini_bert.reports.numerics_forward import (
    constants_table,
    contributions,
    depth_table,
    first_broken,
    formats_table,
    large_inputs_table,
    layers_table,
    operations_table,
    range_table,
    scientific,
    signed,
    sums_table,
    ulps_table,
)
from mini_bert.reports.numerics_learning import accuracy_table, gradients_table, scales_table, trainings_tables
from mini_bert.reports.quantities import percent
from mini_bert.reports.table import Table

Result = Mapping[str, Any]

PARTS: dict[str, Callable[[Result], list[Table]]] = {
    "formats": lambda result: [formats_table(result)],
    "layers": lambda result: [layers_table(result), ulps_table(result)],
    "operations": lambda result: [operations_table(result, part) for part in _taken_apart(result)[:1]],
    "depth": lambda result: [depth_table(result)],
    "range": lambda result: [range_table(result)],
    "constants": lambda result: [constants_table(result)],
    "sums": lambda result: [sums_table(result), large_inputs_table(result)],
    "gradients": lambda result: [gradients_table(result)],
    "scales": lambda result: [scales_table(result, part) for part in _taken_apart(result)],
    "accuracy": lambda result: [accuracy_table(result)],
    "training": trainings_tables,
}
"""Name of a part of the lab → its tables, in the order of the story."""


def numerics_tables(result: Result) -> list[Table]:
    """All tables, in the order of the story."""
    return [table for part in PARTS.values() for table in part(result)]


def numerics_block(result: Result, name: str) -> str:
    """One part as Markdown, for a page: a name of `PARTS`, or `findings`.

    Raises:
        DataError: there is no such part.
    """
    if name == "findings":
        return "\n".join(f"- {sentence}" for sentence in findings(result)) + "\n"
    if name not in PARTS:
        raise DataError(
            "part", got=repr(name), expected="a part of the lab", advice=nearest(name, [*PARTS, "findings"])
        )
    return "\n".join(table.markdown() for table in PARTS[name](result))


def findings(result: Result) -> list[str]:
    """What was measured, in sentences."""
    sentences = [_logits(result)]
    for part in _taken_apart(result)[:1]:
        sentences += [_costliest(result, part), _amplifier(part)]
    sentences.append(_depth(result))
    sentences += [_headroom(result, part) for part in _taken_apart(result)]
    sentences += [_scaling(part) for part in _taken_apart(result)]
    sentences += [_scores(result), *_trainings(result)]
    return sentences


def _taken_apart(result: Result) -> list[Result]:
    """The passes in formats narrower than float32."""
    return [part for part in result["passes"] if part["alone"] is not None]


def _logits(result: Result) -> str:
    epsilons = {format["name"]: format["epsilon"] for format in result["formats"]}
    parts = []
    for part in result["passes"]:
        error = part["forward"][-1]["error"]
        in_epsilon = "" if error is None else f" ({error / epsilons[part['format']]:.2f} ε)"
        parts.append(f"{part['format']} {scientific(error)}{in_epsilon}")
    native = scientific(result["native_float32"][-1]["error"])
    return f"Error of the logits against float64: {', '.join(parts)}; NumPy's own float32 {native}."


def _costliest(result: Result, part: Result) -> str:
    errors = {name: math.inf if error is None else error for name, error in part["alone"].items()}
    squares = sum(error**2 for error in errors.values())
    name = max(errors, key=errors.__getitem__)
    by_operation = contributions(part)
    operation = max(by_operation, key=by_operation.__getitem__)
    return (
        f"Costliest rounding in {part['format']}: {name}, {percent(errors[name] ** 2 / squares)} of the squared error "
        f"at the logits; costliest kind: {operation}, {percent(by_operation[operation] ** 2 / squares)}."
    )


def _amplifier(part: Result) -> str:
    growing = [point for point in part["forward"] if point["growth"] is not None]
    steepest = max(growing, key=lambda point: point["growth"])
    norm, sums = ([p["growth"] for p in growing if p["operation"] == operation] for operation in ("LayerNorm", "sum"))
    return (
        f"Largest growth of an error within one operation: × {steepest['growth']:.1f}, {steepest['operation']} "
        f"({steepest['name']}). LayerNorm: × {min(norm):.2f} to {max(norm):.2f}; sums with the residual stream: "
        f"× {min(sums):.2f} to {max(sums):.2f}."
    )


def _depth(result: Result) -> str:
    exponents = ", ".join(f"{line['format']} {line['exponent']:.2f}" for line in result["depth"] if line["exponent"])
    return f"Error behind L blocks grows like L^p, p = {exponents} (√L is 0.5)."


def _headroom(result: Result, part: Result) -> str:
    broken = first_broken(part["forward"]) or first_broken(part["backward"])
    if broken:
        return f"{part['format']} breaks first at {broken['name']}."
    largest = next(format["largest"] for format in result["formats"] if format["name"] == part["format"])
    highest = max(part["forward"], key=lambda point: point["largest"])
    return (
        f"Nothing overflows in {part['format']}; the largest value, {scientific(highest['largest'])} at "
        f"{highest['name']}, could grow × {scientific(largest / highest['largest'])}."
    )


def _scaling(part: Result) -> str:
    lines = {round(math.log2(line["scale"])): line["error"] for line in part["loss_scales"]}
    sound = {power: error for power, error in lines.items() if error is not None}
    if not sound:
        return f"No loss scale keeps the gradients of {part['format']} finite."
    best = min(sound.values())
    if sound == lines and max(lines.values()) <= 1.05 * best:
        return (
            f"Gradient error in {part['format']}: {scientific(best)} at every loss scale from 2^{min(lines)} to "
            f"2^{max(lines)}."
        )
    good = [power for power, error in sound.items() if error <= 1.05 * best]
    where = f"at 2^{good[0]}" if len(good) == 1 else f"from 2^{min(good)} to 2^{max(good)}"
    return (
        f"Gradient error in {part['format']}: {scientific(lines[0])} without loss scaling, {scientific(lines[-8])} at "
        f"a scale of 2^-8, {scientific(best)} {where}."
    )


def _scores(result: Result) -> str:
    base, *others = result["accuracy"]
    parts = []
    for line in others:
        difference = "not finite"
        if line["loss"] is not None:
            difference = (
                f"{signed(line['difference']['mean'], 4)} nats, {percent(line['same_best'])} the same best piece"
            )
        parts.append(f"{line['name']} {difference}")
    return f"Held-out loss {base['loss']:.4f} in float32; {'; '.join(parts)}."


def _trainings(result: Result) -> list[str]:
    curves = result["training"]["curves"]
    sentences = []
    for rate in dict.fromkeys(curve["rate"] for curve in curves):
        base, *others = [curve for curve in curves if curve["rate"] == rate]
        parts = []
        for curve in others:
            difference = "not finite" if curve["final"] is None else signed(curve["final"] - base["final"], 3)
            parts.append(f"{curve['label']}: {difference}")
        steps = result["training"]["steps"]
        sentences.append(
            f"{steps} steps at rate {rate:g} end at {base['final']:.3f} nats in float32; {'; '.join(parts)}."
        )
    return sentences
