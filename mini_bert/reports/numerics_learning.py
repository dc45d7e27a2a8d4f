"""Fewer bits in training and on held-out text as tables: gradients, loss scales, trainings, scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mini_bert.reports.numerics_forward import narrow_passes, scientific, signed_or_zero
from mini_bert.reports.quantities import between, number, percent
from mini_bert.reports.table import NOTHING, Table

Result = Mapping[str, Any]


def gradients_table(result: Result) -> Table:
    """Error of the parameters' gradients by component and format, loss not scaled."""
    passes, narrow = result["passes"], narrow_passes(result)
    rows = []
    for group in dict.fromkeys(component(line["name"]) for line in passes[0]["gradients"]):
        of_group = {
            pass_["format"]: [line for line in pass_["gradients"] if component(line["name"]) == group]
            for pass_ in passes
        }
        errors = (scientific(_together(lines)) for lines in of_group.values())
        rows.append((group, *errors, *(_worst(of_group[pass_["format"]]) for pass_ in narrow)))
    return Table(
        "Gradients of the parameters, loss not scaled: ‖ĝ − g‖ / ‖g‖",
        ("", *(pass_["format"] for pass_ in passes), *(f"worst tensor in {pass_['format']}" for pass_ in narrow)),
        tuple(rows),
        left=(0, *range(len(passes) + 1, len(passes) + len(narrow) + 1)),
    )


def scales_table(result: Result, pass_: Result) -> Table:
    """What loss scales do in one format."""
    rows = tuple(
        (
            f"2^{round(math.log2(line['scale']))}",
            *_shares(line["intermediates"]),
            *_shares(line["parameters"]),
            scientific(line["error"]),
        )
        for line in pass_["loss_scales"]
    )
    sound = [i for i, line in enumerate(pass_["loss_scales"]) if line["error"] is not None]
    best = min((pass_["loss_scales"][i]["error"] for i in sound), default=math.inf)
    good = tuple(i for i in sound if pass_["loss_scales"][i]["error"] <= 1.05 * best)
    masked = result["text"]["masked"]
    return Table(
        f"Loss scales in {pass_['format']}",
        ("scale", "intermediates: zero", "subnormal", "infinite", "parameters: zero", "subnormal", "infinite", "error"),
        rows,
        (
            "Of the gradients that are not zero in exact arithmetic. Error: of the whole gradient, unscaled again.",
            f"The mean is over {masked:,} masked tokens. A batch 16 times as large is like a scale of 2^-4 here.",
        ),
        strong=good if len(good) < len(rows) else (),
    )


def accuracy_table(result: Result) -> Table:
    """Held-out scores by format."""
    rows = tuple(
        (
            line["name"],
            number(line["loss"], 4),
            signed_or_zero(line["difference"]["mean"], 4) if line.get("difference") else NOTHING,
            between(line["difference"]["interval"], 4) if line.get("difference") else NOTHING,
            percent(line.get("top1")),
            percent(line["same_best"]),
        )
        for line in result["accuracy"]
    )
    masked = next((line["n_masked"] for line in result["accuracy"] if line.get("n_masked")), 0)
    return Table(
        f"Held-out text: {masked:,} masked tokens, the same for all",
        ("", "loss, nats", "minus float32's", "95 %, paired", "top-1", "same piece best"),
        rows,
        (
            "Weights alone: stored in the format, computed in float32. Sums too: softmax and LayerNorm with every step "
            "in the format.",
        ),
        strong=(0,),
    )


def trainings_tables(result: Result) -> list[Table]:
    """The same training by several recipes, a table a learning rate."""
    training = result["training"]
    rates = list(dict.fromkeys(curve["rate"] for curve in training["curves"]))
    return [_trainings_table(training, rate, last=rate == rates[-1]) for rate in rates]


def _trainings_table(training: Result, rate: float, last: bool) -> Table:
    rows = []
    for curve in training["curves"]:
        if curve["rate"] == rate:
            kept = curve["weights"] != "float32"
            moved = (percent(_mean(curve["lost"])), percent(curve["lost_by_size"])) if kept else (NOTHING, NOTHING)
            rows.append((curve["label"], number(curve["final"]), number(curve["held_out"]), *moved))
    model = training["model"]
    as_if = next((curve["as_if_masked"] for curve in training["curves"] if curve["as_if_masked"]), None)
    notes = (
        f"Loss: mean of the last {training['last']} steps, nats. Held out: in the format it was trained in.",
        "Lost: of the updates that are not zero, the share that left its weight as it was, by number and by norm; mean "
        "over all steps. Rounded at random they are not lost: their sum arrives in the long run.",
        *([f"BERT's batch has {as_if:,} masked tokens; gradients in a step are as small as there."] if as_if else []),
    )
    return Table(
        f"{training['steps']} steps of a small model (L={model['num_hidden_layers']} H={model['hidden_size']}, "
        f"{training['rows']} rows a batch) at rate {rate:g}",
        ("", "loss", "held out", "updates lost", "by norm"),
        tuple(rows),
        notes if last else (),
        strong=(0,),
    )


def component(name: str) -> str:
    """Where a parameter belongs: `embeddings`, `block 0`, …, `head`.

    >>> component("W_Q_2"), component("beta_embeddings"), component("W_mlm")
    ('block 2', 'embeddings', 'head')
    """
    last = name.rpartition("_")[2]
    return f"block {last}" if last.isdigit() else "embeddings" if "embeddings" in name else "head"


def _together(lines: Sequence[Result]) -> float | None:
    """Error of several tensors as one vector."""
    if any(line["error"] is None for line in lines):
        return None
    squares = [(line["error"] * line["norm"]) ** 2 for line in lines]
    return math.sqrt(sum(squares) / sum(line["norm"] ** 2 for line in lines))


def _worst(lines: Sequence[Result]) -> str:
    worst = max(lines, key=lambda line: math.inf if line["error"] is None else line["error"])
    return f"{worst['name']} {scientific(worst['error'])}"


def _shares(damage: Result) -> tuple[str, str, str]:
    zero, subnormal = (percent(damage[key] / damage["elements"]) for key in ("underflow", "subnormal"))
    return zero, subnormal, f"{damage['overflow']:,}"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
