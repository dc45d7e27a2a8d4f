"""Who takes part in the race, and by which recipe.

Everybody reads the same corpus through the same vocabulary, in rows of 64 tokens, and is scored on the same held-out
masks. transformers gets its usual recipe, and one with a learning rate ten times as high, which suits a model of this
size (the study `dropout_rates` looks for a better one); ours the default preset and
`training/fast`, at two lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mini_bert.config.load import load_config
from mini_bert.config.schema import Config

CORPUS = "enwiki-2018"
MINUTES = 60.0
"""What transformers is given."""


@dataclass(frozen=True)
class Racer:
    """One training."""

    name: str
    title: str
    library: str
    """`transformers` or `mini-bert`."""
    minutes: float
    """Its budget on the clock, which becomes a number of steps."""
    preset: str = "training/pretraining"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By `section.name`."""

    def config(self, steps: int, corpus: str = CORPUS, **overrides: Any) -> Config:
        """Its whole configuration for a training of so many steps.

        Raises:
            ConfigError: a setting does not exist.
        """
        evaluations = {"train.evaluate_every": max(1, steps // 60), "train.save_every": max(1, steps // 10)}
        settings = {"data.corpus": corpus, "train.minutes": None, "train.steps": steps, **evaluations}
        return load_config([self.preset], {**settings, **self.settings, **overrides})


def transformers_at(lr: float, name: str, title: str) -> Racer:
    """BertForMaskedLM as it comes: dropout 0.1, AdamW, linear decay after a tenth of warm-up."""
    return Racer(name, title, "transformers", MINUTES, settings={"train.lr": lr})


RACERS = (
    transformers_at(1e-4, "usual", "transformers, usual recipe (AdamW 1e-4)"),
    transformers_at(1e-3, "tuned", "transformers, tuned rate (AdamW 1e-3)"),
    Racer("default", "Mini-BERT, default recipe", "mini-bert", 10.0),
    Racer("fast", "Mini-BERT, training/fast", "mini-bert", 6.0, preset="training/fast"),
    Racer("faster", "Mini-BERT, training/fast, shorter", "mini-bert", 3.0, preset="training/fast"),
)
