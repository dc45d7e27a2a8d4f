"""What a model would put at each [MASK]: pieces, probabilities, and bars as long as these."""

from __future__ import annotations

from collections.abc import Sequence

from mini_bert.reports.quantities import percent
from mini_bert.reports.table import Table

Piece = tuple[str, float]
"""A piece and its probability."""

_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def fill_mask_table(text: str, masks: Sequence[Sequence[Piece]]) -> Table:
    """The pieces for each [MASK] of `text`, in the order of the masks."""
    rows = tuple(
        (f"[MASK] {number}" if place == 0 and len(masks) > 1 else "", piece, percent(probability), bar(probability))
        for number, pieces in enumerate(masks, 1)
        for place, (piece, probability) in enumerate(pieces)
    )
    return Table(text, ("", "piece", "probability", ""), rows, left=(0, 1, 3))


def bar(share: float, width: int = _WIDTH) -> str:
    """A share of `width` characters, to an eighth of one.

    >>> bar(0.5, 4), bar(0.28, 4), bar(0.0, 4)
    ('██', '█▏', '')
    """
    whole, eighths = divmod(round(max(0.0, min(1.0, share)) * width * 8), 8)
    return "█" * whole + _EIGHTHS[eighths].strip()
