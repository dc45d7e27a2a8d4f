"""What a model knows of meaning, as tables: words, analogies, sentences, composition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.data.task_sets.relatedness import JUDGEMENTS
from mini_bert.reports.quantities import number, percent, within
from mini_bert.reports.table import NOTHING, Table


def word_similarity_table(result: Mapping[str, Any]) -> Table:
    """Spearman's correlation: a line for each representation, a column for each set."""
    sets = result["sets"]
    kinds = [entry["by"] for entry in sets[0]["spearman"]]
    rows: list[tuple[str, ...]] = [
        (kind, *(within(s["spearman"][i]["value"], s["spearman"][i]["interval"], 2) for s in sets))
        for i, kind in enumerate(kinds)
    ]
    rows.append(("pairs known / in one piece each", *(f"{s['known']} / {s['one_piece']}" for s in sets)))
    return Table(
        "Word similarity: Spearman's correlation of cosines with people's judgements",
        ("vectors", *(f"{s['set']} ({s['pairs']})" for s in sets)),
        tuple(rows),
        (
            "A word is the mean of its pieces. Untrained: the same architecture and tokenizer at first values.",
            "Letters in common: three-letter sequences of the spelling, no model.",
        ),
        strong=(0,),
    )


def analogies_table(result: Mapping[str, Any]) -> Table:
    """Share solved by each method: in all, by group, by section."""
    groups = result["groups"]
    methods = next(([entry["by"] for entry in group["accuracy"]] for group in groups if group["accuracy"]), [])
    rows = []
    for group in groups:
        found = {entry["by"]: within(entry["value"], entry["interval"], 1, 100) for entry in group["accuracy"]}
        rows.append(
            (group["group"], f"{group['n']:,} of {group['questions']:,}", *(found.get(m, NOTHING) for m in methods))
        )
    return Table(
        "Analogies solved, in percent, by the table of token embeddings",
        ("questions", "asked", *methods),
        tuple(rows),
        (
            "Asked are the questions of which all four words are one piece; a is to b as c is to d.",
            f"d is chosen among {result['candidates']:,} words; a, b and c are left out, except where all are kept.",
            "Nearest to c: no analogy at all, the word nearest to c.",
        ),
        strong=(0,),
    )


def sentence_similarity_table(result: Mapping[str, Any]) -> Table:
    """Spearman's and Pearson's correlation of cosines with people's judgements."""
    sets = result["sets"]
    rows = []
    for i, entry in enumerate(sets[0]["correlations"]):
        cells = [entry["by"]]
        for one in sets:
            found = one["correlations"][i]
            cells += [within(found["spearman"], found["spearman_interval"], 2), number(found["pearson"], 2)]
        rows.append(tuple(cells))
    columns = [f"{one['set']} ({one['n']:,} pairs): Spearman" for one in sets]
    return Table(
        "Sentence similarity without training for it",
        ("sentence vectors", *(cell for column in columns for cell in (column, "Pearson"))),
        tuple(rows),
        (
            "Cosine of two sentence vectors against people's judgement of their nearness.",
            "Standardized: each number with mean 0 and deviation 1 over the set's sentences, without judgements.",
            "Words in common: share of words (Jaccard), no model.",
        ),
    )


def composition_tables(result: Mapping[str, Any]) -> list[Table]:
    """Minimal edits; SICK by judgement and at nearly the same words."""
    return [_edits_table(result["edits"]), _sick_table(result["sick"])]


def _edits_table(edits: Mapping[str, Any]) -> Table:
    swapped = edits["people_swapped"]
    rows = tuple(
        (
            line["edit"],
            line["by"],
            f"{line['n']:,}",
            within(line["accuracy"], line["interval"], 1, 100, " %"),
            percent(line["ties"]),
            number(line["same"]["value"], 3),
            number(line["other"]["value"], 3),
        )
        for line in edits["triples"]
    )
    return Table(
        "Minimal edits: does the one that changes the meaning move a sentence farther?",
        ("edit", "by", "n", "moves it farther", "ties", "moved, meaning kept", "moved, meaning changed"),
        rows,
        (
            "50 % is chance, and what words in common give by construction. Ties count a half.",
            "Moved: 1 − cosine in units of unrelated sentences; 0 nothing, 1 as far as if nothing were in common.",
            f"The two people of an active sentence swapped: moved {number(swapped['model'], 3)}, "
            f"untrained {number(swapped['untrained'], 3)}; to people it means something else.",
            "The untrained model is one draw of first values: its shares for one added word are that word's luck.",
        ),
        left=(0, 1),
    )


def _sick_table(sick: Mapping[str, Any]) -> Table:
    return Table(
        f"SICK: distances of {sick['n']:,} pairs by their judgement",
        ("by", *(name.lower() for name in JUDGEMENTS), "contradiction farther", "correlation, few words changed"),
        tuple(
            (
                line["by"],
                *(number(line["mean"].get(name), 3) for name in JUDGEMENTS),
                within(line.get("area"), line.get("area_interval"), 1, 100, " %"),
                within(line.get("near"), line.get("near_interval"), 2),
            )
            for line in sick["scores"]
        ),
        (
            "Contradiction farther: how often a contradiction lies farther apart than an entailment (area under the "
            "ROC curve); 50 % is chance. SICK's contradictions are mostly negations that share their words.",
            f"Few words changed: Spearman's correlation with judged nearness over the {sick['near_pairs']:,} pairs of "
            "which at most two words differ.",
        ),
    )
