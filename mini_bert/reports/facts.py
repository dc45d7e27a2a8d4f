"""What a model knows of the world, as tables: LAMA and ParaRel beside answers that need no knowledge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mini_bert.reports.quantities import number, percent, within
from mini_bert.reports.table import NOTHING, Table

LAMA, LAMA_RELATIONS = "LAMA T-REx", 41
"""The set, and how many relations it has as published (Petroni et al. 2019, table 1)."""


def facts_tables(result: Mapping[str, Any]) -> list[Table]:
    """All facts by set; consistency over paraphrases; each relation."""
    sets = result["sets"]
    rows = tuple(
        (
            one["set"],
            f"{line['n']:,} of {one['facts']:,}",
            line["by"],
            within(line["top1"], line["top1_interval"], 1, 100, " %"),
            within(line["top5"], line["top5_interval"], 1, 100, " %"),
            within(line["mrr"], line["mrr_interval"], 3),
        )
        for one in sets
        for line in one["scores"]
    )
    tables = [
        Table(
            "Facts: is the right piece named at the mask?",
            ("set", "asked", "by", "top 1", "top 5", "MRR"),
            rows,
            (
                "Asked are facts whose answer is one piece: "
                + ", ".join(f"{one['set']} {one['one_piece']:,} of {one['facts']:,}" for one in sets)
                + ".",
                "Majority answer: the relation's most frequent answers, whatever the subject. Named in the subject: "
                "first the candidates that are words of it, which copies and knows nothing.",
                *_of_all(sets),
                "Among candidates: only the answers that the relation has in the set can be named.",
                "What else is true of the subject is left out of the ranking; ties count against the answer.",
            ),
            left=(0, 2),
        )
    ]
    tables += [_consistency(one) for one in sets if one.get("consistency", {}).get("value") is not None]
    return [*tables, *(_relations(one) for one in sets if len(one["relations"]) > 1)]


def _of_all(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much of LAMA's own set is at hand."""
    number = next((len(one["relations"]) for one in sets if one["set"] == LAMA), LAMA_RELATIONS)
    return [f"{LAMA}: {number} of its {LAMA_RELATIONS} relations."] if number < LAMA_RELATIONS else []


def _consistency(one: Mapping[str, Any]) -> Table:
    names = {
        "consistency": ("same first candidate", "100.0 %"),
        "all_ways": ("right in all ways", NOTHING),
        "any_way": ("right in one way at least", NOTHING),
    }
    return Table(
        f"{one['set']}: one fact asked in several ways",
        ("", "model", "constant answer"),
        tuple(
            (name, within(one[key]["value"], one[key]["interval"], 1, 100, " %"), constant)
            for key, (name, constant) in names.items()
        ),
        ("Over pairs of ways to ask for one fact, and over facts, among the relation's candidates.",),
    )


def _relations(one: Mapping[str, Any]) -> Table:
    ways = any("patterns" in line for line in one["relations"])
    columns = ("relation", "", "one piece", "asked", "candidates", "top 1", "majority", "among candidates")
    rows = []
    for line in one["relations"]:
        cells = [
            line["relation"],
            line["label"],
            f"{line['one_piece']:,} of {line['facts']:,}",
            f"{line['n']:,}",
            f"{line['candidates']:,}",
            within(line.get("top1"), line.get("top1_interval"), 1, 100, " %"),
            percent(line.get("majority")),
            percent(line.get("among_candidates")),
        ]
        if ways:
            cells += [number(line.get("patterns"), 0), percent(line.get("consistency"))]
        rows.append(tuple(cells))
    return Table(
        f"{one['set']} by relation",
        (*columns, *(("ways", "consistent") if ways else ())),
        tuple(rows),
        left=(0, 1),
    )
