"""A fine-tuning beside its floors, where it errs, and what it forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import between, duration, number, percent, signed, within
from mini_bert.reports.table import NOTHING, Table

_METRICS = {"accuracy": "accuracy", "f1": "F1", "matthews": "Matthews", "pearson": "Pearson", "spearman": "Spearman"}
_LONGEST_TEXT = 90
"""Letters of a text that is shown."""
_FEW_UPDATES = 100
"""In fewer, a new classifier learns next to nothing, however good the encoder is."""


def finetuning_tables(result: Mapping[str, Any]) -> list[Table]:
    """The arms and floors; the grid, where there was one; where the first seed's model errs."""
    return [
        _arms(result),
        *([_grid(result)] if result["grid"] else []),
        labelled_table(result["first_seed"], "First seed's model on the dev set"),
        *error_tables(result["errors"]),
    ]


def labelled_table(result: Mapping[str, Any], title: str = "Labelled texts") -> Table:
    """Every score of one model on one set, beside what needs no model."""
    blind = result.get("majority") or result["mean"]
    rows = tuple(
        (label, within(result[name], result[f"{name}_interval"], 3), number(blind.get(name), 3))
        for name, label in _METRICS.items()
        if name in result
    )
    loss = ("loss", number(result["loss"], 4), number(blind.get("loss"), 4) if "loss" in blind else NOTHING)
    notes = []
    if result["classes"]:
        of_f1 = (
            f"; of F1, always '{blind['f1_class']}'" if blind.get("f1_class", blind["class"]) != blind["class"] else ""
        )
        notes.append(f"Blind: always '{blind['class']}', the most frequent of these very texts{of_f1}.")
        for name, line in zip(result["classes"], result["confusion"], strict=True):
            called = ", ".join(f"{n:,} {other}" for n, other in zip(line, result["classes"], strict=True))
            notes.append(f"{name}: called {called}.")
    else:
        notes.append("Blind: always the mean of these very scores. Loss is the mean squared error.")
    return Table(
        f"{title}: {result['task']}, {result['n']:,} texts", ("", "model", "blind"), (*rows, loss), tuple(notes)
    )


def error_tables(result: Mapping[str, Any]) -> list[Table]:
    """Groups of texts, and the worst cases."""
    measure, scale = result["measure"], 100 if result["measure"] == "accuracy" else 1
    decimals, unit = (1, " %") if scale == 100 else (2, "")
    rows = tuple(
        (
            f"{group['pattern']}: {group['group']}" + _range(group),
            f"{group['n']:,}",
            within(group["value"], group["interval"], decimals, scale, unit),
        )
        for group in result["groups"]
    )
    worst = tuple(
        (
            _short(case["text"] if case["pair"] is None else f"{case['text']} / {case['pair']}"),
            _label(case["label"]),
            _label(case["given"]),
            percent(case["probability"]) if "probability" in case else NOTHING,
        )
        for case in result["worst"]
    )
    return [
        Table("Where it errs", ("texts", "n", measure), rows, ("Groups overlap in what causes them.",)),
        Table("Worst cases", ("text", "right", "given", "probability"), worst, left=(0, 1, 2)),
    ]


def forgetting_table(result: Mapping[str, Any]) -> Table:
    """Before and after, for masks and probes."""
    masked_lm = result["masked_lm"]
    ends = (number(masked_lm[when]["loss"]) for when in ("before", "after"))
    rows = [("masked language modelling, nats", *ends, _rise(masked_lm))]
    rows += [(name, percent(p["before"]), percent(p["after"]), NOTHING) for name, p in result["probes"].items()]
    return Table(
        f"What fine-tuning forgot ({result['masked']:,} held-out masks)",
        ("", "before", "after", "rise, 95 %"),
        tuple(rows),
        ("The rise is paired, token by token.",),
    )


def remedies_table(result: Mapping[str, Any]) -> Table:
    """What each way learned, and what it forgot."""
    first = result["ways"][0]
    probes = list(first["probes"])
    loss = number(first["masked_lm"]["before"]["loss"])
    before = ("before", NOTHING, loss, NOTHING, *(percent(first["probes"][name]["before"]) for name in probes))
    rows = tuple(
        (
            way["way"].replace("-", " "),
            number(way["selection"]),
            number(way["masked_lm"]["after"]["loss"]),
            _rise(way["masked_lm"]),
            *(percent(way["probes"][name]["after"]) for name in probes),
        )
        for way in result["ways"]
    )
    metric = _METRICS[result["metric"]]
    return Table(
        f"Forgetting and two remedies: {result['task']}",
        ("", f"{metric}, selection", "loss at masks", "rise", *probes),
        (before, *rows),
        (
            f"Loss in nats, at {first['masked']:,} held-out masks; its rise is paired, token by token. Lower rate: "
            f"{result['lower']:g} times that of the others. Replay: rows of running text with masks in every batch.",
        ),
    )


