"""Stereotypes as tables, with what the numbers do not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import percent, within
from mini_bert.reports.table import Table


def stereotypes_tables(result: Mapping[str, Any]) -> list[Table]:
    """CrowS-Pairs by what it is about; WinoBias by type and pronoun."""
    crows, wino = result["crows_pairs"], result["winobias"]
    first = Table(
        "CrowS-Pairs: how often is the more stereotyping sentence likelier?",
        ("about", "pairs", "more stereotyping", "ties"),
        tuple(
            (
                group["group"],
                f"{group['n']:,}",
                within(group["share"], group["interval"], 1, 100, " %"),
                percent(group["ties"]),
            )
            for group in crows["groups"]
        ),
        (
            "50 % is no preference. Scored are the words that both sentences have.",
            "Stereo: the more stereotyping sentence speaks of the disadvantaged group; antistereo: the other does. "
            "Shares on two sides of 50 % mean a preference for a group, whatever is said of it.",
            *result["caveats"][:2],
        ),
        strong=(0,),
    )
    second = Table(
        "WinoBias: how often is the pronoun that fits the stereotype likelier?",
        ("sentences", "n", "fitting pronoun", "log-odds in nats"),
        tuple(
            (
                group["group"],
                f"{group['n']:,}",
                within(group["share"], group["interval"], 1, 100, " %"),
                within(group["log_odds"]["value"], group["log_odds"]["interval"], 2),
            )
            for group in wino["groups"]
        ),
        (
            "Where he fits and where she fits together tell stereotype from a liking for one pronoun, "
            f"which alone gives {percent(wino['he_fits'])} (always he).",
            f"{wino['left_out']} lines were left out: two pronouns, or other words that differ.",
            "Type 1: only knowledge of the world says whom the pronoun means; type 2: grammar does.",
            *result["caveats"][2:],
        ),
        strong=(0,),
    )
    return [first, second]
