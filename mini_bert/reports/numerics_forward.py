"""Fewer bits in the forward pass as tables: formats, error by layer and operation, range, depth, narrow sums."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mini_bert.reports.quantities import percent, signed
from mini_bert.reports.table import NOTHING, Table

Result = Mapping[str, Any]

_DEPTHS = (1, 2, 4, 8, 16, 32)


def formats_table(result: Result) -> Table:
    """What each format can hold."""
    asked = {pass_["format"] for pass_ in result["passes"]}
    rows = tuple(
        (
            format["name"],
            f"1 + {format['exponent_bits']} + {format['mantissa_bits']}",
            scientific(format["largest"]),
            scientific(format["smallest_normal"]),
            scientific(format["smallest"]),
            f"2^-{format['mantissa_bits']} = {scientific(format['epsilon'])}",
        )
        for format in result["formats"]
    )
    return Table(
        "Formats",
        ("", "sign + exponent + mantissa", "largest", "smallest normal", "smallest", "ε: from 1 to the next"),
        rows,
        strong=tuple(i for i, format in enumerate(result["formats"]) if format["name"] in asked),
    )


def constants_table(result: Result) -> Table:
    """Constants of the code, as each format has them."""
    names = [pass_["format"] for pass_ in result["passes"]]
    rows = tuple(
        (
            line["name"],
            f"{line['value']:g}",
            *(_infinite(line["as"][name], line["value"]) for name in names),
        )
        for line in result["constants"]
    )
    return Table("Constants that stand in every BERT", ("", "meant", *names), rows)


def layers_table(result: Result) -> Table:
    """Error along the residual stream, by format."""
    passes, native = result["passes"], result["native_float32"]
    rows = tuple(
        (
            point["name"],
            *(scientific(pass_["forward"][i]["error"]) for pass_ in passes),
            scientific(native[i]["error"]),
        )
        for i, point in _stream(result)
    )
    return Table(
        f"Error against float64 on {result['text']['tokens']:,} tokens: ‖x̂ − x‖ / ‖x‖",
        ("", *(pass_["format"] for pass_ in passes), "NumPy's float32"),
        rows,
        (
            "Parameters rounded once, every named intermediate rounded when it is complete; sums within an operation "
            "are exact. NumPy's float32 rounds inside of sums too.",
        ),
    )


def ulps_table(result: Result) -> Table:
    """The same in units in the last place."""
    passes = result["passes"]
    rows = tuple(
        (point["name"], *(_ulps(pass_["forward"][i]["ulps"]) for pass_ in passes)) for i, point in _stream(result)
    )
    return Table(
        "The same in ULPs, element by element: median, 99 %, largest",
        ("", *(pass_["format"] for pass_ in passes)),
        rows,
        ("An ULP is the distance between neighbours in the format at x; near zero it is tiny, hence the largest.",),
    )


def operations_table(result: Result, pass_: Result) -> Table:
    """Own and inherited error, growth and contribution by operation, in one format."""
    epsilon = format_of(result, pass_["format"])["epsilon"]
    total = contributions(pass_)
    squares = sum(value**2 for value in total.values())
    rows = []
    for operation in dict.fromkeys(point["operation"] for point in pass_["forward"]):
        points = [point for point in pass_["forward"] if point["operation"] == operation]
        growth = [point["growth"] for point in points if point["growth"] is not None]
        rows.append(
            (
                operation,
                _in(epsilon, max(_numbers(point["own"] for point in points), default=None)),
                _in(epsilon, max(_numbers(point["inherited"] for point in points), default=None)),
                NOTHING
                if not growth
                else f"{min(growth):.2f} – {max(growth):.2f}"
                if len(growth) > 1
                else f"{growth[0]:.2f}",
                _in(epsilon, total[operation]),
                percent(total[operation] ** 2 / squares),
            )
        )
    rows.append(("rounded parameters", NOTHING, NOTHING, NOTHING, _in(epsilon, total["parameters"]),
                 percent(total["parameters"] ** 2 / squares)))  # fmt: skip
    logits = pass_["forward"][-1]["error"]
    worst = max(range(len(rows)), key=lambda i: total[rows[i][0]] if rows[i][0] in total else total["parameters"])
    return Table(
        f"Which operation, in {pass_['format']}: errors in units of ε",
        ("", "own rounding", "inherited", "growth", "alone, at the logits", "share"),
        tuple(rows),
        (
            "Own: rounding the exact result. Inherited: before its own rounding. Both: the largest over all blocks. "
            "Growth: inherited / the largest error that came in, smallest and largest over all blocks.",
            f"Alone: the error at the logits when only this is rounded. All of these together, as if independent: "
            f"√Σ = {math.sqrt(squares) / epsilon:.2f} ε; measured with everything rounded: {_in(epsilon, logits)} ε.",
        ),
        strong=(worst,),
    )


def contributions(pass_: Result) -> dict[str, float]:
    """Operation (or `parameters`) → error at the logits when it alone is rounded, its places added as independent."""
    operation = {point["name"]: point["operation"] for point in pass_["forward"]}
    squares: dict[str, float] = {}
    for name, error in pass_["alone"].items():
        key = operation.get(name, name)
        squares[key] = squares.get(key, 0.0) + (math.inf if error is None else error) ** 2
    return {key: math.sqrt(value) for key, value in squares.items()}


def range_table(result: Result) -> Table:
    """What left the range, and how far the rest is from leaving it."""
    rows = []
    for pass_ in result["passes"]:
        largest = format_of(result, pass_["format"])["largest"]
        for direction in ("forward", "backward"):
            points = pass_[direction]
            highest = max(points, key=lambda point: point["largest"])
            broken = first_broken(points)
            rows.append(
                (
                    f"{pass_['format']}, {direction}",
                    *_counts(points),
                    scientific(highest["largest"]),
                    highest["name"],
                    f"breaks at {broken['name']}" if broken else f"× {scientific(largest / highest['largest'])}",
                )
            )
    return Table(
        "Range: what became infinite, zero, or subnormal",
        ("", "infinite", "zero", "subnormal", "largest", "at", "room"),
        tuple(rows),
        (
            "Backward: gradients of the mean loss, not scaled. Zero: was not zero before it was rounded. Largest: in "
            "exact arithmetic. Room: by how much that could grow.",
        ),
        left=(0, 5),
    )


def depth_table(result: Result) -> Table:
    """Error behind each of many blocks."""
    blocks = len(result["depth"][0]["errors"])
    rows = tuple(
        (
            f"{L}",
            *(_in(format_of(result, line["format"])["epsilon"], line["errors"][L - 1]) for line in result["depth"]),
        )
        for L in _DEPTHS
        if blocks >= L
    )
    return Table(
        f"Error behind block L of {blocks}, freshly initialised, in units of ε",
        ("L", *(line["format"] for line in result["depth"])),
        rows,
        (
            f"Error ∝ L^p, over the later half: p = {depth_exponents(result)}. Independent errors would give 0.5, "
            "aligned ones 1.",
        ),
    )


def depth_exponents(result: Result) -> str:
    """By format: the p of an error that grows like L^p."""
    return ", ".join(f"{line['format']} {line['exponent']:.2f}" for line in result["depth"] if line["exponent"])


def sums_table(result: Result) -> Table:
    """The same operations with wide and with narrow sums."""
    passes = result["passes"]
    operations = [line["operation"] for line in passes[0]["narrow_sums"]["operations"]]
    rows = []
    for i, operation in enumerate(operations):
        lines = [pass_["narrow_sums"]["operations"][i] for pass_ in passes]
        rows.append((operation, *(scientific(line[key]) for line in lines for key in ("wide_sums", "narrow_sums"))))
    logits = ((pass_["forward"][-1]["error"], pass_["narrow_sums"]["logits"]) for pass_ in passes)
    rows.append(("logits", *(scientific(error) for errors in logits for error in errors)))
    return Table(
        "Sums within an operation: wide, and narrow too",
        ("error", *(text for pass_ in passes for text in (f"{pass_['format']}, wide", "narrow"))),
        tuple(rows),
        (
            "Operations on exact inputs rounded to the format. Narrow: every step rounded, sums from the left. Logits: "
            "the whole pass, softmax and LayerNorm with such sums.",
        ),
    )


def large_inputs_table(result: Result) -> Table:
    """How large activations break LayerNorm."""
    passes = [pass_ for pass_ in result["passes"] if pass_["format"] != "float32"]
    rows = tuple(
        (
            f"{line['factor']:,.0f}",
            *(
                percent(pass_["narrow_sums"]["large_inputs"][i][key])
                for pass_ in passes
                for key in ("wide_sums", "narrow_sums")
            ),
        )
        for i, line in enumerate(result["passes"][0]["narrow_sums"]["large_inputs"])
    )
    return Table(
        "LayerNorm of inputs that are so many times as large: broken rows",
        ("factor", *(text for pass_ in passes for text in (f"{pass_['format']}, wide sums", "narrow sums"))),
        rows,
        ("In exact arithmetic the factor changes nothing. Broken: not finite, or off by more than half.",),
    )


def narrow_passes(result: Result) -> list[Result]:
    """The passes in formats narrower than float32, whose every rounding was also tried alone."""
    return [pass_ for pass_ in result["passes"] if pass_["alone"] is not None]


def format_of(result: Result, name: str) -> Result:
    """What the format of this name can hold."""
    found: Result = next(format for format in result["formats"] if format["name"] == name)
    return found


def first_broken(points: Iterable[Result]) -> Result | None:
    """The first point that is no longer finite."""
    return next((point for point in points if point["error"] is None), None)


def scientific(value: float | None) -> str:
    """Two figures; a value that JSON could not hold is infinite.

    >>> scientific(0.0063079), scientific(33.1), scientific(6.5504e4), scientific(3.4e38), scientific(None)
    ('0.0063', '33', '65,504', '3.4e+38', '∞')
    """
    if value is None:
        return "∞"
    return f"{value:,.0f}" if 10 <= abs(value) < 1e6 else f"{value:.2g}"


def signed_or_zero(value: float, decimals: int) -> str:
    """A difference with its sign; what rounds to nothing has none.

    >>> signed_or_zero(0.21432, 3), signed_or_zero(-0.00002, 4)
    ('+0.214', '0.0000')
    """
    written = signed(value, decimals)
    return written if any(digit in written for digit in "123456789") else written[1:]


def _stream(result: Result) -> list[tuple[int, Result]]:
    """The points along the residual stream, with their places among all points of the forward pass."""
    return [
        (i, point)
        for i, point in enumerate(result["passes"][0]["forward"])
        if point["name"] == "logits"
        or (point["operation"] == "LayerNorm" and not point["name"].endswith("attention.output"))
    ]


def _ulps(ulps: Result) -> str:
    return f"{scientific(ulps['median'])}, {scientific(ulps['most'])}, {scientific(ulps['largest'])}"


def _counts(points: Iterable[Result]) -> tuple[str, str, str]:
    damages = [point["damage"] for point in points]
    elements = sum(damage["elements"] for damage in damages)
    overflow, *shares = (sum(damage[key] for damage in damages) for key in ("overflow", "underflow", "subnormal"))
    return f"{overflow:,}", *(f"{100 * count / elements:.2g} %" if count else "0" for count in shares)  # type: ignore[return-value]


def _in(unit: float, value: float | None) -> str:
    return "∞" if value is None or not math.isfinite(value) else f"{value / unit:.2f}"


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _infinite(value: float | None, meant: float) -> str:
    return scientific(value) if value is not None else "−∞" if meant < 0 else "∞"
