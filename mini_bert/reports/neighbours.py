"""Published figures of other models, to stand beside ours: each with what it is of, and where it is from."""

from __future__ import annotations

from typing import NamedTuple


class Neighbour(NamedTuple):
    """A published figure."""

    figure: str
    of: str
    source: str


NEIGHBOURS: dict[str, Neighbour] = {
    "masked_lm.top1": Neighbour("37.2 %", "BERT-Small after 50,000 steps of 256, perplexity 24", "keras-hub #173"),
    "blimp": Neighbour("69.5 %", "RoBERTa-base on 10 M words", "BabyLM 2023"),
    "sst2": Neighbour("85.9 %", "BERT-Mini, test set, 3.3 billion words", "google-research/bert"),
    "cola": Neighbour("0.0", "BERT-Mini, test set", "google-research/bert"),
}
"""By what is measured. Other data, sizes and test sets: neighbours, not rivals."""
