"""What is a trial known by? A hash of whatever decides its numbers.

Whatever changes a setting that is not a default, the seed, the number of steps or where a trial ends makes it another
trial; what was finished under the same key is never trained again. The time of a step hangs on less, and has a key of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.config.schema import Config
from mini_bert.data.cache import json_sha256
from mini_bert.studies.pieces import config_of
from mini_bert.studies.schema import Measure, Study
from mini_bert.training.first_model import FIRST_VALUES

_TIMELESS = {
    "train": {
        *("lr", "schedule", "warmup_ratio", "warmup_steps", "min_lr_ratio", "power", "decay_ratio"),
        *("max_grad_norm", "adaptive_clip", "save_every", "evaluate_every", "log_every"),
    },
    "optimizer": {"beta1", "beta2", "eps", "weight_decay", "momentum", "lookahead_alpha"},
    "model": {*FIRST_VALUES},
    "masking": {"mask_share", "random_share"},
    "run": {"seed"},
}
"""Settings that cannot change what a step computes, and so not how long it takes."""


_ASKED = ("data", "masking", "evaluation")


def key_of(config: Config, start: str = "", measure: Measure | None = None, asked: Config | None = None) -> str:
    """The hash of what a trial is: all settings that are not defaults, but for where and how it runs.

    Args:
        config: of the trial.
        start: what names the weights that it begins from.
        measure: it says where the trial ends, if that is where a loss is reached.
        asked: by which all are scored; what its held-out rows and masks hang on counts.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    run = {name: value for name, value in settings.pop("run", {}).items() if name == "seed"}
    ends = {}
    if measure is not None and measure.first_below is not None:
        ends["measure"] = measure.model_dump(mode="json")
    return json_sha256({**settings, "run": run, "start": start, **ends, **_exam(asked)})


def _exam(asked: Config | None) -> dict[str, Any]:
    """What decides the held-out rows and masks and is not a default; the text stands in the configuration itself."""
    if asked is None:
        return {}
    values = asked.model_dump(mode="json", exclude_defaults=True)
    values.get("data", {}).pop("corpus", None)
    exam = {section: values[section] for section in _ASKED if values.get(section)}
    return {"asked": exam} if exam else {}


def key_of_piece(study: Study, settings: Mapping[str, Any]) -> str:
    """The hash of what a piece's time per step depends on: neither of seed and budget, nor of mere numbers."""
    values = config_of(study, settings).model_dump(mode="json", exclude_defaults=True)
    timed = {
        section: {name: value for name, value in fields.items() if name not in _TIMELESS.get(section, ())}
        for section, fields in values.items()
    }
    return json_sha256({section: fields for section, fields in timed.items() if fields})
