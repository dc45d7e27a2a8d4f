"""The model beside what it has to beat: draws what `evaluation.run.evaluate_run` and `overfit_one_batch` return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import between, duration, figures, number, percent, signed, size, within
from mini_bert.reports.table import NOTHING, Table


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """Loss, perplexity, accuracy and their intervals at the same masked positions, a line a scorer."""
    held_out = result["held_out"]
    rows = tuple(
        (
            line["label"],
            within(line["loss"], line["loss_interval"], 2),
            figures(line["perplexity"]),
            within(line["top1"], line["top1_interval"], 1, 100, " %"),
            percent(line["top5"]),
        )
        for line in result["table"]
    )
    title = f"Held-out masked tokens: {held_out['masked']:,} in {held_out['rows']:,} rows"
    return Table(
        title + (" (quick)" if result["quick"] else ""),
        ("", "loss, nats", "perplexity", "top-1", "top-5"),
        rows,
        tuple(_notes(result)),
        strong=tuple(i for i, line in enumerate(result["table"]) if line["name"] == "model"),
    )


def differences_table(result: Mapping[str, Any]) -> Table:
    """By how many nats the model's loss is lower than each other line's, paired token by token."""
    rows = tuple((line["label"], signed(line["loss"]), between(line["interval"])) for line in result["differences"])
    return Table(
        "Loss of the model minus that of … (nats, paired)",
        ("", "difference", "95 %"),
        rows,
        ("Below zero the model is better. Paired over the same tokens, so narrower than the intervals of the losses.",),
    )


def tasks_table(result: Mapping[str, Any]) -> Table:
    """What the extra tasks reached on held-out rows of their own, beside always giving the more frequent answer."""
    rows = tuple(
        (
            line["task"].replace("_", " "),
            number(line["loss"], 4),
            percent(line["accuracy"]),
            percent(line["guessing"]),
            f"{line['answers']:,}",
        )
        for line in result["tasks"]
    )
    return Table(
        "Extra tasks, on held-out rows of their own",
        ("", "loss, nats", "accuracy", "the more frequent answer", "answers"),
        rows,
    )


def efficiency_table(result: Mapping[str, Any]) -> Table:
    """What a model costs."""
    training = result["training_flops"]
    rows = (
        ("parameters", f"{result['parameters']:,}"),
        ("operations to encode a token", f"{result['flops_a_token']:,.0f}"),
        ("operations of the training", NOTHING if training is None else f"{training:.3g}"),
        (f"tokens encoded a second, {result['threads']} threads", f"{result['tokens_a_second']:,.0f}"),
    )
    return Table("What it costs", ("", ""), rows, (f"{result['processor']}. Operations of matrix products alone.",))


def overfit_table(result: Mapping[str, Any]) -> Table:
    """Whether one batch was learned by heart."""
    row = (
        "passed" if result["passed"] else "NOT PASSED",
        f"{result['steps']:,}",
        number(result["loss"], 4),
        percent(result["accuracy"]),
        f"{result['n_masked']:,}",
    )
    return Table(
        "One batch learned by heart",
        ("", "updates", "loss, nats", "accuracy", "masked tokens"),
        (row,),
        (result["message"],),
    )


def _notes(result: Mapping[str, Any]) -> list[str]:
    baselines, tokens = result["baselines"], result["every_token"]
    untrained = "Masked language modelling was not trained (tasks.masked_lm 0): its head is as it was drawn."
    ngrams = f" (the 5-gram on {baselines['kneser_ney_tokens']:,})" if "kneser_ney_tokens" in baselines else ""
    notes = [
        *([] if result.get("masked_lm", True) else [untrained]),
        "± is the larger half of the 95 % interval, over rows.",
        f"Baselines are counted on {baselines['n_tokens']:,} tokens of text that is not scored{ngrams} and see the "
        f"same corrupted rows; weights from a slice of {baselines['tuned_on']:,}: θ {baselines['theta_left']:g} and "
        f"{baselines['theta_right']:g}, γ {baselines['gamma']:g}.",
        "'The piece shown' is what stands at the masked position itself: one in five is not hidden, and half of those "
        "are the answer.",
    ]
    if tokens:
        notes.append(
            f"Over every token, seen or hidden ({tokens['n']:,}): {percent(tokens['accuracy'])} "
            f"[{between(tokens['interval'], 1, 100)}] restored; copying what is seen restores "
            f"{percent(tokens['copying'])}."
        )
    notes.append(f"Took {duration(result['seconds'])}; peak memory {size(result['peak_memory_bytes'])}.")
    return notes
