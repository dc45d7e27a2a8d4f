"""Pseudo-perplexity as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import figures, number
from mini_bert.reports.table import NOTHING, Table

_WAYS = {"plain": "plain", "within_word": "within words left to right"}


def pseudo_perplexity_table(result: Mapping[str, Any]) -> Table:
    """Plain and within words, a piece and a word."""
    rows = tuple(
        (
            f"{_WAYS[score['way']]}, a {score['per']}",
            number(score["nats"]),
            figures(score["perplexity"]),
            NOTHING if None in score["interval"] else " – ".join(map(figures, score["interval"])),
        )
        for score in result["scores"]
    )
    notes = (
        f"{result['sentences']:,} of {result['of_sentences']:,} sentences, evenly spread; 95 % over "
        f"{result['documents']:,} documents. {100 * result['unknown_share']:.2f} % of the pieces are [UNK].",
        "Each piece has seen both sides: not comparable with a model that reads from left to right.",
    )
    title = f"Pseudo-perplexity of {result['pieces']:,} pieces in {result['words']:,} words"
    return Table(title, ("", "nats", "perplexity", "95 %"), rows, notes)
