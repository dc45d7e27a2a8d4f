"""What fewer bits do, in tables and sentences: draws what `analysis.numerics.run_numerics` returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mini_bert.errors import DataError, nearest
from mini_bert.reports.numerics_forward import (
    constants_table,
    contributions,
    depth_exponents,
    depth_table,
    first_broken,
    format_of,
    formats_table,
    large_inputs_table,
    layers_table,
    narrow_passes,
    operations_table,
    range_table,
    scientific,
    signed_or_zero,
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
    "operations": lambda result: [operations_table(result, pass_) for pass_ in narrow_passes(result)[:1]],
    "depth": lambda result: [depth_table(result)],
    "range": lambda result: [range_table(result)],
    "constants": lambda result: [constants_table(result)],
    "sums": lambda result: [sums_table(result), large_inputs_table(result)],
    "gradients": lambda result: [gradients_table(result)],
    "scales": lambda result: [scales_table(result, pass_) for pass_ in narrow_passes(result)],
    "accuracy": lambda result: [accuracy_table(result)],
    "training": trainings_tables,
}
"""Name of a part of the lab → its tables, in the order of the story."""


def numerics_tables(result: Result) -> list[Table]:
    """All tables, in the order of the story."""
    return [table for tables in PARTS.values() for table in tables(result)]


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
    for pass_ in narrow_passes(result)[:1]:
        sentences += [_costliest(result, pass_), _amplifier(pass_)]
    sentences.append(_depth(result))
    sentences += [_headroom(result, pass_) for pass_ in narrow_passes(result)]
    sentences += [_scaling(pass_) for pass_ in narrow_passes(result)]
    sentences += [_scores(result), *_trainings(result)]
    return sentences


def _logits(result: Result) -> str:
    said = []
    for pass_ in result["passes"]:
        error = pass_["forward"][-1]["error"]
        in_epsilon = "" if error is None else f" ({error / format_of(result, pass_['format'])['epsilon']:.2f} ε)"
        said.append(f"{pass_['format']} {scientific(error)}{in_epsilon}")
    native = scientific(result["native_float32"][-1]["error"])
    return f"Error of the logits against float64: {', '.join(said)}; NumPy's own float32 {native}."


def _costliest(result: Result, pass_: Result) -> str:
    errors = {name: math.inf if error is None else error for name, error in pass_["alone"].items()}
    squares = sum(error**2 for error in errors.values())
    name = max(errors, key=errors.__getitem__)
    by_operation = contributions(pass_)
    operation = max(by_operation, key=by_operation.__getitem__)
    return (
        f"Costliest rounding in {pass_['format']}: {name}, {percent(errors[name] ** 2 / squares)} of the squared error "
        f"at the logits; costliest kind: {operation}, {percent(by_operation[operation] ** 2 / squares)}."
    )


def _amplifier(pass_: Result) -> str:
    growing = [point for point in pass_["forward"] if point["growth"] is not None]
    steepest = max(growing, key=lambda point: point["growth"])
    norm, sums = ([p["growth"] for p in growing if p["operation"] == operation] for operation in ("LayerNorm", "sum"))
    return (
        f"Largest growth of an error within one operation: × {steepest['growth']:.1f}, {steepest['operation']} "
        f"({steepest['name']}). LayerNorm: × {min(norm):.2f} to {max(norm):.2f}; sums with the residual stream: "
        f"× {min(sums):.2f} to {max(sums):.2f}."
    )


def _depth(result: Result) -> str:
    return f"Error behind L blocks grows like L^p, p = {depth_exponents(result)} (√L is 0.5)."


def _headroom(result: Result, pass_: Result) -> str:
    broken = first_broken(pass_["forward"]) or first_broken(pass_["backward"])
    if broken:
        return f"{pass_['format']} breaks first at {broken['name']}."
    largest = format_of(result, pass_["format"])["largest"]
    highest = max(pass_["forward"], key=lambda point: point["largest"])
    return (
        f"Nothing overflows in {pass_['format']}; the largest value, {scientific(highest['largest'])} at "
        f"{highest['name']}, could grow × {scientific(largest / highest['largest'])}."
    )


def _scaling(pass_: Result) -> str:
    lines = {round(math.log2(line["scale"])): line["error"] for line in pass_["loss_scales"]}
    sound = {power: error for power, error in lines.items() if error is not None}
    if not sound:
        return f"No loss scale keeps the gradients of {pass_['format']} finite."
    best = min(sound.values())
    if sound == lines and max(lines.values()) <= 1.05 * best:
        return (
            f"Gradient error in {pass_['format']}: {scientific(best)} at every loss scale from 2^{min(lines)} to "
            f"2^{max(lines)}."
        )
    good = [power for power, error in sound.items() if error <= 1.05 * best]
    where = f"at 2^{good[0]}" if len(good) == 1 else f"from 2^{min(good)} to 2^{max(good)}"
    return (
        f"Gradient error in {pass_['format']}: {scientific(lines[0])} without loss scaling, {scientific(lines[-8])} at "
        f"a scale of 2^-8, {scientific(best)} {where}."
    )


def _scores(result: Result) -> str:
    base, *others = result["accuracy"]
    said = []
    for line in others:
        if line["loss"] is None:
            said.append(f"{line['name']} not finite")
        else:
            nats = signed_or_zero(line["difference"]["mean"], 4)
            said.append(f"{line['name']} {nats} nats, {percent(line['same_best'])} the same best piece")
    return f"Held-out loss {base['loss']:.4f} in float32; {'; '.join(said)}."


def _trainings(result: Result) -> list[str]:
    curves = result["training"]["curves"]
    sentences = []
    for rate in dict.fromkeys(curve["rate"] for curve in curves):
        base, *others = [curve for curve in curves if curve["rate"] == rate]
        said = []
        for curve in others:
            difference = "not finite" if curve["final"] is None else signed_or_zero(curve["final"] - base["final"], 3)
            said.append(f"{curve['label']}: {difference}")
        steps = result["training"]["steps"]
        sentences.append(
            f"{steps} steps at rate {rate:g} end at {base['final']:.3f} nats in float32; {'; '.join(said)}."
        )
    return sentences
