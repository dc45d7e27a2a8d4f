"""What heads look at, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.quantities import percent, within
from mini_bert.reports.table import Table


def attention_entropy_table(result: Mapping[str, Any]) -> Table:
    """A line a head."""
    rows = tuple(
        (
            f"layer {line['layer']}, head {line['head']}",
            within(line["entropy"], line["interval"], 2),
            percent(line["share"]),
            *(percent(line[name]) for name in ("previous", "next", "first", "last")),
        )
        for line in result["heads"]
    )
    return Table(
        f"Entropy of attention over {result['queries']:,} queries in {result['rows']:,} rows",
        ("", "entropy, nats", "of the largest possible", "on the token before", "behind", "on the first", "last"),
        rows,
        ("0 nats: one token alone; 100 %: all alike. First and last are [CLS] and the closing [SEP] of a row.",),
    )