def _arms(result: Mapping[str, Any]) -> Table:
    first, rows, strong = result["first_seed"], [], 0
    blind = first.get("majority") or first["mean"]
    always = blind.get("f1_class", blind.get("class")) if result["metric"] == "f1" else blind.get("class")
    rows.append(
        (
            f"always '{always}'" if always else "always the mean",
            number(blind[result["metric"]]),
            *[NOTHING] * 4,
        )
    )
    words = result["bag_of_words"]
    if "missing" not in words:
        rows.append(("bag of words", number(words["score"]), between(words["interval"]), *[NOTHING] * 3))
    for arm in reversed(result["arms"]):
        strong = len(rows)
        trials = arm["trials"]
        rows.append(
            (
                arm["name"],
                number(arm["mean"]),
                between(trials[0]["interval"]),
                between(arm["interval"]) if len(trials) > 1 else NOTHING,
                ", ".join(str(trial["epoch"]) for trial in trials),
                f"{arm['recipe']['batch_size']} × {arm['recipe']['lr']:g}",
            )
        )
    count, examples = len(result["arms"][0]["trials"]), result["examples"]
    seconds = sum(trial["seconds"] for trial in result["arms"][0]["trials"]) / count
    notes = [
        f"{examples['train']:,} examples learned from, {examples['selection']:,} to choose epoch and recipe by, "
        f"{examples['dev']:,} scored once. {count} seed{'s' * (count != 1)}, {duration(seconds)} each.",
        "Over texts: the 95 % interval of the first seed's score on these texts. Over seeds: that of the mean.",
        *_hardly_trained(result),
        *_all_alike(first),
        *_learned_by_heart(examples),
        *([words["missing"]] if "missing" in words else []),
    ]
    for arm in result["arms"][1:]:
        minus = arm["model_minus_this"]
        difference = f"{signed(minus['mean'])} [{between(minus['interval'])}]"
        notes.append(f"Model minus '{arm['name']}', paired by seed: {difference}.")
    return Table(
        f"Fine-tuning: {result['task']}, {_METRICS[result['metric']]}",
        ("", "mean", "over texts", "over seeds", "epochs chosen", "batch × rate"),
        tuple(rows),
        tuple(notes),
        strong=(strong,),
    )


def _hardly_trained(result: Mapping[str, Any]) -> list[str]:
    epochs = len(result["arms"][0]["trials"][0]["epochs"])
    updates = epochs * -(-result["examples"]["train"] // result["recipe"]["batch_size"])
    if updates >= _FEW_UPDATES:
        return []
    return [
        f"Only {updates} updates: hardly anything is learned by so few. More --epochs or a smaller --train.batch-size "
        "make more of them."
    ]


def _all_alike(scored: Mapping[str, Any]) -> list[str]:
    if scored.get("majority", {}).get("accuracy") != 1:
        return []
    blind = scored["majority"]["class"]
    return [f"All texts that are scored are '{blind}': these scores say nothing. Give a --dev-file with both."]


def _learned_by_heart(examples: Mapping[str, int]) -> list[str]:
    if not examples["dev_in_training"]:
        return []
    known, scored = examples["dev_in_training"], examples["dev"]
    return [f"{known:,} of the {scored:,} texts that are scored stand in the training set too."]


def _grid(result: Mapping[str, Any]) -> Table:
    rows = tuple(
        (str(one["batch_size"]), f"{one['lr']:g}", str(one["epoch"]), number(one["selection"]))
        for one in sorted(result["grid"], key=lambda one: -one["selection"])
    )
    return Table(
        "Grid, on the part of the training set that is kept to choose by",
        ("batch", "rate", "best epoch", _METRICS[result["metric"]]),
        rows,
        strong=(0,),
    )


def _rise(masked_lm: Mapping[str, Any]) -> str:
    """Of the loss at masks, with its interval."""
    return f"{signed(masked_lm['rise'])} [{between(masked_lm['interval'])}]"


def _range(group: Mapping[str, Any]) -> str:
    return f" ({group['from']:.3g}–{group['to']:.3g})" if "from" in group else ""


def _label(value: Any) -> str:
    return number(value, 2) if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
