"""The part-of-speech probe as tables and as a picture: the layers, the controls, which tag is taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.reports.drawing import BLUE, GREY, ORANGE, drawn
from mini_bert.reports.quantities import between, difference, duration, percent, within
from mini_bert.reports.table import NOTHING, Table

LABELS = {
    "model": "Mini-BERT",
    "token": "pieces' own vectors",
    "untrained": "the same, untrained",
    "majority_per_word": "commonest tag of the word",
    "majority_per_type": "the same, as the tokenizer reads it",
    "majority": "commonest tag",
}
"""Names of the table's lines."""

_WIDEST_CONFUSION = 20


def part_of_speech_tables(result: Mapping[str, Any]) -> list[Table]:
    """The lines on test, the layers on dev, the learning curve, the tags, and the confusion matrix of up to 20 tags."""
    tables = [_lines_table(result), _layers_table(result), _curve_table(result), _tags_table(result)]
    if len(result["confusion"]["tags"]) <= _WIDEST_CONFUSION:
        tables.append(confusion_table(result))
    return tables


def confusion_table(result: Mapping[str, Any]) -> Table:
    """Of the words of each tag (a row), how many of a hundred are called what."""
    tags, counts = result["confusion"]["tags"], np.array(result["confusion"]["counts"])
    rows = []
    for tag, row in zip(tags, counts, strict=True):
        shares = (100 * row / max(1, row.sum())).tolist()
        rows.append((tag, *("" if not share else "<1" if share < 1 else f"{share:.0f}" for share in shares)))
    return Table("Of 100 words of a tag (row), called …", ("", *tags), tuple(rows))


def part_of_speech_picture(result: Mapping[str, Any], path: Path) -> Path:
    """Write the picture (`.svg` or `.png`): accuracy by layer, the learning curve, and the confusion matrix.

    Raises:
        InvalidInputError: another ending.
        MissingExtraError: matplotlib is not installed.
    """
    with drawn(path, width=12, height=5.6, font_size=9) as figure:
        _draw_layers(figure.add_axes((0.055, 0.59, 0.34, 0.33)), result)
        _draw_curve(figure.add_axes((0.055, 0.09, 0.34, 0.33)), result)
        _draw_confusion(figure.add_axes((0.5, 0.15, 0.42, 0.77)), result)
    return path


def _lines_table(result: Mapping[str, Any]) -> Table:
    treebank, leads = result["treebank"], {line["name"]: line for line in result["differences"]}
    rows = []
    for line in result["table"]:
        lead = leads.get(line["name"])
        rows.append(
            (
                LABELS[line["name"]],
                _place(line),
                within(line["accuracy"], line["interval"], 1, 100, " %"),
                percent(line["known"]["accuracy"]),
                percent(line["unknown"]["accuracy"]),
                NOTHING if lead is None else difference(lead["difference"], lead["interval"], 1, 100),
            )
        )
    words, sentences = treebank["words"], treebank["sentences"]
    tested = treebank["test_file"] or treebank["name"]
    title = f"Parts of speech by a linear probe: {words['test']:,} words of {tested}"
    unknown = result["table"][0]["unknown"]["n"] / words["test"]
    selectivity = result["control"]["selectivity"]
    notes = [
        f"Trained on {words['train']:,} words in {sentences['train']:,} sentences of {treebank['name']}; layer, "
        "pooling and strength chosen on dev. ± is the larger half of the 95 % interval, over sentences.",
        f"Unknown words ({percent(unknown)} of those tested) do not occur in training; pieces [UNK] in "
        f"{percent(treebank['unk_share'])}.",
        f"Control task (a random tag for each word): {percent(result['control']['accuracy'])}; selectivity "
        f"{100 * selectivity['difference']:.1f} points ({between(selectivity['interval'], 1, 100)}).",
        f"Took {duration(result['seconds'])}.",
    ]
    if not result["converged"]:
        notes.insert(0, "Some probes were stopped before they were done: their figures could become better.")
    return Table(
        title + (" (quick)" if result["quick"] else ""),
        ("", "layer, pooling", "accuracy", "known words", "unknown", "Mini-BERT leads by"),
        tuple(rows),
        tuple(notes),
        left=(0, 1),
        strong=(0,),
    )


