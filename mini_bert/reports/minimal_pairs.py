"""Minimal pairs as tables: how often the good sentence is the likelier one, beside what knows no grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mini_bert.probing.minimal_pairs import LABELS
from mini_bert.reports.quantities import between, difference, percent, within
from mini_bert.reports.table import NOTHING, Table

_NAMES = {"blimp": "BLiMP", "linzen": "Linzen et al.", "gulordava": "Gulordava et al."}
_IN_GROUPS = ("pll", "pll_within_word", "changed", "shorter", "unigram", "kneser_ney")


def minimal_pairs_tables(result: Mapping[str, Any]) -> list[Table]:
    """For each set one table of all ways to choose, and one a phenomenon; and one a paradigm where that says more."""
    tables = []
    for found in result["sets"]:
        tables.append(_ways_table(found))
        if len(found["phenomena"]) > 1:
            tables.append(_groups_table(found, "phenomenon", found["phenomena"]))
        if len(found["paradigms"]) > max(1, len(found["phenomena"])):
            tables.append(_groups_table(found, "paradigm", found["paradigms"]))
    return tables


def _ways_table(found: Mapping[str, Any]) -> Table:
    ways = [way for way in LABELS if way in found["total"]]
    differences = {line["baseline"]: line for line in found["differences"]}
    rows = []
    for way in ways:
        score, matched, lead = found["total"][way], found["same_length"].get(way), differences.get(way)
        if score is None:
            continue
        rows.append(
            (
                LABELS[way],
                within(score["accuracy"], score["interval"], 1, 100, " %"),
                percent(score["ties"] / score["n"]),
                percent(matched and matched["accuracy"]),
                NOTHING if lead is None else difference(lead["accuracy"], lead["interval"], 1, 100),
            )
        )
    return Table(
        f"{_NAMES.get(found['name'], found['name'])}: {found['n']:,} minimal pairs",
        ("", "accuracy", "ties", "same length", "Mini-BERT leads by"),
        tuple(rows),
        tuple(_notes(found)),
        strong=(0,),
    )


def _groups_table(found: Mapping[str, Any], kind: str, groups: Sequence[Mapping[str, Any]]) -> Table:
    ways = [way for way in _IN_GROUPS if way in found["total"]]
    rows = tuple(
        (group[kind].replace("_", " "), f"{group['n']:,}", *(_accuracy(group["scores"][way], way) for way in ways))
        for group in groups
    )
    title = f"{_NAMES.get(found['name'], found['name'])} by {kind}, accuracy in %"
    return Table(title, ("", "pairs", *(LABELS[way] for way in ways)), rows)


def _accuracy(score: Mapping[str, Any] | None, way: str) -> str:
    if score is None:
        return NOTHING
    ends = score["interval"] if way == "pll" else None
    return within(score["accuracy"], ends, 1, 100)


def _notes(found: Mapping[str, Any]) -> list[str]:
    total = found["total"]["pll"]
    notes = ["Chance is 50 %. ± is the larger half of the 95 % interval over pairs; a tie counts one half."]
    if over := total.get("interval_over_paradigms"):
        notes.append(
            f"Were other paradigms drawn: {between(over, 1, 100)} % (95 %, {len(found['paradigms'])} paradigms)."
        )
    if found["identical"]:
        notes.append(f"Pairs whose sentences are the same to the tokenizer, and so tie: {found['identical']:,}.")
    if found["unknown_share"]:
        notes.append(f"Pieces that are [UNK]: {100 * found['unknown_share']:.2f} %.")
    if found["longer_than_a_row"]:
        notes.append(f"Pairs longer than a row, scored in windows: {found['longer_than_a_row']:,}.")
    if "kneser_ney" not in found["total"]:
        notes.append("No text to count n-grams in: --corpus names one.")
    changed = found["total"]["changed"]
    known = 0 if changed is None else changed["n"]
    if longer := found["n"] - found["identical"] - known:
        notes.append(
            f"Both sentences have words of their own in {known:,} pairs; in {longer:,}, one only has words more."
        )
    return notes