def _layers_table(result: Mapping[str, Any]) -> Table:
    best = result["best"]
    found = {(line["of"], line["layer"], line["pooling"]): line for line in result["layers"]}
    layers = [layer for of, layer, pooling in found if of == "trained" and pooling == best["pooling"]]
    rows = []
    for layer in sorted(layers, key=lambda layer: -1 if layer == "token" else layer):
        first, mean = (found.get(("trained", layer, pooling)) for pooling in ("first", "mean"))
        chosen = found["trained", layer, best["pooling"]]
        untrained = found.get(("untrained", layer, best["pooling"]))
        rows.append(
            (
                "pieces' own vectors" if layer == "token" else f"layer {layer}",
                *(
                    NOTHING if line is None else within(line["accuracy"], line["interval"], 1, 100, " %")
                    for line in (first, mean)
                ),
                percent(chosen["control"]["accuracy"]),
                f"{100 * chosen['selectivity']['difference']:.1f}",
                percent(untrained and untrained["accuracy"]),
                f"{chosen['strength']:g}",
            )
        )
    strong = tuple(i for i, row in enumerate(rows) if row[0] == f"layer {best['layer']}")
    return Table(
        f"By layer, on dev, trained on {result['treebank']['searched_sentences']:,} sentences",
        ("", "first piece", "mean of pieces", "control task", "selectivity", "untrained", "C"),
        tuple(rows),
        (f"Layer 0 is the embeddings with position. From the control task on: {best['pooling']} of the pieces.",),
        strong=strong,
    )


def _curve_table(result: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{point['sentences']:,}",
            f"{point['words']:,}",
            within(point["accuracy"], point["interval"], 1, 100, " %"),
            percent(point["majority_per_word"]["accuracy"]),
        )
        for point in result["learning_curve"]
    )
    return Table(
        "By number of training sentences", ("sentences", "words", "Mini-BERT", LABELS["majority_per_word"]), rows
    )


def _tags_table(result: Mapping[str, Any]) -> Table:
    tags, counts = result["confusion"]["tags"], np.array(result["confusion"]["counts"])
    rows = []
    for number, line in enumerate(result["tags"]):
        if not line["n"]:
            continue
        wrong = counts[number].copy()
        wrong[number] = 0
        often = [other for other in np.argsort(-wrong, kind="stable")[:2] if wrong[other]]
        taken = ", ".join(f"{tags[other]} {100 * wrong[other] / line['n']:.1f} %" for other in often)
        rows.append(
            (line["tag"], f"{line['n']:,}", *(percent(line[key]) for key in ("precision", "recall", "f1")), taken)
        )
    columns = ("tag", "words", "precision", "recall", "F1", "most often taken for")
    return Table("By tag", columns, tuple(rows), left=(0, 5))


def _place(line: Mapping[str, Any]) -> str:
    if line["layer"] is None:
        return ""
    return f"{'before 0' if line['layer'] == 'token' else line['layer']}, {line['pooling']}"


def _draw_layers(axes: Any, result: Mapping[str, Any]) -> None:
    kinds = [("trained", BLUE), ("untrained", GREY)]
    for (of, color), (pooling, style) in product(kinds, [("mean", "-"), ("first", ":")]):
        lines = [line for line in result["layers"] if (line["of"], line["pooling"]) == (of, pooling)]
        lines = [line for line in lines if line["layer"] != "token"]
        if not lines:
            continue
        x, y = [line["layer"] for line in lines], [100 * line["accuracy"] for line in lines]
        axes.plot(x, y, color=color, linestyle=style, marker="o", label=f"{of}, {pooling}")
        if of == "trained" and pooling == result["best"]["pooling"]:
            control = [100 * line["control"]["accuracy"] for line in lines]
            axes.plot(x, control, color=ORANGE, marker="o", label="control task")
    axes.set(xlabel="layer", ylabel="% on dev", title="Accuracy by layer")
    axes.set_xticks(sorted({line["layer"] for line in result["layers"] if line["layer"] != "token"}))
    axes.legend(frameon=False, fontsize=8)


def _draw_curve(axes: Any, result: Mapping[str, Any]) -> None:
    curve = result["learning_curve"]
    x = [point["sentences"] for point in curve]
    for points, color, label in (
        (curve, BLUE, LABELS["model"]),
        ([point["majority_per_word"] for point in curve], GREY, LABELS["majority_per_word"]),
    ):
        axes.plot(x, [100 * point["accuracy"] for point in points], color=color, marker="o", label=label)
        low, high = ([100 * point["interval"][end] for point in points] for end in (0, 1))
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set(xscale="log", xlabel="training sentences", ylabel="% on test")
    axes.legend(frameon=False, fontsize=8)


def _draw_confusion(axes: Any, result: Mapping[str, Any]) -> None:
    counts = np.array(result["confusion"]["counts"], float)
    present = np.flatnonzero(counts.sum(axis=1) + counts.sum(axis=0))
    counts, tags = counts[np.ix_(present, present)], [result["confusion"]["tags"][number] for number in present]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    if few := len(tags) <= _WIDEST_CONFUSION:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.005:
                color = "white" if share > 0.35 else "black"
                axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=color)
    axes.set_xticks(range(len(tags)), tags, rotation=90, fontsize=8 if few else 3.5)
    axes.set_yticks(range(len(tags)), tags, fontsize=8 if few else 3.5)
    axes.set(xlabel="called", ylabel="is", title="Of 100 words of a tag")
